"""Random numbers that belong to (seed, epoch, creative, view), not to a worker: whoever makes a view makes the same one.

A counter-based generator: each number is a hash of its coordinates, so there is no state to keep, to save or to split
among workers. The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014), applied once per coordinate.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The 64 bits of an unsigned integer as torch's int64."""
    return value - 2**64 if value >= 2**63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's output function on int64 `[...]`, a bijection of 64-bit words; products wrap as they do in C."""
    x = x + _GOLDEN
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


@dataclass(frozen=True)
class Keyed:
    """A stream of random numbers for each of n rows.

    Attributes:
        keys: int64 `[n]`, a well mixed word per row.
    """

    keys: Tensor

    @staticmethod
    def of(seed: int, epoch: int, ids: Tensor, view: int) -> Keyed:
        """The streams of one view of n creatives.

        Args:
            seed: The run's seed.
            epoch: 0-based pass over the data.
            ids: Hashed creative ids, int64 `[n]`.
            view: 0 or 1.
        """
        keys = mix(torch.full_like(ids, seed))
        for part in (torch.full_like(ids, epoch), ids, torch.full_like(ids, view)):
            keys = mix(keys ^ part)
        return Keyed(keys)

    def words(self, name: str, count: int) -> Tensor:
        """int64 `[n, count]` of 64 random bits each.

        Args:
            name: What the numbers are for; other names give independent numbers.
            count: Numbers per row.
        """
        purpose = mix(self.keys ^ zlib.crc32(name.encode()))
        counter = torch.arange(count, device=self.keys.device)
        return mix(purpose[:, None] + counter * _GOLDEN)

    def uniform(self, name: str, count: int) -> Tensor:
        """float32 `[n, count]` in [0, 1), multiples of 2^-24, so that every device gives the same."""
        return _shifted(self.words(name, count), 40).float() * 2.0**-24

    def between(self, name: str, low: float, high: float) -> Tensor:
        """float32 `[n]`, uniform in [low, high)."""
        return low + (high - low) * self.uniform(name, 1)[:, 0]

    def happens(self, name: str, probability: float) -> Tensor:
        """bool `[n]`, true with the given probability."""
        return self.uniform(name, 1)[:, 0] < probability

    def order(self, name: str, count: int) -> Tensor:
        """int64 `[n, count]`, a random permutation of 0..count-1 per row."""
        return self.uniform(name, count).argsort(dim=1, stable=True)

    def choice(self, name: str, count: Tensor) -> Tensor:
        """int64 `[n]`, uniform over 0..count-1 where `count` is int64 `[n]`, at least 1."""
        return (self.uniform(name, 1)[:, 0].double() * count).long()
