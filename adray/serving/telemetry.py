"""Prometheus metrics of the rankers; Serve adds deployment, replica and application to each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray.serve import metrics

LATENCY_BUCKETS_MS = [0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 200, 500, 1000, 5000]
"""Serve's own buckets step 10, 20, 50 ms: too wide to read the p99 of a ranker that answers in a few."""


class Telemetry:
    """What a deployment counts. Tags never carry user, SKU or creative ids: their number must stay bounded."""

    def __init__(self) -> None:
        self._latency = metrics.Histogram(
            "adray_ranking_latency_ms",
            description="Time in the model for one request, waiting for its thread included.",
            boundaries=LATENCY_BUCKETS_MS,
        )
        self._unknown_skus = metrics.Counter("adray_unknown_skus", description="SKUs asked for that the artifact does not know.")
        self._unknown_creatives = metrics.Counter(
            "adray_unknown_creatives", description="Creatives asked for that the artifact does not know."
        )
        self._degraded = metrics.Counter("adray_degraded_answers", description="Ad rankings given without the heavy half.")

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Observe how long the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._latency.observe((time.perf_counter() - start) * 1000)

    def count_unknown(self, skus: int, creatives: int = 0) -> None:
        """Count names that a request held and the artifact does not."""
        if skus:
            self._unknown_skus.inc(skus)
        if creatives:
            self._unknown_creatives.inc(creatives)

    def count_degraded(self) -> None:
        """Count one ad ranking without the heavy half."""
        self._degraded.inc()
