"""The standard tables: declared Arrow schemas.

A table is Parquet. Its columns are the declared ones (required or optional) and, for `impressions`, any number of
feature columns whose prefix says what they describe: `user_*`, `sku_*`, `cross_*` (user x SKU).
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""The Hugging Face image convention: one of the two is set."""

CANDIDATE = pa.struct(
    [
        ("creative_id", pa.string()),
        ("propensity", pa.float32()),
        ("impressions", pa.int64()),
        ("clicks", pa.int64()),
    ]
)
"""A candidate of an impression. `propensity` is the logger's probability of showing it. Aggregated lists (no single
exposed candidate) carry `impressions` and `clicks` instead; request-level lists leave both null."""

_TIME = pa.timestamp("ms", tz="UTC")


@dataclass(frozen=True)
class TableSchema:
    """What one standard table holds.

    Attributes:
        name: The table's name.
        key: The column that names a row in messages and in the quarantine.
        required: Columns that must be there, non-null.
        optional: Columns that may be there; null allowed.
        feature_prefixes: Prefixes of free feature columns (string, integer, float, or list of strings).
    """

    name: str
    key: str
    required: pa.Schema
    optional: pa.Schema
    feature_prefixes: tuple[str, ...] = ()


PRODUCTS = TableSchema(
    "products",
    key="sku_id",
    required=pa.schema([("sku_id", pa.string()), ("title", pa.string())]),
    optional=pa.schema([("category", pa.string()), ("attributes", pa.map_(pa.string(), pa.string())), ("cutout", IMAGE)]),
)

CREATIVES = TableSchema(
    "creatives",
    key="creative_id",
    required=pa.schema([("creative_id", pa.string()), ("sku_id", pa.string())]),
    optional=pa.schema(
        [
            ("image", IMAGE),
            ("copy", pa.string()),
            ("elements", pa.map_(pa.string(), pa.string())),
            ("source", pa.string()),
            ("created_at", _TIME),
        ]
    ),
)

IMPRESSIONS = TableSchema(
    "impressions",
    key="request_id",
    required=pa.schema([("request_id", pa.string()), ("sku_id", pa.string()), ("candidates", pa.list_(CANDIDATE))]),
    optional=pa.schema(
        [
            ("user_id", pa.string()),
            ("position", pa.int32()),
            ("exposed", pa.int32()),
            ("clicked", pa.int8()),
            ("timestamp", _TIME),
        ]
    ),
    feature_prefixes=("user_", "sku_", "cross_"),
)
"""One row is one (request, SKU) decision with its candidate list nested inside. `exposed` is the index of the candidate
that was shown, `clicked` is 0 or 1; both are null in aggregated lists. The behaviour sequence is `user_history`
(SKU ids, oldest first); `user_clicked_creatives` holds the ids of the creatives that were clicked, likewise."""

EMBEDDINGS = TableSchema(
    "embeddings",
    key="creative_id",
    required=pa.schema([("creative_id", pa.string()), ("encoder", pa.string()), ("vector", pa.list_(pa.float16()))]),
    optional=pa.schema(
        [
            ("sku_id", pa.string()),
            ("prompt", pa.string()),
            ("transform", pa.string()),
            ("dim", pa.int32()),
            ("normalised", pa.bool_()),
        ]
    ),
)
"""Vectors under one encoder. `encoder` is the content hash of its artifact; with `prompt` and `transform` (hashes of the
prompt and of what was done to picture and copy), `dim` and `normalised` (length 1) it is the vectors' provenance. Vectors
of two provenances cannot be compared, so one table holds one."""

_READ = [("source", pa.string()), ("confidence", pa.float32())]
"""What every value read off a creative carries: where it was read (`title`, `copy`, `ocr`, `image`, `model`, `none`), and how
sure the reader is, in [0, 1]."""

READ_VALUE = pa.struct([("value", pa.string()), ("evidence", pa.string()), *_READ])
"""One value of a closed set or `unknown`; `evidence` is the text it was read from, null where there is none."""

ENTITY = pa.struct(
    [("type", pa.string()), ("value", pa.string()), ("text", pa.string()), ("start", pa.int32()), ("end", pa.int32())]
    + [("text_box", pa.int32()), *_READ]
)
"""A named thing: characters `start:end` (Unicode code points) of the title, the copy or, with source `ocr`, of a text box."""

_BACKGROUND = pa.struct(
    [("lab", pa.list_(pa.float32())), ("name", pa.string()), ("coverage", pa.float32()), ("border_share", pa.float32())]
    + [("dispersion", pa.float32()), *_READ]
)
_LOGO = pa.struct([("brand", pa.string()), ("box", pa.list_(pa.float32())), ("score", pa.float32()), *_READ])
_TEXT_BOX = pa.struct([("polygon", pa.list_(pa.float32())), ("text", pa.string()), ("score", pa.float32()), *_READ])

