"""What is under cluster/ is valid, safe, and agrees with the code: checked offline, with no cluster."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

from adray import kinds
from adray.config import read_yaml, validate
from adray.preflight import TESTED
from adray.serving import app, edge
from adray.serving.config import ServeRunConfig
from tests.helpers.kubernetes_schema import manifest_schema

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
MANIFESTS = [
    pytest.param(document, id=f"{path.name}-{document['metadata']['name']}")
    for path in sorted([*CLUSTER.glob("kuberay/*.yaml"), CLUSTER / "monitoring/pod-monitor.yaml"])
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
RAY_UP = sorted(CLUSTER.glob("ray-up/*.yaml"))
VERSION = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE).group(1)
IMAGE = f"adray:{VERSION}-ray{TESTED['ray']}"
PROXY_DRAINS_S = 30
"""Serve's proxy stays this long at least after its node is told to go."""


def found(node, key):
    """Every value under this key, however deep."""
    if isinstance(node, dict):
        return [*([node[key]] if key in node else []), *(value for child in node.values() for value in found(child, key))]
    return [value for child in node for value in found(child, key)] if isinstance(node, list) else []


def named(kind):
    return next(p.values[0] for p in MANIFESTS if p.values[0]["kind"] == kind)


def clusters(document):
    return [node for key in ("rayClusterSpec", "rayClusterConfig") for node in found(document, key)] or (
        [document["spec"]] if document["kind"] == "RayCluster" else []
    )


def pods(document):
    """The `spec` of every pod that the document makes."""
    return [template["spec"] for key in ("template", "submitterPodTemplate") for template in found(document, key)]


def test_every_kind_is_there():
    assert {p.values[0]["kind"] for p in MANIFESTS} >= {"RayCluster", "RayJob", "RayService", "RayCronJob", "NetworkPolicy", "PodMonitor"}


@pytest.mark.parametrize("document", MANIFESTS)
def test_it_has_known_fields_of_the_right_types(document):
    jsonschema.validate(document, manifest_schema(document["apiVersion"], document["kind"]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda spec: spec.update(rayVersions="2.60.0"), "rayVersions"),
        (lambda spec: spec["workerGroupSpecs"][0].update(minReplicas="1"), "'1' is not of type 'integer'"),
        (lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}), "0 is not of type 'string'"),
        (lambda spec: spec["headGroupSpec"]["template"]["spec"]["containers"][0].update(livenessprobe={}), "livenessprobe"),
    ],
)
def test_a_mistake_is_seen(change, text):
    document = json.loads(json.dumps(named("RayCluster")))
    change(document["spec"])
    with pytest.raises(jsonschema.ValidationError, match=text):
        jsonschema.validate(document, manifest_schema("ray.io/v1", "RayCluster"))


