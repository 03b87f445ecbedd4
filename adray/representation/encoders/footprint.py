"""How large an encoder is and what training it needs on each worker, without allocating any of it."""

from __future__ import annotations

from dataclasses import dataclass

from adray.representation.encoders.base import Encoder
from adray.representation.encoders.mllm import Mllm
from adray.training.config import TrainingConfig

_BYTES_PER_TOKEN_AND_WIDTH = 34
"""Activations of one Transformer block in 16 bits, per token and hidden unit (Korthikanti et al. 2022, section 4.1),
without the attention matrix, which fused attention does not keep."""
_COPY_TOKENS = 256
"""Copy assumed beside the largest picture."""


@dataclass(frozen=True)
class Footprint:
    """Bytes on one worker.

    Attributes:
        parameters: All weights, counted.
        trainable: Those that are trained.
        weights: Their copy that computes.
        gradients: Of the trained ones.
        optimizer: Adam's two moments, and the fp32 master copy where the weights are bf16.
        activations: Estimate for one chunk; 0 where there is no rule.
        vectors: Vectors and scores of the whole batch.
    """

    parameters: int
    trainable: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    vectors: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.vectors

    def text(self) -> str:
        """One line."""
        parts = ("weights", "gradients", "optimizer", "activations", "vectors")
        listed = ", ".join(f"{name} {getattr(self, name) / 2**30:.2f}" for name in parts)
        return f"{self.parameters:,} parameters, {self.trainable:,} trained; GiB per worker: {listed}; together {self.total / 2**30:.2f}"


def footprint(encoder: Encoder, training: TrainingConfig, chunk_rows: int) -> Footprint:
    """Estimate a training run's memory on each of the fewest workers that it may have.

    What a ZeRO stage shards is divided by the workers (Rajbhandari et al. 2020, section 5).

    Args:
        encoder: Built, also on the meta device.
        training: Workers, precision, stage, batch.
        chunk_rows: Rows that are encoded at a time; 0: the worker's whole micro-batch.
    """
    workers = training.world_sizes()[0]
    every = sum(parameter.numel() for parameter in encoder.parameters())
    trained = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    half = training.precision == "bf16"
    stage = training.zero_stage
    rows, _ = training.micro_batch(workers)
    weights = every * (2 if half else 4) // (workers if stage == 3 else 1)
    gradients = 4 * trained // (workers if stage >= 2 else 1)
    optimizer = (12 if half else 8) * trained // (workers if stage >= 1 else 1)
    activations = _activations(encoder, training, min(chunk_rows or rows, rows)) if isinstance(encoder, Mllm) else 0
    # Queries and documents of all workers; scores, their softmax and its gradient, in both directions.
    vectors = 2 * training.batch_size * encoder.dim * 4 + 2 * 3 * rows * training.batch_size * 4
    return Footprint(every, trained, weights, gradients, optimizer, activations, vectors)


def _activations(encoder: Mllm, training: TrainingConfig, rows: int) -> int:
    config, family = encoder.family.config, encoder.family
    text, vision = family.model_sizes.get_text_config(), family.model_sizes.vision_config
    visual = family.most_visual_tokens()
    width_bytes = 2 if training.precision != "fp32" else 4
    tokens = rows * min(config.max_tokens, visual + _COPY_TOKENS)
    block = _BYTES_PER_TOKEN_AND_WIDTH * tokens * text.hidden_size * width_bytes // 2
    kept = (
        tokens * text.hidden_size * width_bytes * text.num_hidden_layers + block
        if training.gradient_checkpointing
        else (block * text.num_hidden_layers)
    )
    merge = getattr(vision, "spatial_merge_size", None) or family.model_sizes.scale_factor
    tower = _BYTES_PER_TOKEN_AND_WIDTH * rows * visual * merge**2 * vision.hidden_size * width_bytes // 2
    # A frozen tower keeps nothing for the backward pass: one block's work at a time.
    return int(kept + (tower if config.freeze_vision else tower * vision.num_hidden_layers))
