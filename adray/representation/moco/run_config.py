"""The config of a MoCo v3 run."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from adray.config import RunConfig
from adray.representation.encoders.dual_tower import DualTowerConfig
from adray.representation.encoders.factory import EncoderConfig
from adray.representation.encoders.resnet import ResnetConfig
from adray.representation.encoders.vit import VitConfig
from adray.representation.moco.config import KnnConfig, MocoConfig, MocoDataConfig, ScratchConfig, TuneConfig
from adray.representation.views.config import AugmentationConfig
from adray.representation.views.pairs import PairConfig
from adray.training import config as training
from adray.training.config import TrainingConfig


class MocoRunConfig(RunConfig):
    """A run that refines or trains an encoder with MoCo v3, judges it by kNN, and exports it."""

    FREE_ON_RESUME: ClassVar[frozenset[str] | None] = frozenset(
        {"evaluation", "data.bank", "data.test", "data.label", *(f"training.{name}" for name in training.FREE_ON_RESUME)}
    )

    kind: Literal["moco"]
    data: MocoDataConfig
    """What to learn from and what to judge by."""
    encoder: EncoderConfig
    """The encoder."""
    tune: TuneConfig = ScratchConfig()
    """Which weights are trained: all (`scratch`), a residual perceptron on cached vectors (`adapter`), low-rank changes (`lora`)."""
    moco: MocoConfig = MocoConfig()
    """The objective."""
    views: AugmentationConfig = AugmentationConfig()
    """Random changes to pictures."""
    pairs: PairConfig = PairConfig()
    """Which two looks make a pair; only with `lora`, whose encoders read more than pixels."""
    training: TrainingConfig = TrainingConfig()
    """The trainer."""
    evaluation: KnnConfig = KnnConfig()
    """The judge."""

    @property
    def view_size(self) -> int:
        """Side of a view in pixels; 0 for an encoder that reads no pictures of a fixed size."""
        return int(getattr(self.encoder, "image_size", 0))

    @property
    def square_side(self) -> int:
        """Side of the squares that views are cut out of, in pixels."""
        return self.data.side or -(-self.view_size * 9 // 8)

    @model_validator(mode="after")
    def _fits_together(self) -> MocoRunConfig:
        if self.tune.name == "scratch" and not isinstance(self.encoder, ResnetConfig | VitConfig):
            raise ValueError(f"tune.name is scratch, but a {self.encoder.kind} is pretrained; set tune.name to lora or adapter")
        if self.tune.name == "lora" and isinstance(self.encoder, DualTowerConfig) and not self.encoder.train_towers:
            raise ValueError("tune.name is lora, but encoder.train_towers is false, so no gradient enters the towers; set it to true")
        if self.training.zero_stage == 3:
            raise ValueError("zero_stage is 3, but the momentum network needs whole weights on every worker; use 0, 1 or 2")
        if self.training.precision == "bf16":
            raise ValueError("precision is bf16, in whose 8 bits a momentum near 1 moves nothing; use bf16_mixed")
        if self.training.ema_decay is not None:
            raise ValueError("ema_decay is set, but MoCo has its own moving average and exports the query encoder; leave it out")
        return self
