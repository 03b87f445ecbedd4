"""The extractor of trained heads: looks a creative's vector up and classifies it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from adray.artifact import load_artifact
from adray.data.hashing import hash_strings
from adray.errors import ArtifactError
from adray.representation.attributes.config import HeadsConfig
from adray.representation.attributes.extractor import Extractor, Item
from adray.representation.attributes.heads_model import KIND, AttributeHeads
from adray.representation.attributes.values import AUDIENCE, Attributes, Audience, ReadValue
from adray.representation.embedding.provenance import iterate_vectors, read_provenance


class HeadsExtractor(Extractor):
    """Reads fields by classifiers on vectors; a creative without a vector stays unknown.

    Args:
        config: The heads' artifact and the vectors.
        fields: Of `promotion`, `audience`, `style`.

    Raises:
        ArtifactError: If the artifact cannot be loaded, or is for another encoder's vectors.
        DataError: If the vectors cannot be read.
    """

    stage = "heads"

    def __init__(self, config: HeadsConfig, fields: Collection[str]) -> None:
        artifact = load_artifact(config.artifact, KIND)
        self._hash, self._fields = artifact.content_hash, sorted(fields)
        self._heads = AttributeHeads.load(artifact)
        self._ids, self._vectors = _read_vectors(config.embeddings, self._heads.encoder, self._heads.dim)

    def extract(self, items: Sequence[Item], known: Sequence[Attributes]) -> list[Mapping[str, Any]]:
        """The fields of each creative that has a vector."""
        wanted = hash_strings([item.creative_id for item in items])
        places = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
        there = self._ids[places] == wanted
        found: list[Mapping[str, Any]] = [{} for _ in items]
        rows = np.flatnonzero(there)
        if rows.size:
            told = self._heads.predict(self._vectors[places[rows]])
            for number, row in enumerate(rows.tolist()):
                found[row] = self._values({head: values[number] for head, values in told.items()})
        return found

    def _values(self, told: Mapping[str, tuple[str | None, float]]) -> dict[str, Any]:
        values = {head: ReadValue(value, None, "model", p) if value is not None else ReadValue() for head, (value, p) in told.items()}
        found: dict[str, Any] = {field: values[field] for field in ("promotion", "style") if field in self._fields and field in values}
        if "audience" in self._fields:
            found["audience"] = Audience(**{part: values.get(part, ReadValue()) for part in AUDIENCE})
        return found

    def identity(self) -> Mapping[str, Any]:
        """The heads' content hash, which covers the encoder's."""
        return {"heads": self._hash, "fields": self._fields}


def _read_vectors(path: str, encoder: str, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Ascending int64 ids `[n]` and float16 vectors `[n, dim]`."""
    provenance = read_provenance(path)
    if provenance.encoder != encoder:
        problem = f"{path} holds vectors of encoder {provenance.encoder[:12]}, the heads were trained on {encoder[:12]}"
        raise ArtifactError(problem, "embed with that encoder, or train the heads again")
    if provenance.dim != dim:
        problem = f"{path} holds vectors of {provenance.dim} values, the heads were trained on {dim}"
        raise ArtifactError(problem, "embed with the same `dim`, or train the heads again")
    ids, vectors = [], []
    for names, block in iterate_vectors(path, provenance):
        ids.append(hash_strings(names))
        vectors.append(block.astype(np.float16))
    joined = np.concatenate(ids)
    order = np.argsort(joined, kind="stable")
    return joined[order], np.concatenate(vectors)[order]
