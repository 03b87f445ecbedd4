"""Configs of the inspector: its model, the maps it reads, its data, its run."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr, RunConfig
from adray.data.adapters.rf1m import Rf1mConfig
from adray.data.labels import UNSUITABLE
from adray.training.config import TrainingConfig

PICTURES = ("product", "generated", "depth", "saliency")
"""The four pictures of RFNet, in the order of its tokens (Du et al., ECCV 2024): I_o, I_g, I_d, I_s."""
Modality = Literal["product", "generated", "depth", "saliency", "copy"]
LabelWeights = Literal["none", "root", "inverse"]


class TrunkConfig(Config):
    """The picture encoder: a ResNet of transformers."""

    path: PathStr | None = None
    """Folder of a transformers ResNet checkpoint, e.g. resnet-50 trained on ImageNet; its sizes win over those below."""
    layer: Literal["basic", "bottleneck"] = "basic"
    """`bottleneck` with depths [3, 4, 6, 3] and widths [256, 512, 1024, 2048] is ResNet-50."""
    stem: int = Field(default=24, ge=4)
    """Channels after the stem, which reduces a picture four times."""
    widths: list[int] = Field(default=[24, 48], min_length=1)
    """Channels of each stage; each but the first halves the grid."""
    depths: list[int] = Field(default=[1, 1], min_length=1)
    """Blocks of each stage."""
    norm: Literal["group", "batch", "frozen"] = "group"
    """`group`: a picture's features do not depend on its batch, nor on how a batch is split over workers. `batch`: as published.
    `frozen`: a checkpoint's batch statistics are kept and not trained."""

    @model_validator(mode="after")
    def _consistent(self) -> TrunkConfig:
        if len(self.widths) != len(self.depths):
            raise ValueError(f"trunk.widths {self.widths} and trunk.depths {self.depths} must be of one length")
        if self.norm == "group" and any(width % 8 for width in (self.stem, *self.widths)):
            raise ValueError(f"trunk.stem {self.stem} and trunk.widths {self.widths} must be multiples of 8 for trunk.norm: group")
        if self.norm == "group" and self.path is not None:
            raise ValueError("trunk.norm: group does not fit a checkpoint's batch statistics; set trunk.norm to frozen or batch")
        return self


class TextConfig(Config):
    """The title's encoder: a RoBERTa of transformers."""

    path: PathStr | None = None
    """Folder of a RoBERTa-class transformers checkpoint with a `tokenizer.json`; its sizes win over those below."""
    vocabulary: int = Field(default=1024, ge=64)
    """Without `path`: rows of the embedding. Words are hashed to rows, so that there is no vocabulary to keep."""
    width: int = Field(default=48, ge=8)
    """Hidden size."""
    layers: int = Field(default=1, ge=1)
    """Transformer blocks."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    max_tokens: int = Field(default=16, ge=2, le=512)
    """Longest title; what is beyond is cut off."""


class RFNetConfig(Config):
    """RFNet: four pictures and the title, filtered, fused and classified (Du et al., ECCV 2024, section 3)."""

    kind: Literal["rfnet"] = "rfnet"
    """The whole network."""
    modalities: list[Modality] = ["product", "generated", "depth", "saliency", "copy"]
    """What is read; leaving one out is an ablation."""
    image_size: int = Field(default=64, ge=16, le=1024)
    """Side of the square that pictures are brought to; 384 in the paper."""
    width: int = Field(default=64, ge=8)
    """Width of the tokens; 384 in the paper."""
    heads: int = Field(default=4, ge=1)
    """Attention heads; 8 in the paper."""
    filter_blocks: int = Field(default=1, ge=1)
    """N1: blocks of the feature filter."""
    fusion_layers: int = Field(default=2, ge=1)
    """N2: self-attention layers of the fusion; 3 in the paper."""
    concat: Literal["tokens", "channels"] = "tokens"
    """What the fusion attends over: all pictures' tokens, one after another, as published; or one token per place that is projected
    from all pictures' features there, which costs a quarter of the tokens."""
    pool: Literal["mean", "token"] = "mean"
    """What is classified: the mean of the fused tokens, or a token of its own that gathers from them. The paper does not say."""
    shared_trunk: bool = True
    """One picture encoder for all four; the paper does not say."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout in the fusion."""
    trunk: TrunkConfig = TrunkConfig()
    """The picture encoder."""
    text: TextConfig = TextConfig()
    """The title's encoder."""

    @model_validator(mode="after")
    def _consistent(self) -> RFNetConfig:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"modalities {self.modalities} names one twice")
        if not set(self.modalities) - {"copy"}:
            raise ValueError("modalities must name a picture: " + ", ".join(PICTURES))
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads} and of 4")
        return self


