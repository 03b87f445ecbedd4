"""The serve config: strict fields, consistent limits, presets that differ from Serve's defaults on purpose."""

import pytest
from ray.serve.config import AutoscalingConfig

from adray.config import validate
from adray.errors import ConfigError
from adray.serving.app import deployment_options
from adray.serving.config import DeploymentConfig, HttpConfig, ServeRunConfig


def made(**values) -> ServeRunConfig:
    return validate(ServeRunConfig, {"name": "s", "light": "/a/light", "heavy": "/a/heavy", **values}, "serve.yaml")


def test_presets_answer_a_burst_in_seconds():
    for part in made().active_deployments().values():
        assert (part.upscale_delay_s, part.look_back_period_s, part.downscale_delay_s) == (3.0, 5.0, 120.0)
        assert part.aggregation == "max"
        assert part.min_replicas >= 1


def test_every_queue_and_every_wait_is_bounded():
    config = made()
    assert config.http.request_timeout_s == 5.0
    assert config.http.host == "127.0.0.1"
    for part in config.active_deployments().values():
        options = deployment_options(part)
        assert options["max_queued_requests"] >= 0
        assert options["max_surge_percent"] > 0
        assert options["graceful_shutdown_timeout_s"] > config.http.request_timeout_s
        assert options["backpressure_config"] == {"status_code": 503, "retry_after_s": 1.0}


@pytest.mark.filterwarnings("ignore:.*metrics_interval_s:DeprecationWarning")
def test_options_are_serves_own_names():
    part = DeploymentConfig(min_replicas=2, max_replicas=7, target_ongoing_requests=3, upscale_delay_s=4, downscale_delay_s=90)
    autoscaling = deployment_options(part)["autoscaling_config"]
    assert set(autoscaling) <= set(AutoscalingConfig.model_fields)
    parsed = AutoscalingConfig(**autoscaling)
    assert (parsed.min_replicas, parsed.max_replicas, parsed.target_ongoing_requests) == (2, 7, 3)
    assert (parsed.upscale_delay_s, parsed.downscale_delay_s, parsed.look_back_period_s) == (4, 90, 5)
    # The window must hold several reports of the load, or a burst is seen late.
    assert parsed.look_back_period_s >= 3 * parsed.metrics_interval_s


def test_without_heavy_there_are_two_deployments():
    assert list(made(heavy=None).active_deployments()) == ["creatives", "ads"]
    assert list(made().active_deployments()) == ["creatives", "user_sku", "ads"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"http": {"prot": 8000}}, "unknown field 'http.prot'; did you mean 'port'?"),
        ({"http": {"port": 70000}}, "field 'http.port' is 70000"),
        ({"deployments": {"creatives": {"max_queued_requests": -1}}}, "field 'deployments.creatives.max_queued_requests' is -1"),
        ({"deployments": {"creatives": {"min_replicas": 0}}}, "field 'deployments.creatives.min_replicas' is 0"),
        ({"deployments": {"ads": {"max_surge_percent": 0}}}, "field 'deployments.ads.max_surge_percent' is 0"),
        ({"deployments": {"ads": {"min_replicas": 3}}}, "max_replicas (2) is below min_replicas (3)"),
        ({"deployments": {"creatives": {"target_ongoing_requests": 99}}}, "would never scale up"),
        ({"deployments": {"creatives": {"look_back_period_s": 1.0}}}, "deployments.creatives.look_back_period_s"),
        ({"http": {"request_timeout_s": 20}}, "must exceed http.request_timeout_s (20)"),
        ({"light": None}, "field 'light' is None"),
    ],
)
def test_wrong_values_are_refused_by_name(values, message):
    with pytest.raises(ConfigError) as error:
        made(**values)
    assert message in str(error.value)


def test_a_pasted_key_is_refused_without_being_repeated():
    key = "sk-0123456789+abcdef/0123456789"
    with pytest.raises(ConfigError) as error:
        made(http={"api_key_env": key})
    assert "name of an environment variable" in str(error.value)
    assert key not in str(error.value)


def test_the_drain_of_a_deployment_that_does_not_run_is_not_judged():
    deployments = {"user_sku": {"graceful_shutdown_timeout_s": 1.0}}
    made(heavy=None, deployments=deployments)
    with pytest.raises(ConfigError, match="deployments.user_sku.graceful_shutdown_timeout_s"):
        made(deployments=deployments)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True), ("0.0.0.0", False), ("::", False), ("10.0.0.3", False)]
    + [("ads.example.org", False)],
)
def test_local_hosts(host, local):
    assert HttpConfig(host=host).is_local() is local
