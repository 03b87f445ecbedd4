"""What the RayService's manifest asks Serve for, asked of a real Serve: it answers, and exports the metrics that are watched."""

import copy
import re
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml

from tests.helpers.torchrun import ROOT
from tests.integration.jobs.head import SERVE_KEY, free_ports

MANIFEST = ROOT / "cluster" / "kuberay" / "serve.yaml"
RULES = yaml.safe_load((ROOT / "cluster" / "monitoring" / "rules.yaml").read_text())["groups"][0]["rules"]
ASK = {"user": {"user_id": "u1"}, "skus": [{"sku_id": "s1"}]}


def manifest_for(folder: Path, port: int):
    """The manifest's Serve config, sized for two CPUs and this machine's paths."""
    config = yaml.safe_load(yaml.safe_load(MANIFEST.read_text())["spec"]["serveConfigV2"])
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    for application in config["applications"]:
        args = copy.deepcopy(application["args"])
        args["config"] = str(ROOT / args["config"])
        export = folder / "runs" / "ranker-world" / "export"
        args["set"] += ["http.host=127.0.0.1", f"light={export}/light", f"heavy={export}/heavy", "deployments.user_sku.num_cpus=0.5"]
        args["set"] += [f"deployments.{part}.{end}_replicas=1" for part in ("creatives", "user_sku", "ads") for end in ("min", "max")]
        application["args"] = args
        # The image has the project installed; here it is a folder.
        application["runtime_env"] = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    return config


# It needs a trained ranker and Serve's start, a minute and more together.
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_manifests_applications_answer_and_are_measured(head, trained):
    assert trained[2].returncode == 0
    (port,) = free_ports(1)
    applications = {"url": head.url + "/api/serve/applications/", "headers": {"Authorization": f"Bearer {head.token}"}, "timeout": 60}
    sent = httpx.put(**applications, json=manifest_for(head.folder, port))
    try:
        assert sent.status_code == 200, sent.text
        _until(head, lambda: _running(head), "the applications run")
        _ask_and_measure(head, port)
    finally:
        # They hold the CPUs that other tests' jobs wait for.
        assert httpx.delete(**applications).status_code == 200


def _ask_and_measure(head, port):
    url = f"http://127.0.0.1:{port}/v1/creatives:rank"
    assert httpx.post(url, json=ASK, timeout=30).status_code == 401
    answer = httpx.post(url, json=ASK, headers={"x-api-key": SERVE_KEY}, timeout=30)
    assert answer.status_code == 200, answer.text
    # Errors and degraded answers are counted once there are any.
    quiet = {"ray_adray_degraded_answers_total", "ray_serve_deployment_error_counter_total"}
    asked = {name for rule in RULES for name in re.findall(r"\bray_[a-z_]+", rule["expr"])} - quiet
    assert len(asked) >= 4
    _until(head, lambda: asked <= set(re.findall(r"^(ray_[a-z_]+)", _metrics(head), re.MULTILINE)), f"Prometheus finds {asked}")


def _running(head):
    applications = head.get("/api/serve/applications/").json()["applications"]
    states = {name: (details["status"], details["message"]) for name, details in applications.items()}
    assert not [state for state in states.values() if state[0] in ("DEPLOY_FAILED", "UNHEALTHY")], states
    return len(states) == 3 and {status for status, _ in states.values()} == {"RUNNING"}


def _metrics(head):
    return httpx.get(head.metrics_url, timeout=30).text


def _until(head, condition, what):
    from subprocess import TimeoutExpired

    for _ in range(240):
        if condition():
            return
        with suppress(TimeoutExpired):
            head.process.wait(timeout=0.5)
    raise AssertionError(
        f"not within two minutes: {what}; metrics: {sorted(set(re.findall(r'^(ray_[a-z_]+)', _metrics(head), re.MULTILINE)))}"
    )
