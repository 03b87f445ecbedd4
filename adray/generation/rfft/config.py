"""Configs of feedback fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from adray.config import Config, PathStr, RunConfig
from adray.generation.architectures import Architecture
from adray.generation.placement import PlacementConfig
from adray.generation.prompts import PromptConfig
from adray.generation.sampler import SamplingConfig
from adray.training.config import TrainingConfig


class FeedbackConfig(Config):
    """What the ControlNet learns from."""

    inspector: PathStr
    """The artifact of the inspector whose verdict is the reward."""
    loss: Literal["available", "refl"] = "available"
    """`available`: cross-entropy to the label `available` (F_AC). `refl`: ReFL's hinge on the reward, here the log-odds of available
    (Xu et al. 2023); as published it knows no guidance in training, see `guided`."""
    guided: bool = True
    """Classifier-free guidance inside training, with the scale of `sampling`; the authors' advice. ReFL trains without."""
    regulariser: Literal["none", "cc", "kl"] = "cc"
    """`cc`: Consistent Condition, the change from the unconditional to the conditional prediction stays the frozen teacher's. `kl`: the
    prediction itself stays the teacher's; a squared distance of predicted noise stands for the divergence, which is not published."""
    cc_form: Literal["difference", "score"] = "difference"
    """`difference`: the authors' squared difference, its mean over elements. `score`: the paper's 2-norm of the difference of score
    directions, that is with the factor 1 / sqrt(1 - abar_t)."""
    beta: float = Field(default=1.0, ge=0.0)
    """Weight of the regulariser. The paper's value is not known; useful values depend on the latents' scale."""
    last_steps: int = Field(default=10, ge=1)
    """One of the last so many denoising steps, drawn anew for each batch, has a gradient."""
    rollout: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the denoising steps without gradient; with `training.precision: bf16_mixed` they are bf16 anyway."""
    detach_maps: bool = False
    """Compute depth and saliency without gradient. With small inspectors the rest of the gradient may then point uphill."""


class RequestDataConfig(Config):
    """The products that pictures are made of in training and evaluation."""

    path: PathStr
    """A folder with the tables `train.parquet`, the training products, and `holdout.parquet`, those that pictures are judged on before
    and after. Each has sku_id, cutout and copy (or title)."""
    quarantine_limit: float = Field(default=0.01, ge=0, le=1)
    """The run fails when a greater share of either table cannot be used."""
    lanes: int = Field(default=8, ge=1)
    """Parallel read positions; the number of workers must divide it, and it must divide the batch size."""
    shuffle_rows: int = Field(default=2048, ge=0)
    """Rows in the shuffle buffer, over all lanes."""

    def table(self, name: str) -> str:
        """Path of the table `train` or `holdout`."""
        return f"{self.path.rstrip('/')}/{name}.parquet"


class RfftEvaluationConfig(Config):
    """The look at pictures of held-out products, before and after, that ends a run."""

    pictures: int = Field(default=64, ge=2)
    """Held-out products, one picture of each, with the same noise before and after."""
    batch_rows: int = Field(default=32, ge=1)
    """Pictures made at once."""
    shown: int = Field(default=12, ge=1)
    """Pairs in the contact sheet."""


class RfftRunConfig(RunConfig):
    """A run that fine-tunes a generator's ControlNet on an inspector's feedback."""

    kind: Literal["rfft"]
    generator: PathStr
    """The generator: an artifact of kind `generator`, or a folder of diffusers' layout."""
    controlnet: PathStr | None = None
    """A ControlNet's folder, where the generator's has none or another one is wanted."""
    architecture: Architecture | None = None
    """What `check` reckons memory with while `generator` is not there yet."""
    data: RequestDataConfig
    """The products."""
    placement: PlacementConfig
    """Where products are put."""
    prompts: PromptConfig
    """What is asked for."""
    feedback: FeedbackConfig
    """Reward and regulariser."""
    sampling: SamplingConfig = SamplingConfig()
    """The sampler that training runs through: DDIM."""
    training: TrainingConfig = TrainingConfig()
    """The trainer."""
    evaluation: RfftEvaluationConfig = RfftEvaluationConfig()
    """Before and after."""

    @model_validator(mode="after")
    def _consistent(self) -> RfftRunConfig:
        if self.sampling.scheduler != "ddim":
            raise ValueError(f"sampling.scheduler is {self.sampling.scheduler!r}; RFFT predicts the clean picture along DDIM")
        if self.sampling.eta:
            raise ValueError(f"sampling.eta is {self.sampling.eta}; RFFT's path is deterministic, set it to 0")
        if self.feedback.last_steps > self.sampling.steps:
            raise ValueError(f"feedback.last_steps is {self.feedback.last_steps} of sampling.steps {self.sampling.steps}")
        if self.feedback.regulariser == "cc" and not self.feedback.guided:
            raise ValueError("feedback.regulariser cc compares the two branches of guidance; set feedback.guided to true")
        if any(entry.image_scale is not None for entry in self.prompts.entries):
            raise ValueError("prompts.entries sets image_scale; RFFT puts every product where placement says, leave it out")
        return self
