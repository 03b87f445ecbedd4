"""`open_bandit`: the Open Bandit Dataset (Saito et al., arXiv 2008.07146), a fashion shop's log with true propensities.

One row of the source is one impression of one item. It becomes a list of all the campaign's items, in the order of their
ids, with the logged propensity on the exposed one and null on the others. The SKU is the campaign: one slot whose creatives
are the items. `position` becomes 0-based. An item's hashed context features become elements; the numeric one (`item_feature_0`)
becomes the element of its rounded value. The user-item affinities, one number per item, are no impression feature and are left out.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adray.data.adapters.inputs import Inputs, TableInput, need_columns
from adray.data.config import DataConfig
from adray.data.schema import CANDIDATE, CREATIVES, IMPRESSIONS
from adray.data.sources import Source, open_source, read_part
from adray.data.storage import find_files, is_folder, join
from adray.errors import DataError

_ITEMS = "item_context.csv"
_COLUMNS = {
    "timestamp": "when the item was shown",
    "item_id": "the item shown",
    "position": "where it was shown, from 1",
    "click": "0 or 1",
    "propensity_score": "the logger's probability of showing it",
}


def inputs(config: DataConfig) -> Inputs:
    """Open a campaign: the folder of `<campaign>.csv` and `item_context.csv`, or that CSV.

    Raises:
        DataError: If a file is missing, or lacks a column, or the folder holds several campaigns.
    """
    log_path, folder = _locate(config.path)
    campaign = log_path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    items = open_source(join(folder, _ITEMS), {"item_id": "integer"})
    need_columns(items, {"item_id": "the item"})
    source = open_source(log_path, {"timestamp": "string", "item_id": "integer", "propensity_score": "float"} | config.types)
    need_columns(source, _COLUMNS | {source.schema.names[0]: "the row's number"})
    ids = _item_ids(items)

    def impressions(rows: pa.Table) -> pa.Table:
        return _impressions(rows, campaign, ids)

    def creatives(rows: pa.Table) -> pa.Table:
        return _creatives(rows, campaign)

    return Inputs(TableInput(IMPRESSIONS, source, impressions), TableInput(CREATIVES, items, creatives))


def _locate(path: str) -> tuple[str, str]:
    """The campaign's CSV and its folder, as the user would write them."""
    if not is_folder(path):
        return path, path.rpartition("/")[0]
    _, files = find_files(path, (".csv",))
    names = sorted(file.rsplit("/", 1)[-1] for file in files if not file.endswith(_ITEMS))
    if len(names) != 1 or not any(file.endswith(_ITEMS) for file in files) or "/" in files[0][len(path) :].strip("/"):
        raise DataError(f"{path} holds {', '.join(names) or 'no log'}", f"give the folder of one campaign: its CSV and {_ITEMS}")
    return join(path, names[0]), path


def _item_ids(items: Source) -> np.ndarray:
    def refuse(key: str, reason: str) -> None:
        raise DataError(f"{items.path}: {key} has {reason}", "copy the file again")

    found = [table.column("item_id").to_numpy() for part in items.parts for table in read_part(items, part, refuse)]
    return np.unique(np.concatenate(found).astype(np.int64))


def _creative_id(campaign: str, item_ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    return pc.binary_join_element_wise(pa.scalar(campaign), item_ids.cast(pa.string()), "-")


def _impressions(rows: pa.Table, campaign: str, items: np.ndarray) -> pa.Table:
    count = rows.num_rows
    number = rows.column(0).cast(pa.string())
    columns = {
        "request_id": pc.binary_join_element_wise(pa.scalar(campaign), number, "-"),
        "sku_id": pa.array([campaign] * count, pa.string()),
    }
    # An item outside the context file gets index len(items): outside its list, hence quarantined.
    exposed = pc.fill_null(pc.index_in(rows.column("item_id"), pa.array(items)), len(items)).to_numpy().astype(np.int64)
    propensity = np.full((count, len(items)), np.nan)
    inside = np.flatnonzero(exposed < len(items))
    logged = pc.fill_null(rows.column("propensity_score").cast(pa.float64()), np.nan).to_numpy()
    propensity[inside, exposed[inside]] = logged[inside]
    flat = propensity.ravel()
    members = {
        "creative_id": _creative_id(campaign, pa.array(items)).take(pa.array(np.tile(np.arange(len(items)), count))),
        "propensity": pa.array(flat, mask=np.isnan(flat)),
    }
    arrays = [members[f.name].cast(f.type) if f.name in members else pa.nulls(len(flat), f.type) for f in CANDIDATE]
    offsets = pa.array(np.arange(count + 1) * len(items), pa.int32())
    columns["candidates"] = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=list(CANDIDATE)))
    columns["exposed"] = pa.array(exposed, pa.int32())
    columns["clicked"] = rows.column("click")
    columns["position"] = pc.subtract(rows.column("position"), 1)
    columns["timestamp"] = rows.column("timestamp")
    for name in rows.column_names:
        if name.startswith("user_feature_"):
            columns[name] = rows.column(name).cast(pa.string())
    return pa.table(columns)


def _creatives(rows: pa.Table, campaign: str) -> pa.Table:
    features = {}
    for name in rows.column_names:
        if name.startswith("item_feature_"):
            column = rows.column(name)
            # Tenths of the one numeric feature (a standardised price) are coarse enough to be shared between items.
            features[name] = (pc.round(column, ndigits=1) if pa.types.is_floating(column.type) else column).cast(pa.string()).to_pylist()
    elements = [[(name, values[i]) for name, values in features.items() if values[i] is not None] for i in range(rows.num_rows)]
    return pa.table(
        {
            "creative_id": _creative_id(campaign, rows.column("item_id")),
            "sku_id": pa.array([campaign] * rows.num_rows, pa.string()),
            "elements": pa.array(elements, pa.map_(pa.string(), pa.string())),
        }
    )
