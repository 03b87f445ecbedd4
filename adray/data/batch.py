"""Ragged batches of impressions: flat candidate rows plus list offsets, never padded to the longest list."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """Lists of different lengths, flattened.

    Attributes:
        values: `[m, ...]`, all lists' items one after the other.
        offsets: int64 `[n + 1]`; list i is `values[offsets[i]:offsets[i + 1]]`.
    """

    values: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    def lengths(self) -> Tensor:
        """int64 `[n]`, items of each list."""
        return self.offsets.diff()

    def segments(self) -> Tensor:
        """int64 `[m]`, the list that each item belongs to."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.offsets.device), self.lengths())

    def to(self, device: torch.device | str) -> Ragged:
        """Copy to a device."""
        return Ragged(self.values.to(device), self.offsets.to(device))


@dataclass(frozen=True)
class ImpressionBatch:
    """n impressions with m candidates in all.

    Attributes:
        candidates: hashed creative ids, int64 `[m]`, with the list offsets.
        exposed: int64 `[n]`, index of the shown candidate within its list; -1 where the list is aggregated.
        clicked: float32 `[n]`, 0 or 1; NaN where the list is aggregated.
        propensity: float32 `[m]`, the logger's probability of showing each candidate; NaN where unknown.
        impressions: float32 `[m]`, exposures of each candidate in an aggregated list; 0 elsewhere.
        clicks: float32 `[m]`, clicks likewise.
        ids: hashed single-valued features, int64 `[n]` each (`user_id`, `sku_id`, every string or integer column).
        numbers: float32 `[n]` each (every float column; NaN where null).
        bags: hashed multi-valued features (every list-of-strings column, `user_history` among them).
    """

    candidates: Ragged
    exposed: Tensor
    clicked: Tensor
    propensity: Tensor
    impressions: Tensor
    clicks: Tensor
    ids: dict[str, Tensor] = field(default_factory=dict)
    numbers: dict[str, Tensor] = field(default_factory=dict)
    bags: dict[str, Ragged] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.candidates)

    def exposed_rows(self) -> Tensor:
        """int64 `[n]`, the flat row of each list's exposed candidate (only meaningful where `exposed >= 0`)."""
        return self.candidates.offsets[:-1] + self.exposed.clamp(min=0)

    def to(self, device: torch.device | str) -> ImpressionBatch:
        """Copy to a device."""
        return replace(self, **{f.name: _move(getattr(self, f.name), device) for f in fields(self)})


def _move(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, dict):
        return {k: v.to(device) for k, v in value.items()}
    return value.to(device)
