"""Alerts and the dashboard ask for metrics that exist: Ray's, in the version that is pinned, or adray's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import ray
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "cluster" / "monitoring"
RULES = [rule for group in yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
EXPRESSIONS = [rule["expr"] for rule in RULES] + [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
SUFFIXES = ("_total", "_bucket", "_sum", "_count")


def metrics(expression):
    return set(re.findall(r"\bray_[a-z_]+\b", re.sub(r"\bby \([^)]*\)", "", expression)))


@pytest.fixture(scope="module")
def known():
    """Names that Ray's own dashboards ask for, and that its or adray's code exports, as Prometheus has them."""
    folder = Path(ray.__file__).parent
    names = set()
    for path in (folder / "dashboard/modules/metrics/dashboards").glob("*_panels.py"):
        names |= set(re.findall(r"\bray_[a-z_]+", path.read_text(encoding="utf-8")))
    names |= {f"ray_{name}" for name in re.findall(r'"(adray_[a-z_]+)"', (ROOT / "adray/serving/telemetry.py").read_text())}
    return names


def plain(name):
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def test_every_metric_exists(known):
    asked = {name for expression in EXPRESSIONS for name in metrics(expression)}
    assert len(asked) > 15
    assert sorted(name for name in asked if name not in known and plain(name) not in known) == []


def test_counters_are_asked_for_as_counters():
    """What Ray exports as a counter ends in `_total`; the bare name is a series that does not exist."""
    own = re.findall(r'metrics\.Counter\(\s*"(adray_[a-z_]+)"', (ROOT / "adray/serving/telemetry.py").read_text())
    assert own
    asked = {name for expression in EXPRESSIONS for name in metrics(expression)}
    assert {f"ray_{name}" for name in own} & asked == set()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_are_balanced(expression):
    for left, right in ("()", "[]", "{}"):
        assert expression.count(left) == expression.count(right)
    assert not re.search(r"rate\([^[]*\)", expression), "a rate needs a window"


def test_every_alert_says_what_it_means_and_what_to_do():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "warn")
        assert set(rule["annotations"]) == {"summary", "action"}
        # A label that the expression sums away would be empty in the text.
        by = {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for label in labels.split(",")}
        assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= by


def test_the_dashboard_is_one_that_grafana_can_lay_out():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in DASHBOARD["panels"])
    assert {p["datasource"]["uid"] for p in DASHBOARD["panels"]} == {"${datasource}"}
    assert [v["name"] for v in DASHBOARD["templating"]["list"]] == ["datasource"]
