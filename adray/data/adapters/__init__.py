"""Adapters: how the tables of some source become standard tables."""

from __future__ import annotations

from collections.abc import Callable

from adray.data.adapters import mapped, open_bandit, standard, upworthy
from adray.data.adapters.inputs import Inputs, TableInput
from adray.data.config import DataConfig

__all__ = ["ADAPTERS", "Inputs", "TableInput", "open_inputs"]

ADAPTERS: dict[str, Callable[[DataConfig], Inputs]] = {
    "standard": standard.inputs,
    "upworthy": upworthy.inputs,
    "open_bandit": open_bandit.inputs,
    "mapped": mapped.inputs,
}
"""Value of `data.adapter` -> what opens its sources."""


def open_inputs(config: DataConfig) -> Inputs:
    """Open the sources that a config names. Only headers and footers are read.

    Raises:
        DataError: If a source is missing, unreadable, or lacks a column.
    """
    return ADAPTERS[config.adapter](config)
