"""The loop of recurrent generation: what is refused is made again, up to a number of attempts. No models, no files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adray.data.labels import AVAILABLE, LABELS
from adray.generation.prompts import Drawn

_AVAILABLE = LABELS.index(AVAILABLE)


@dataclass(frozen=True)
class Wanted:
    """A picture that is wanted.

    Attributes:
        request: Id of its request.
        copy: Number of the picture among those wanted of the request.
        sku_id: The product.
        title: The product's title.
        canvases: uint8 `[h, w, 4]` each: the placed product, one per entry of the prompts.
    """

    request: str
    copy: int
    sku_id: str
    title: str
    canvases: tuple[np.ndarray, ...]

    @property
    def id(self) -> str:
        """Names it among all pictures wanted."""
        return f"{self.request}.{self.copy}"


@dataclass(frozen=True)
class Made:
    """A picture that was made.

    Attributes:
        wanted: What it was made for.
        attempt: Counted from 0.
        drawn: Prompts and seed.
        cutout: uint8 `[h, w, 4]`, the product at its place.
        picture: uint8 `[h, w, 3]`.
        probabilities: float32 `[5]` in the order of `LABELS`; None where nothing was judged.
        accepted: Whether it is kept.
    """

    wanted: Wanted
    attempt: int
    drawn: Drawn
    cutout: np.ndarray
    picture: np.ndarray
    probabilities: np.ndarray | None
    accepted: bool

    @property
    def image_id(self) -> str:
        """Its id: request, copy and attempt, so that no two pictures share one."""
        return f"{self.wanted.id}.{self.attempt}"

    @property
    def available(self) -> float:
        """Probability of `available`; 1 where nothing was judged."""
        return 1.0 if self.probabilities is None else float(self.probabilities[_AVAILABLE])

    @property
    def label(self) -> str:
        """The most probable label."""
        return AVAILABLE if self.probabilities is None else LABELS[int(self.probabilities.argmax())]


Attempt = Callable[[Sequence[Wanted], int], Iterable[Made]]
"""Makes one picture of each thing wanted, in any order; the number of the attempt is counted from 0."""


def recur(wanted: Sequence[Wanted], attempt: Attempt, attempts: int) -> Iterator[Made]:
    """Make pictures until each is accepted or was tried `attempts` times. Only what was refused is made again.

    The published pseudocode could not be read; this follows the paper's description (Du et al. 2024, Recurrent Generation).

    Args:
        wanted: Pictures wanted.
        attempt: Makes and judges them.
        attempts: Most attempts at one picture.

    Yields:
        Every picture as it is made.
    """
    pending = list(wanted)
    for number in range(attempts):
        refused = []
        for made in attempt(pending, number):
            yield made
            if not made.accepted:
                refused.append(made.wanted)
        if not refused:
            return
        pending = refused


def is_accepted(probabilities: np.ndarray, threshold: float | None) -> bool:
    """Whether float `[5]` is accepted: `available` is the most probable label, or at least as probable as the threshold."""
    if threshold is None:
        return int(probabilities.argmax()) == _AVAILABLE
    return float(probabilities[_AVAILABLE]) >= threshold


@dataclass
class Refusals:
    """What was refused of one picture wanted: the best so far, and what was wrong.

    Attributes:
        best: The refused picture with the highest probability of `available`; the earliest of equals.
        labels: How often each label was given, int64 `[5]`.
        summed: Sum of the probabilities, float64 `[5]`.
    """

    best: Made
    labels: np.ndarray
    summed: np.ndarray

    @classmethod
    def begin(cls, made: Made) -> Refusals:
        """With the first refused picture."""
        return cls(made, *_counts(made))

    def add(self, made: Made) -> None:
        """Count a further refused picture."""
        labels, summed = _counts(made)
        self.labels, self.summed = self.labels + labels, self.summed + summed
        if made.available > self.best.available:
            self.best = made

    @property
    def label(self) -> str:
        """The label given most often; of equals the one that was more probable in all."""
        return LABELS[max(range(len(LABELS)), key=lambda i: (self.labels[i], self.summed[i]))]


def _counts(made: Made) -> tuple[np.ndarray, np.ndarray]:
    if made.probabilities is None:
        raise ValueError("a picture that was not judged cannot be refused")
    return np.eye(len(LABELS), dtype=np.int64)[int(made.probabilities.argmax())], made.probabilities.astype(np.float64)