ATTRIBUTES = TableSchema(
    "attributes",
    key="creative_id",
    required=pa.schema(
        [
            ("creative_id", pa.string()),
            (
                "explicit",
                pa.struct(
                    [
                        ("background_colour", _BACKGROUND),
                        ("entities", pa.list_(ENTITY)),
                        ("logos", pa.list_(_LOGO)),
                        ("text_boxes", pa.list_(_TEXT_BOX)),
                    ]
                ),
            ),
            (
                "implicit",
                pa.struct(
                    [
                        ("promotion", READ_VALUE),
                        ("audience", pa.struct([(part, READ_VALUE) for part in ("gender", "age_band", "life_stage", "scene")])),
                        ("style", READ_VALUE),
                        ("selling_points", pa.list_(READ_VALUE)),
                    ]
                ),
            ),
            ("schema_version", pa.string()),
            ("extractor", pa.string()),
        ]
    ),
    optional=pa.schema(
        [
            ("sku_id", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("prompt", pa.string()),
            ("raw", pa.string()),
            ("tokens", pa.list_(pa.string())),
        ]
    ),
)
"""What was read off a creative. Boxes (left, top, right, bottom) and polygons (x, y, x, y, ...) are in pixels of a picture of
`width` x `height`. `extractor` and `prompt` are hashes of what read it; `raw` keeps a language model's answer that was refused;
`tokens` are the values as `field=value`, for a ranker."""

ANNOTATIONS = TableSchema(
    "annotations",
    key="annotation_id",
    required=pa.schema([("annotation_id", pa.string()), ("sku_id", pa.string()), ("image", IMAGE), ("label", pa.string())]),
    optional=pa.schema(
        [
            ("cutout", IMAGE),
            ("copy", pa.string()),
            ("prompt", pa.string()),
            ("depth", IMAGE),
            ("saliency", IMAGE),
            ("maps", pa.string()),
        ]
    ),
)
"""A generated picture of a product and a reviewer's judgement of it (`adray.data.labels`). `cutout` is the product alone, RGBA, on
a canvas of the picture's size and at its place in the picture. `depth` and `saliency` are grey maps computed from the picture;
`maps` names what computed them."""

VERDICTS = TableSchema(
    "verdicts",
    key="image_id",
    required=pa.schema(
        [
            ("image_id", pa.string()),
            ("sku_id", pa.string()),
            ("label", pa.string()),
            ("accepted", pa.bool_()),
            ("attempt", pa.int32()),
            ("probabilities", pa.map_(pa.string(), pa.float32())),
        ]
    ),
    optional=pa.schema([("image", IMAGE), ("prompt", pa.string()), ("seed", pa.int64()), ("inspector", pa.string())]),
)
"""A generated picture as an inspector judged it: the most probable label, every label's probability, and whether it was accepted.
`attempt` counts a product's pictures from 0; `inspector` is the content hash of the artifact that judged."""

GENERATED = TableSchema(
    "generated",
    key="annotation_id",
    required=pa.schema([("annotation_id", pa.string()), ("sku_id", pa.string()), ("image", IMAGE)]),
    optional=pa.schema(
        [
            ("cutout", IMAGE),
            ("copy", pa.string()),
            ("prompt", pa.string()),
            ("negative_prompt", pa.string()),
            ("request_id", pa.string()),
            ("attempt", pa.int32()),
            ("seed", pa.int64()),
            ("accepted", pa.bool_()),
        ]
    ),
)
"""A generated picture before anyone else has judged it: `annotations` without a label. `annotation_id` is the `image_id` of its
verdict; `attempt` counts a request's pictures from 0, `seed` is that of its noise, `accepted` says whether the run kept it."""

FAILURES = TableSchema(
    "failures",
    key="request_id",
    required=pa.schema([("request_id", pa.string()), ("sku_id", pa.string()), ("label", pa.string()), ("attempts", pa.int32())]),
    optional=pa.schema([("image_id", pa.string()), ("available", pa.float32())]),
)
"""A picture that was wanted and of which every attempt was refused: the label given most often, and the best attempt with its
probability of being available."""

REQUESTS = TableSchema("requests", IMPRESSIONS.key, IMPRESSIONS.required, IMPRESSIONS.optional, IMPRESSIONS.feature_prefixes)
"""Decisions still to be made, in the form of `impressions` but without `exposed` and `clicked`: simulated worlds write them
for evaluation, with the logging policy's propensities on every candidate."""

TRUTH = TableSchema(
    "truth",
    key="user_id",
    required=pa.schema(
        [
            ("user_id", pa.string()),
            ("sku_id", pa.string()),
            ("creative_ids", pa.list_(pa.string())),
            ("click_probability", pa.list_(pa.float32())),
        ]
    ),
    optional=pa.schema([]),
)
"""Simulated worlds only: the true click probability of every candidate of a (user, SKU), at the first position."""

QUARANTINE = TableSchema(
    "quarantine",
    key="key",
    required=pa.schema([("table", pa.string()), ("key", pa.string()), ("stage", pa.string()), ("reason", pa.string())]),
    optional=pa.schema([]),
)

_ALL = (PRODUCTS, CREATIVES, IMPRESSIONS, REQUESTS, EMBEDDINGS, ATTRIBUTES, ANNOTATIONS, GENERATED, VERDICTS, FAILURES, TRUTH, QUARANTINE)
TABLES = {t.name: t for t in _ALL}
