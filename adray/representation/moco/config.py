"""MoCo v3's own settings: objective, heads, momentum, and how the encoder is changed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr

MIN_BATCH_FOR_STATISTICS = 256
"""Below this global batch, BatchNorm in the heads gives way to LayerNorm, unless the config says otherwise."""


class MocoConfig(Config):
    """The objective and its momentum network."""

    temperature: float = Field(default=0.2, gt=0)
    """tau: 0.2 was published for transformers, 1.0 for ResNets."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """m0 of the key network; 0.996 for long ResNet runs."""
    momentum_schedule: Literal["cosine", "constant"] = "cosine"
    """`cosine` rises from `momentum` to 1 over the run."""
    hidden: int = Field(default=4096, ge=1)
    """Hidden width of projector and predictor."""
    out: int = Field(default=256, ge=2)
    """Width of the space in which views are compared."""
    projector_layers: Literal[2, 3] | None = None
    """null: 2 for a resnet, 3 for everything else, as published."""
    predictor_norm: bool | None = None
    """End the predictor in a norm; null: not for a resnet, else yes, as published."""
    norm: Literal["batch", "layer"] = "batch"
    """Norm inside the heads. `batch` spans all ranks; `layer` is for a batch too small to take statistics of."""
    mask_same_sku: bool = False
    """Do not push creatives of one SKU apart."""


class ScratchConfig(Config):
    """Train the encoder itself, all of it."""

    name: Literal["scratch"] = "scratch"
    """All weights of the encoder that its config leaves trainable."""


class AdapterConfig(Config):
    """Leave the encoder as it is and train a residual perceptron on its vectors, made once for several views of each creative."""

    name: Literal["adapter"]
    """A residual perceptron on cached vectors."""
    hidden: int = Field(default=512, ge=1)
    """Width of the perceptron's hidden layer."""
    views: int = Field(default=4, ge=2)
    """Augmented views of each creative that are encoded and cached."""
    input_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a vector's entries hidden while training; makes more views out of the cached ones."""


class LoraConfig(Config):
    """Leave the encoder's weights as they are and train low-rank changes to them, or its last blocks."""

    name: Literal["lora"]
    """Low-rank adapters, or some of the weights."""
    rank: int = Field(default=16, ge=1)
    """Rank of each change."""
    alpha: float = Field(default=32.0, gt=0)
    """Changes are scaled by `alpha / rank`."""
    targets: list[str] = []
    """Modules that get low-rank changes, by the end of their names; empty: what the encoder trains by itself."""
    unfreeze: list[str] = []
    """Regular expressions; weights whose name one of them matches are trained as they are."""


TuneConfig = Annotated[ScratchConfig | AdapterConfig | LoraConfig, Field(discriminator="name")]
"""What is trained."""


class KnnConfig(Config):
    """The judge: a weighted kNN classifier on frozen vectors (Caron et al. 2021)."""

    k: int = Field(default=20, ge=1)
    """Neighbours."""
    temperature: float = Field(default=0.07, gt=0)
    """A neighbour's vote weighs `exp(cosine / temperature)`."""
    batch_rows: int = Field(default=256, ge=1)
    """Rows encoded at once."""
    resamples: int = Field(default=2000, ge=10)
    """Bootstrap draws behind the intervals."""


class MocoDataConfig(Config):
    """What to learn from, without labels, and what to judge by, with labels."""

    train: PathStr
    """A creatives table, or a folder of pictures."""
    bank: PathStr | None = None
    """Labelled creatives that the kNN classifier looks its neighbours up in; null: `train`."""
    test: PathStr | None = None
    """Labelled creatives that it classifies; null judges nothing."""
    label: str = "category"
    """The column with the labels. Of a folder of pictures it is the sub-folder."""
    side: int | None = Field(default=None, ge=8)
    """Side of the squares that pictures are kept in before views are cut out; null: 9/8 of the encoder's picture."""
    cache: bool = True
    """Decode every picture once into a memory-mapped file. false decodes again in each epoch: for tables larger than the disk."""
    lanes: int = Field(default=8, ge=1)
    """Without `cache`: reading lanes, a multiple of the workers."""
    shuffle_rows: int = Field(default=65536, ge=0)
    """Without `cache`: rows shuffled among each other."""

    @model_validator(mode="after")
    def _judged(self) -> MocoDataConfig:
        if self.bank is not None and self.test is None:
            raise ValueError("bank is set but test is not; the bank is only looked up in for the test")
        return self
