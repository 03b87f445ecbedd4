"""What differs between families of vision-language models, as one interface: sizes, prompt turns, picture layout, parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from adray.representation.encoders.mllm_config import Architecture, MllmConfig


@dataclass(frozen=True)
class Turns:
    """The prompt around picture and copy; the last token of `after` is the one whose hidden state is the vector."""

    before: str
    before_picture: tuple[str, ...]
    picture_token: str
    after_picture: tuple[str, ...]
    after: str


class Family(ABC):
    """One family of models. Instances know how pictures become tensors and tokens.

    Args:
        config: The encoder's config.
        sizes: The model's transformers config.
    """

    special: ClassVar[tuple[str, ...]]

    def __init__(self, config: MllmConfig, sizes: Any) -> None:
        self.config, self.model_sizes = config, sizes
        self.processor = self.image_processor(config.path, sizes)

    @staticmethod
    @abstractmethod
    def sizes(architecture: Architecture, vocabulary: int, ids: Mapping[str, int]) -> Any:
        """The transformers config of a model given by its sizes.

        Args:
            architecture: The sizes.
            vocabulary: Rows of the embedding.
            ids: Special token -> id.
        """

    @staticmethod
    @abstractmethod
    def image_processor(path: str | None, sizes: Any) -> Any:
        """The transformers image processor of the PIL back end, which needs no torchvision.

        Args:
            path: A checkpoint's folder, for its own settings; None takes the family's.
            sizes: The model's transformers config.
        """

    @abstractmethod
    def turns(self) -> Turns:
        """The prompt's fixed text."""

    @abstractmethod
    def pictures(self, pictures: Sequence[np.ndarray]) -> tuple[dict[str, Tensor], list[int]]:
        """Tensors of m >= 1 pictures (uint8 `[height, width, 3]`), and the visual tokens of each."""

    @abstractmethod
    def most_visual_tokens(self) -> int:
        """Upper bound of a picture's visual tokens."""

    @abstractmethod
    def features(self, model: Any, tensors: Mapping[str, Tensor]) -> Tensor:
        """The vision tower's output `[visual tokens, width]`, for pictures that no prompt holds."""

    @abstractmethod
    def hidden(self, model: Any, tensors: Mapping[str, Tensor]) -> Tensor:
        """The last hidden states `[n, length, width]`."""

    @staticmethod
    @abstractmethod
    def language_model(model: nn.Module) -> nn.Module:
        """The part that may carry adapters."""

    @staticmethod
    @abstractmethod
    def vision(model: nn.Module) -> list[nn.Module]:
        """The vision tower and what joins it to the language model."""
