"""Objectives of the light half: pure functions from logits over ragged lists to one loss per list."""

from __future__ import annotations

from adray.ranking.objectives.aggregated import binomial_loss, multinomial_loss
from adray.ranking.objectives.distillation import clid_loss
from adray.ranking.objectives.jrc import jrc_loss
from adray.ranking.objectives.listwise import click_list_loss, exposure_loss, smoothed_ctr, vam_list_loss, vam_point_loss
from adray.ranking.objectives.offset import shown_offset
from adray.ranking.objectives.pointwise import click_loss

__all__ = [
    "binomial_loss",
    "clid_loss",
    "click_list_loss",
    "click_loss",
    "exposure_loss",
    "jrc_loss",
    "multinomial_loss",
    "shown_offset",
    "smoothed_ctr",
    "vam_list_loss",
    "vam_point_loss",
]
