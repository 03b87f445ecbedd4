"""Which creatives are asked about: drawn at random, of SKUs left out as a whole, or of the latest time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adray.data.hashing import hash_strings


def held_out_skus(sku_ids: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Whether each SKU belongs to the share that is held out; a SKU's side depends on its id, share and seed alone.

    A trainer that leaves out the same SKUs makes the split one of SKUs that the encoder has never seen.

    Args:
        sku_ids: n ids.
        share: Of SKUs, in (0, 1).
        seed: Another seed, other SKUs.

    Returns:
        bool `[n]`.
    """
    mixed = hash_strings([f"{seed}:{sku}" for sku in sku_ids]).view(np.uint64)
    return np.asarray(mixed < np.uint64(share * 2.0**64))


def query_rows(
    sku_ids: Sequence[str], creative_ids: Sequence[str], times: np.ndarray | None, share: float, seed: int
) -> dict[str, np.ndarray]:
    """The rows that are queried in each split; all other rows are what is known.

    Args:
        sku_ids: n ids.
        creative_ids: n ids.
        times: int64 `[n]` of any unit; None where there are no times, and then there is no split by time.
        share: Of creatives (`random`), SKUs (`new_sku`), or of the range of times by rows (`new_time`).
        seed: Of the draws.

    Returns:
        bool `[n]` by split.
    """
    found = {"random": held_out_skus(creative_ids, share, seed), "new_sku": held_out_skus(sku_ids, share, seed)}
    if times is not None and len(times):
        cut = np.quantile(times, 1 - share, method="lower")
        latest = times > cut
        if latest.any():
            found["new_time"] = latest
    return found
