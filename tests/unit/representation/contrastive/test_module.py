"""The module: what it tells before the first step."""

from __future__ import annotations

import logging
import math

import torch
from torch import nn

from adray.representation.contrastive.batch import PairBatch
from adray.representation.contrastive.config import InfoNceConfig
from adray.representation.contrastive.identity import Keys
from adray.representation.contrastive.module import ContrastiveModule
from adray.representation.encoders.base import Encoder, EncoderInputs
from adray.representation.encoders.dual_tower import DualTowerConfig


class Linear(Encoder):
    """Reads features of six creatives."""

    dim = 4

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 4)

    def prepare(self, creatives):
        raise NotImplementedError

    def transform(self):
        return {}

    def pooled(self, inputs):
        return self.layer(inputs.tensors["x"])


def batch(rows=6):
    generator = torch.Generator().manual_seed(0)
    queries, documents = ([EncoderInputs({"x": torch.randn(rows, 5, generator=generator)}, rows)] for _ in range(2))
    nothing = torch.zeros(rows, 1, dtype=torch.int64)
    # The first two are of one SKU.
    keys = Keys(torch.tensor([1, *range(1, rows)]), nothing, nothing)
    return PairBatch(queries, documents, [], keys, None, torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, 2))


def test_negatives_chance_and_floor_are_told_once_before_the_first_step(caplog):
    module = ContrastiveModule(Linear(), DualTowerConfig(), InfoNceConfig(temperature=0.1, mask_margin=None))
    with caplog.at_level(logging.INFO):
        outputs = module(batch())
        module(batch())
    (line,) = [record.getMessage() for record in caplog.records if "InfoNCE" in record.getMessage()]
    # Two rows have 4 negatives, four have 5: (2 * 4 + 4 * 5) / 6, and chance is the mean of ln(negatives + 1).
    chance = (2 * math.log(5) + 4 * math.log(6)) / 6
    floor = (2 * math.log1p(4 * math.exp(-10)) + 4 * math.log1p(5 * math.exp(-10))) / 6
    assert f"4.7 negatives a row, loss at chance {chance:.4f}, floor {floor:.4f}, now {outputs['loss'].item():.4f}" in line
