from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from adray.ranking.config import RankerModelConfig
from adray.ranking.joint import JointRanker
from tests.helpers.ranking_world import CONTENT_MODEL, MODEL, SmallWorld, make_small_world


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """A tiny market, written once."""
    return make_small_world(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="session")
def content_market(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """The market with vectors of most creatives and attributes of all."""
    return make_small_world(tmp_path_factory.mktemp("content"), model=CONTENT_MODEL, content=True)


@pytest.fixture
def build(market: SmallWorld):
    """Build a joint model over the market; keyword arguments replace sections of the model's config."""

    def make(seed: int = 0, **sections) -> JointRanker:
        torch.manual_seed(seed)
        model = JointRanker(RankerModelConfig.model_validate({**copy.deepcopy(MODEL), **sections}), market.catalogue, market.skus)
        # Fresh tables are nearly zero, which would hide what a test looks for.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        return model

    return make


@pytest.fixture(scope="session")
def exported(market: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[JointRanker, Path]:
    """A joint model and the folder of its two artifacts."""
    torch.manual_seed(1)
    model = JointRanker(RankerModelConfig.model_validate(MODEL), market.catalogue, market.skus).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    folder = tmp_path_factory.mktemp("export")
    model.export(folder)
    return model, folder
