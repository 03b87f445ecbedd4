"""A linear autoencoder of patches: the small generator's stand-in for a trained variational autoencoder.

It speaks diffusers' interface (`encode(x).latent_dist`, `decode(z).sample`), so that everything that works with `AutoencoderKL`
works with it. Principal components are the best linear code in the squared error (Eckart and Young 1936); they are fitted in
seconds, and gradients pass through exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor


@dataclass(frozen=True)
class PatchPosterior:
    """A distribution without width, with the methods that diffusers asks for.

    Attributes:
        mean: float `[n, latent_channels, h, w]`.
    """

    mean: Tensor

    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """The mean: there is nothing to draw."""
        return self.mean


@dataclass(frozen=True)
class Encoded:
    """What `encode` gives.

    Attributes:
        latent_dist: The distribution of latents.
    """

    latent_dist: PatchPosterior


@dataclass(frozen=True)
class Decoded:
    """What `decode` gives.

    Attributes:
        sample: float `[n, 3, height, width]`, about in [-1, 1].
    """

    sample: Tensor


class PatchAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Patches of pixels to their principal components and back.

    Args:
        patch: Side of a patch in pixels: one latent cell.
        latent_channels: Components kept, at most `3 * patch ** 2`.
        scaling_factor: What latents are multiplied by for the denoiser, so that their mean square is about 1.
        block_out_channels: As in `AutoencoderKL`'s config, where diffusers' pipelines count how often pictures are halved; follows from
            the patch, and is there for patches of a power of two alone.
    """

    mean: Tensor
    basis: Tensor

    @register_to_config
    def __init__(
        self, patch: int = 4, latent_channels: int = 32, scaling_factor: float = 1.0, block_out_channels: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if block_out_channels is None and patch & (patch - 1) == 0:
            self.register_to_config(block_out_channels=[latent_channels] * patch.bit_length())
        pixels = 3 * patch * patch
        if not 1 <= latent_channels <= pixels:
            raise ValueError(f"latent_channels is {latent_channels}; patches of {patch} pixels have 1 to {pixels} components")
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("basis", torch.eye(pixels)[:latent_channels].contiguous())

    def encode(self, x: Tensor) -> Encoded:
        """Encode pictures.

        Args:
            x: float `[n, 3, height, width]` in [-1, 1]; sides are multiples of the patch.
        """
        patches = F.pixel_unshuffle(x, self.config["patch"]) - self.mean.view(1, -1, 1, 1)
        return Encoded(PatchPosterior(F.conv2d(patches, self.basis[:, :, None, None])))

    def decode(self, z: Tensor) -> Decoded:
        """Decode latents.

        Args:
            z: float `[n, latent_channels, h, w]`.
        """
        patches = F.conv_transpose2d(z, self.basis[:, :, None, None]) + self.mean.view(1, -1, 1, 1)
        return Decoded(F.pixel_shuffle(patches, self.config["patch"]))


def fit_autoencoder(pictures: Iterable[Tensor], patch: int, latent_channels: int) -> PatchAutoencoder:
    """The principal components of the patches of some pictures.

    Args:
        pictures: Batches float `[n, 3, height, width]` in [-1, 1].
        patch: Side of a patch in pixels.
        latent_channels: Components kept.

    Returns:
        An autoencoder whose scaled latents have a mean square of 1 over these pictures. Equal pictures give equal weights.
    """
    count, total, products = 0, torch.zeros(3 * patch * patch).double(), torch.zeros(3 * patch * patch, 3 * patch * patch).double()
    for batch in pictures:
        rows = F.pixel_unshuffle(batch.double(), patch).permute(0, 2, 3, 1).flatten(0, 2)
        count, total, products = count + len(rows), total + rows.sum(dim=0), products + rows.T @ rows
    mean = total / count
    values, vectors = torch.linalg.eigh(products / count - mean[:, None] * mean[None, :])
    kept = vectors.flip(1)[:, :latent_channels].T
    # An eigenvector's sign is arbitrary; the same on every machine if its largest entry is positive.
    largest = kept.gather(1, kept.abs().argmax(dim=1, keepdim=True))
    kept = kept * largest.sign()
    power = values.flip(0)[:latent_channels].clamp(min=0).mean()
    made = PatchAutoencoder(patch, latent_channels, float(power.clamp(min=1e-12).rsqrt()))
    made.mean.copy_(mean)
    made.basis.copy_(kept)
    return made
