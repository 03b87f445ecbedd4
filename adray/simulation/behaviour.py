"""What is known of a user at a block's start: SKUs, creatives and elements clicked before. Nothing inside a block is visible in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adray.simulation.catalogue import Creatives, Products
from adray.simulation.log import Log, Traffic
from adray.simulation.vocabulary import CATEGORIES

MAX_HISTORY = 20
"""Most SKUs in `user_history`, and most creatives in `user_clicked_creatives`."""
MAX_LIKED = 40
"""Most elements in `user_liked_elements`."""


@dataclass(frozen=True)
class Lists:
    """Ragged lists: list i is `values[offsets[i]:offsets[i + 1]]`."""

    values: np.ndarray
    offsets: np.ndarray


class Behaviour:
    """All clicks of a log, ordered by user and time, for look-up at any block's start."""

    def __init__(self, log: Log, products: Products, creatives: Creatives, blocks: int) -> None:
        """Sort the clicks once.

        Args:
            log: The log.
            products: Whose categories are counted.
            creatives: Whose elements are liked.
            blocks: Number of blocks in the log; requests are at block `blocks`.
        """
        rows = np.flatnonzero(log.clicked)
        self._steps = blocks + 1
        self._categories = products.category
        rows = rows[np.argsort(log.traffic.users[rows], kind="stable")]
        users, block, skus = log.traffic.users[rows], log.traffic.block[rows], log.traffic.skus[rows]
        self._key = users * self._steps + block
        self._skus = skus
        self._creatives = log.creative[rows]
        self._elements = creatives.elements[self._creatives]
        self._category_key = np.sort((users * len(CATEGORIES) + products.category[skus]) * self._steps + block)

    def history(self, traffic: Traffic, rows: slice) -> tuple[Lists, Lists]:
        """SKUs, and creatives, that each row's user clicked in earlier blocks, oldest first, the latest `MAX_HISTORY`."""
        clicks, offsets = self._latest(traffic, rows, MAX_HISTORY)
        return Lists(self._skus[clicks], offsets), Lists(self._creatives[clicks], offsets)

    def liked_elements(self, traffic: Traffic, rows: slice) -> tuple[Lists, int]:
        """Elements of the creatives that each row's user clicked in earlier blocks, oldest first.

        Returns:
            Lists of element indices, slot after slot for each click, at most `MAX_LIKED` long; and the number of slots.
        """
        slots = self._elements.shape[1]
        clicks, offsets = self._latest(traffic, rows, MAX_LIKED // slots)
        return Lists(self._elements[clicks].reshape(-1), offsets * slots), slots

    def category_clicks(self, traffic: Traffic, rows: slice) -> np.ndarray:
        """How often each row's user clicked the row's category in earlier blocks: int64 `[n]`."""
        group = (traffic.users[rows] * len(CATEGORIES) + self._categories[traffic.skus[rows]]) * self._steps
        before = np.searchsorted(self._category_key, group + traffic.block[rows])
        return np.asarray(before - np.searchsorted(self._category_key, group))

    def _latest(self, traffic: Traffic, rows: slice, most: int) -> tuple[np.ndarray, np.ndarray]:
        start = traffic.users[rows] * self._steps
        first = np.searchsorted(self._key, start)
        end = np.searchsorted(self._key, start + traffic.block[rows])
        lengths = np.minimum(end - first, most)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        clicks = np.arange(offsets[-1]) + np.repeat(end - lengths - offsets[:-1], lengths)
        return clicks, offsets
