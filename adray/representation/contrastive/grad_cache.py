"""GradCache: a contrastive batch of any size in the memory of one chunk (Gao et al. 2021).

The published order is: encode all chunks without gradient, keeping the random state of each; compute the loss and its
gradient at the vectors; encode each chunk again, from its random state, and pass the vectors' gradient on. That is what
autograd does by itself when each chunk's encoding is one recomputed segment: its activations are dropped in the forward
pass, the loss is back-propagated to the vectors, then chunk after chunk is recomputed, differentiated and freed. So there is
one backward call in one graph, every weight's gradient is complete when it is accumulated, and whatever averages
gradients over workers afterwards (ZeRO's hooks among them) needs to know nothing of chunks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from adray.representation.encoders.base import Encoder, EncoderInputs


def encode_chunks(encoder: Encoder, chunks: Sequence[EncoderInputs], *, cached: bool) -> Tensor:
    """Vectors of all chunks.

    Args:
        encoder: The encoder.
        chunks: Prepared creatives, one item per chunk.
        cached: Hold the activations of one chunk at a time; dropout draws the same masks again in the backward pass.

    Returns:
        float32 `[rows of all chunks, dim]` of length 1.
    """
    if not cached or not torch.is_grad_enabled():
        return torch.cat([encoder(chunk) for chunk in chunks])
    return torch.cat([checkpoint(encoder, chunk, use_reentrant=False, preserve_rng_state=True) for chunk in chunks])