class SingleConfig(Config):
    """A baseline that sees the generated picture alone."""

    kind: Literal["resnet", "vit"]
    """A ResNet, or a Vision Transformer (Dosovitskiy et al. 2021)."""
    image_size: int = Field(default=64, ge=16, le=1024)
    """Side of the square that pictures are brought to."""
    trunk: TrunkConfig = TrunkConfig()
    """`resnet`: the network."""
    path: PathStr | None = None
    """`vit`: folder of a transformers ViT checkpoint; its sizes win over those below."""
    patch: int = Field(default=8, ge=2)
    """`vit`: side of a patch in pixels."""
    width: int = Field(default=64, ge=8)
    """`vit`: hidden size."""
    layers: int = Field(default=4, ge=1)
    """`vit`: blocks."""
    heads: int = Field(default=4, ge=1)
    """`vit`: attention heads."""


ModelConfig = Annotated[RFNetConfig | SingleConfig, Field(discriminator="kind")]


class MapsConfig(Config):
    """What computes depth and saliency from a picture."""

    depth: PathStr | None = None
    """Folder of a transformers depth estimator (DPT, Depth Anything); unset: the embedded one, which has no weights."""
    saliency: PathStr | None = None
    """An ONNX saliency network such as U2-Net; unset: the embedded one, which has no weights."""


class MoreDataConfig(Config):
    """Further annotated pictures: trained on together with the others, judged apart from them."""

    path: PathStr
    """A folder with `train*` and `holdout*` tables, or any Parquet, of table `annotations`."""
    split: Literal["by_product", "train", "holdout"] = "by_product"
    """`by_product`: as parted already, else `data.holdout` of the products is held out. `train` or `holdout`: all rows."""


class AnnotationDataConfig(Config):
    """Where annotated pictures are and how they are read."""

    path: PathStr
    """`standard`: a folder with `train*` and `holdout*` tables, or any Parquet; `rf1m`: the folder of the release."""
    adapter: Literal["standard", "rf1m"] = "standard"
    """What turns the source into rows of table `annotations`."""
    rf1m: Rf1mConfig = Rf1mConfig()
    """Where things are in the release, and what its labels mean."""
    holdout: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Share of the products held out, where the source is not parted already."""
    more: dict[str, MoreDataConfig] = {}
    """Name -> further annotated pictures; the report holds their own figures, `feedback/<name>/f1` and so on."""
    drop_labels: list[str] = [UNSUITABLE]
    """Labels whose rows are left out, before anything is counted."""
    quarantine_limit: float = Field(default=0.01, ge=0.0, le=1.0)
    """The run fails when a greater share of the rows cannot be used."""
    ingest: Literal["inline", "ray"] = "ray"
    """Who reads the source and computes the maps, once: this process, or Ray Data tasks."""
    reader: Literal["inline", "ray"] = "inline"
    """Who reads training rows: a thread of each worker, or Ray Data tasks."""
    lanes: int = Field(default=8, ge=1)
    """Parallel read positions; the number of workers must divide it, and it must divide the batch size."""
    shuffle_rows: int = Field(default=2048, ge=0)
    """Rows in the shuffle buffer, over all lanes."""
    row_group_rows: int = Field(default=256, ge=1)
    """Rows in each row group that is written."""

    @model_validator(mode="after")
    def _names(self) -> AnnotationDataConfig:
        for name in self.more:
            # Names become folders and metrics, where the main source's own must not be met.
            if re.fullmatch(r"[a-z][a-z0-9_]*", name) is None or name in ("train", "holdout", "f1"):
                raise ValueError(f"more names {name!r}; take small letters, digits and _, and not train, holdout or f1")
        return self


class InspectionConfig(Config):
    """How an inspector is judged."""

    batch_rows: int = Field(default=256, ge=1)
    """Pictures judged at once."""
    mistakes: int = Field(default=12, ge=1)
    """Worst mistakes shown in the report."""


class RFNetRunConfig(RunConfig):
    """A run that trains, evaluates and exports an inspector."""

    kind: Literal["rfnet"]
    data: AnnotationDataConfig
    """The annotated pictures."""
    model: ModelConfig = RFNetConfig()
    """The network."""
    maps: MapsConfig = MapsConfig()
    """Depth and saliency."""
    label_weights: LabelWeights = "none"
    """Weight of each label in the loss: alike, by the root of its inverse frequency, or by its inverse frequency."""
    warm_up: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the steps, at the beginning, in which the encoders of the generated picture and of the title learn alone, to tell the
    words of the prompt. Instead of weights trained elsewhere, of which the paper starts."""
    prompt_loss: float = Field(default=0.0, ge=0.0)
    """Weight, throughout, of the same task beside the labels: it keeps encoders that start from nothing looking at what is pictured."""
    training: TrainingConfig = TrainingConfig()
    """The trainer."""
    evaluation: InspectionConfig = InspectionConfig()
    """Held-out metrics."""
