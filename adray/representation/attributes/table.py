"""Attributes as rows of the `attributes` table, and as tokens for a ranker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from adray.data.schema import ATTRIBUTES
from adray.representation.attributes.extractor import Item
from adray.representation.attributes.values import AUDIENCE, SCHEMA_VERSION, UNKNOWN, Attributes

SCHEMA = pa.schema([*ATTRIBUTES.required, *ATTRIBUTES.optional])
"""Columns of the table as it is written."""

_EXPLICIT = ("background_colour", "entities", "logos", "text_boxes")
_IMPLICIT = ("promotion", "audience", "style", "selling_points")
_ENTITIES = ("brand", "material", "colour", "size")
"""Types of entities that become tokens; prices and quantities are too many."""


@dataclass(frozen=True)
class Provenance:
    """What read a row: the hash of all extractors, and of the prompt where a language model was asked."""

    extractor: str
    prompt: str | None = None


def attributes_table(items: Sequence[Item], sku_ids: Sequence[str], found: Sequence[Attributes], provenance: Provenance) -> pa.Table:
    """Rows of the table.

    Args:
        items: n creatives.
        sku_ids: Their SKUs.
        found: What was read off them.
        provenance: What read it.

    Returns:
        n rows of `SCHEMA`.
    """
    rows = []
    for item, sku_id, attributes in zip(items, sku_ids, found, strict=True):
        values = asdict(attributes)
        height, width = item.picture.shape[:2] if item.picture is not None else (None, None)
        rows.append(
            {
                "creative_id": item.creative_id,
                "explicit": {name: values[name] for name in _EXPLICIT},
                "implicit": {name: values[name] for name in _IMPLICIT},
                "schema_version": SCHEMA_VERSION,
                "extractor": provenance.extractor,
                "sku_id": sku_id,
                "width": width,
                "height": height,
                "prompt": provenance.prompt,
                "raw": attributes.raw,
            }
        )
    bare = pa.schema([field for field in SCHEMA if field.name != "tokens"])
    table = pa.Table.from_pylist(rows, schema=bare)
    return table.append_column(SCHEMA.field("tokens"), attribute_tokens(table)).select(SCHEMA.names)


def attribute_tokens(table: pa.Table, least_confidence: float = 0.0) -> pa.ListArray:
    """Multi-hot features of creatives: their attributes as `field=value`.

    Unknown values have no token. `background=...`, `promotion=...`, `gender=...`, `age_band=...`, `life_stage=...`,
    `scene=...`, `style=...` occur at most once; `selling_point=...`, `logo=...`, `brand=...`, `material=...`, `colour=...`,
    `size=...` as often as there are different values.

    Args:
        table: Rows of an `attributes` table.
        least_confidence: Values of less confidence are left out.

    Returns:
        list<string>, one list per row, without repeats, in a fixed order of fields.
    """
    explicit, implicit = table.column("explicit").to_pylist(), table.column("implicit").to_pylist()
    rows = [_tokens(e, i, least_confidence) for e, i in zip(explicit, implicit, strict=True)]
    return pa.array(rows, pa.list_(pa.string()))


def _tokens(explicit: dict[str, Any], implicit: dict[str, Any], least: float) -> list[str]:
    background = explicit["background_colour"]
    audience = implicit["audience"]
    values = [("background", background["name"], background["confidence"])]
    values.append(("promotion", implicit["promotion"]["value"], implicit["promotion"]["confidence"]))
    values += [(part, audience[part]["value"], audience[part]["confidence"]) for part in AUDIENCE]
    values.append(("style", implicit["style"]["value"], implicit["style"]["confidence"]))
    values += [("selling_point", point["value"], point["confidence"]) for point in implicit["selling_points"]]
    values += [("logo", logo["brand"], logo["confidence"]) for logo in explicit["logos"]]
    values += [(one["type"], one["value"], one["confidence"]) for one in explicit["entities"] if one["type"] in _ENTITIES]
    found = [f"{name}={value}" for name, value, confidence in values if value != UNKNOWN and confidence >= least]
    return list(dict.fromkeys(found))
