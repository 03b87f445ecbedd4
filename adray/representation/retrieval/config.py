"""Config of an index run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adray.config import PathStr, RunConfig

Metric = Literal["inner_product", "l2"]


class IndexRunConfig(RunConfig):
    """Kind `index`: build and publish a Faiss index over an `embeddings` table."""

    kind: Literal["index"]
    embeddings: PathStr
    """Table `embeddings`, vectors of one provenance: what `embed` wrote."""
    factory: str = "Flat"
    """Faiss's factory string: `Flat` (exact), `IVF1024,Flat`, `HNSW32`, `IVF1024,PQ32x4fs,RFlat`, ..."""
    metric: Metric = "inner_product"
    """`inner_product` for normalised vectors (their cosine), `l2` for others; the wrong one is refused."""
    publish: PathStr | None = None
    """Where readers find the index: a link that is moved to the new version at once. Default: `<run>/index`."""
    shards: int = Field(default=1, ge=1)
    """Pieces, each searched by itself; results are merged exactly."""
    workers: int = Field(default=0, ge=0)
    """Ray actors that build shards; 0 builds them in this process one after another."""
    gpus: bool = False
    """Train and add on a GPU; needs the extra `gpu` (faiss-gpu)."""
    train_rows: int = Field(default=262_144, ge=1)
    """Vectors drawn at most to train quantisers; training happens once, shards share it."""
    nprobe: int | None = Field(default=None, ge=1)
    """IVF lists visited by a search that does not say; null keeps Faiss's 1."""
    ef_search: int | None = Field(default=None, ge=1)
    """HNSW candidates kept by a search that does not say; null keeps Faiss's 16."""
    refine: int = Field(default=8, ge=1)
    """`...,RFlat`: how many times k candidates are scored again exactly."""
    check_queries: int = Field(default=256, ge=0)
    """Vectors that are searched after building, to measure recall against exact search; 0 measures nothing."""