@pytest.mark.parametrize("document", [p for p in MANIFESTS if p.values[0]["apiVersion"] == "ray.io/v1"])
class TestRay:
    def test_versions_are_those_of_the_constraints(self, document):
        assert {cluster["rayVersion"] for cluster in clusters(document)} == {TESTED["ray"]}
        assert set(found(document, "image")) == {IMAGE}

    def test_every_cluster_asks_for_a_token_and_its_head_takes_no_work(self, document):
        assert clusters(document)
        for cluster in clusters(document):
            assert cluster["authOptions"] == {"mode": "token"}
            assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"

    def test_nothing_is_exposed(self, document):
        assert set(found(document, "serviceType")) == {"ClusterIP"}
        assert not {"enableIngress", "hostNetwork", "hostPort", "nodePort"} & set(json.dumps(document).replace('"', " ").split())

    def test_pods_are_not_root_and_cannot_become_it(self, document):
        assert pods(document)
        for pod in pods(document):
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] > 0
            for container in pod["containers"]:
                assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

    def test_what_is_asked_for_is_what_is_had(self, document):
        """A pod that may use more than it asked for is the first to be killed when its node is full."""
        for resources in found(document, "resources"):
            assert resources["requests"] == resources["limits"]
        for pod in pods(document):
            assert all({"cpu", "memory"} <= set(container["resources"]["limits"]) for container in pod["containers"])

    def test_nodes_are_probed_at_paths_that_ask_for_no_token(self, document):
        for cluster in clusters(document):
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
                (container,) = group["template"]["spec"]["containers"]
                probes = [container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")]
                assert set(probes) <= {"/api/gcs_healthz", "/api/local_raylet_healthz", "/-/healthz"}

    def test_storage_and_shared_memory_are_mounted(self, document):
        for cluster in clusters(document):
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
                spec = group["template"]["spec"]
                mounts = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
                assert set(mounts) == {"/mnt/adray", "/dev/shm"}
                assert set(mounts.values()) == {volume["name"] for volume in spec["volumes"]}

    def test_secrets_come_from_secrets_alone(self, document):
        for entries in found(document, "env"):
            for entry in entries:
                assert ("valueFrom" in entry) == bool(re.search("KEY|TOKEN|SECRET|PASSWORD", entry["name"])), entry["name"]

    def test_nodes_have_longer_to_end_than_their_work(self, document):
        parts = ServeRunConfig(kind="serve", name="a", light="/a").deployments
        longest = max(part.graceful_shutdown_timeout_s for part in (parts.creatives, parts.user_sku, parts.ads))
        for cluster in clusters(document):
            for group in cluster["workerGroupSpecs"]:
                assert group["template"]["spec"]["terminationGracePeriodSeconds"] >= longest + PROXY_DRAINS_S + 30

    def test_what_it_runs_is_a_valid_run(self, document, monkeypatch):
        """The config exists and every field that is set in it: the command line is read as `launch.py` reads it."""
        monkeypatch.chdir(ROOT)
        for entry in (entry for entries in found(document, "env") for entry in entries if "value" in entry):
            monkeypatch.setenv(entry["name"], entry["value"])
        for entrypoint in found(document, "entrypoint"):
            python, script, verb, config, *rest = shlex.split(entrypoint)
            assert (python, script) == ("python", "launch.py")
            assert set(rest[::2]) == {"--set"}
            job = kinds.load_job(config, rest[1::2])
            job.require(verb)
            assert job.config.runs_dir == "/mnt/adray/runs"
            assert job.config.resume, "a run that is begun again on a new cluster must go on"


def test_the_served_applications_are_those_of_the_code(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("ADRAY_API_KEY", "0123456789abcdef")
    config = yaml.safe_load(named("RayService")["spec"]["serveConfigV2"])
    assert set(config) == {"http_options", "applications"}
    served = {application["name"]: application["route_prefix"] for application in config["applications"]}
    assert served == {app.LIGHT[1]: edge.CREATIVES_RANK.path, app.HEAVY[1]: edge.USER_SKU_SCORE.path, app.FRONT[1]: "/"}
    from ray._common.utils import import_attr
    from ray.serve.schema import ServeDeploySchema

    # The same reading that Serve gives it.
    ServeDeploySchema.model_validate(config)
    for application in config["applications"]:
        built = import_attr(application["import_path"])(application["args"])
        assert built._bound_deployment.name in {names[0] for names in (app.LIGHT, app.HEAVY, app.FRONT)}
    from adray.config import apply_overrides

    given = config["applications"][0]["args"]
    http = validate(ServeRunConfig, apply_overrides(read_yaml(given["config"]), given["set"]), "serve").http
    assert config["http_options"] == {"host": http.host, "port": http.port, "request_timeout_s": http.request_timeout_s}
    assert http.api_key_env == "ADRAY_API_KEY"


def test_network_policies_select_what_the_operator_labels_and_open_no_port_to_all():
    policies = [p.values[0]["spec"] for p in MANIFESTS if p.values[0]["kind"] == "NetworkPolicy"]
    assert all(rule["from"] for policy in policies for rule in policy["ingress"])
    # An empty selector is everything there is.
    assert all(labels for labels in found(policies, "matchLabels"))
    assert {"ray.io/is-ray-node": "yes"} in [policy["podSelector"]["matchLabels"] for policy in policies]
    submitter = named("RayJob")["spec"]["submitterPodTemplate"]["metadata"]["labels"]
    assert {"podSelector": {"matchLabels": submitter}} in found(policies, "from")[1]


@pytest.mark.parametrize("path", RAY_UP, ids=lambda p: p.name)
class TestRayUp:
    def test_ray_accepts_it(self, path):
        from ray.autoscaler._private.util import prepare_config, validate_config

        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        validate_config(prepare_config(config))

    def test_it_is_closed_and_its_head_takes_no_work(self, path):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        (head,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
        (worker,) = [c for c in config["worker_start_ray_commands"] if "ray start" in c]
        assert "--num-cpus=0" in head and "--dashboard-host=127.0.0.1" in head
        assert "RAY_AUTH_MODE=token" in head and "RAY_AUTH_MODE=token" in worker
        assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
        assert config["docker"]["image"] == IMAGE
        assert config["provider"]["type"] == "local" or config["provider"]["use_internal_ips"] is True


def test_the_image_has_the_pinned_packages_and_is_not_root():
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    assert "FROM python:3.11-slim\n" in text, "constraints.txt is the tested set of Python 3.11"
    installs = re.findall(r"pip install (?:[^\n\\]|\\\n)*", text)
    assert len(installs) == 3 and all("-c constraints.txt" in line for line in installs)
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["1000"]
    assert IMAGE in text
    towers = re.search(r"^TOWERS := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE).group(1)
    assert towers in text
    assert f"ray=={TESTED['ray']}" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for copied in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())
    allowed = {line[1:] for line in (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == {name for copied in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for name in copied.split()}


def test_no_secret_is_written_down():
    for path in (p for p in CLUSTER.rglob("*") if p.is_file()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(kind: Secret\b|stringData|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|--redis-password)", text), path


def test_every_file_and_config_the_readme_names_is_there():
    text = (CLUSTER / "README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"\b(?:cluster|configs)/[\w./-]+\.\w+", text)) | {f"cluster/{n}" for n in re.findall(r"\]\(([\w./-]+)\)", text)}
    assert len(names) > 8
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []
