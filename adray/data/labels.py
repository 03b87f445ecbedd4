"""What a reviewer says of a generated product picture: the labels of table `annotations`."""

from __future__ import annotations

AVAILABLE = "available"
"""Fit to publish: the positive class of every binary figure."""
UNSUITABLE = "unsuitable"
"""The product picture itself is bad (cut off, damaged). The released RF1M has it; the paper's classifier does not."""

LABELS = (AVAILABLE, "space_mismatch", "size_mismatch", "indistinctiveness", "shape_hallucination")
"""The five classes of RFNet (Du et al., ECCV 2024), in the order of its outputs."""

RELEASED_LABELS = (AVAILABLE, UNSUITABLE, "space_mismatch", "size_mismatch", "indistinctiveness", "shape_hallucination")
"""The six labels of the released RF1M, in the order of its README."""
