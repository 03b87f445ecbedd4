"""The one interface of all extractors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adray.representation.attributes.values import Attributes


@dataclass(frozen=True)
class Item:
    """One creative as extractors see it.

    Attributes:
        creative_id: Its id.
        title: Its product's title; empty where unknown.
        copy: Its copy; empty where it has none.
        picture: uint8 `[height, width, 3]`, RGB, or None.
    """

    creative_id: str
    title: str
    copy: str
    picture: np.ndarray | None


class Extractor(ABC):
    """Reads some fields of creatives.

    Attributes:
        stage: Its name in the throughput log.
    """

    stage: str

    @abstractmethod
    def extract(self, items: Sequence[Item], known: Sequence[Attributes]) -> list[Mapping[str, Any]]:
        """Read the extractor's fields.

        Args:
            items: n creatives.
            known: What earlier extractors found of each.

        Returns:
            For each creative: field of `Attributes` -> value. A field that cannot be read is `unknown`, or left out.
        """

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Everything that shapes the values, as JSON: a part of the extractor's hash in every row."""

    def prompt_hash(self) -> str | None:
        """Hash of the prompt, for extractors that have one."""
        return None
