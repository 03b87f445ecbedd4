"""Applications built for a Serve config are those that `launch.py serve` runs."""

from pathlib import Path

import pytest

from adray.config import read_yaml, validate
from adray.errors import ConfigError
from adray.serving import builders
from adray.serving.app import targets
from adray.serving.config import ServeRunConfig

CONFIG = str(Path(__file__).parents[3] / "configs" / "serve.yaml")
BUILT = {"adray-creatives": builders.creatives, "adray-user-sku": builders.user_sku, "adray-ads": builders.ads}


def options(application):
    deployment = application._bound_deployment
    return deployment.name, deployment._deployment_config, deployment._replica_config.init_args


@pytest.mark.parametrize("name", BUILT)
def test_it_is_the_same_application(name):
    config = validate(ServeRunConfig, read_yaml(CONFIG), CONFIG)
    expected = next(target.target for target in targets(config, None) if target.name == name)
    assert options(BUILT[name]({"config": CONFIG})) == options(expected)


def test_overrides_are_applied():
    application = builders.creatives({"config": CONFIG, "set": ["deployments.creatives.min_replicas=3"]})
    assert application._bound_deployment._deployment_config.autoscaling_config.min_replicas == 3


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({}, "args of application adray-ads: field 'config' is missing"),
        ({"config": CONFIG, "sets": []}, "did you mean 'set'?"),
        ({"config": CONFIG, "set": ["http.prot=1"]}, "unknown field 'http.prot'; did you mean 'port'?"),
        ({"config": CONFIG, "set": ["http.host=0.0.0.0"]}, "no API key is asked for"),
    ],
)
def test_wrong_arguments_are_one_line(args, text):
    with pytest.raises(ConfigError) as error:
        builders.ads(args)
    assert text in str(error.value)
