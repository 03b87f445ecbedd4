"""The extractor of trained heads: looks a creative's vector up and classifies it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from adray.artifact import load_artifact
from adray.data.hashing import hash_strings
from adray.data.parquet import GroupReader, check_columns, open_parquet
from adray.errors import ArtifactError
from adray.representation.attributes.config import HeadsConfig
from adray.representation.attributes.extractor import Extractor, Item
from adray.representation.attributes.heads_model import KIND, AttributeHeads
from adray.representation.attributes.values import AUDIENCE, Attributes, Audience, ReadValue


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
        places = np.minimum(np.searchsorted(self._ids, wanted), max(len(self._ids) - 1, 0))
        there = self._ids[places] == wanted if len(self._ids) else np.zeros(len(items), bool)
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
    table = open_parquet(path)
    check_columns(table, ["creative_id", "encoder", "vector"])
    reader = GroupReader(table, ["creative_id", "encoder", "vector"])
    ids, vectors = [np.zeros(0, np.int64)], [np.zeros((0, dim), np.float16)]
    for group in table.groups:
        rows = reader.read(group)
        others = set(rows.column("encoder").to_pylist()) - {encoder}
        if others:
            problem = f"{path} holds vectors of encoder {next(iter(others))[:12]}, the heads were trained on {encoder[:12]}"
            raise ArtifactError(problem, "embed with that encoder, or train the heads again")
        ids.append(hash_strings(rows.column("creative_id")))
        flat = np.asarray(rows.column("vector").combine_chunks().flatten(), np.float16)
        vectors.append(flat.reshape(rows.num_rows, -1))
    reader.close()
    joined = np.concatenate(ids)
    order = np.argsort(joined, kind="stable")
    return joined[order], np.concatenate(vectors)[order]
