"""Writing a world's tables as Parquet.

Strings are handed to the writer as dictionaries and the Arrow schema is left out of the files, so that nothing is
encoded twice and readers get plain strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adray.simulation.behaviour import Behaviour, Lists
from adray.simulation.catalogue import LATE, UNLOGGED, Creatives, Products, copy_text
from adray.simulation.clicks import ClickModel
from adray.simulation.config import WorldConfig
from adray.simulation.log import START_MS, Log, Traffic, block_start_ms, log_end_ms
from adray.simulation.policy import Policy
from adray.simulation.vocabulary import AGES, BRANDS, CATEGORIES, CITIES, ELEMENTS, GENDERS, SLOTS

PART_ROWS = 1 << 17
"""Rows of one file of the log."""
ROW_GROUP = 1 << 14
_TIME = pa.timestamp("ms", tz="UTC")
_LIKED = [f"{slot}={element}" for slot in SLOTS for element in ELEMENTS[slot]]
_FIRST_OF_SLOT = np.cumsum([0] + [len(ELEMENTS[slot]) for slot in SLOTS])[:-1]


def write_parquet(path: Path, tables: Iterable[pa.Table], row_group: int = ROW_GROUP) -> int:
    """Stream tables of one schema into a file.

    Returns:
        The number of rows.
    """
    writer, rows = None, 0
    try:
        for table in tables:
            writer = writer or _open_writer(path, table.schema)
            writer.write_table(table, row_group_size=row_group)
            rows += len(table)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Dictionaries only where the data come as such: trying them on random numbers, and statistics of list
    # items, took half of the writing time.
    coded_columns = [path for field in schema for path in _coded_leaves(field.name, field.type)]
    plain = [field.name for field in schema if not pa.types.is_nested(field.type)]
    return pq.ParquetWriter(path, schema, compression="zstd", store_schema=False, use_dictionary=coded_columns, write_statistics=plain)


def _coded_leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    """Parquet paths of the dictionary-coded leaves below a column."""
    if pa.types.is_dictionary(kind):
        yield path
    elif pa.types.is_list(kind):
        yield from _coded_leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _coded_leaves(f"{path}.{field.name}", field.type)


def products_table(products: Products, cutouts: Sequence[bytes] | None) -> pa.Table:
    """The `products` table; `cutouts` are PNG files, one a SKU."""
    category = [CATEGORIES[c].name for c in products.category]
    attributes = [list(products.words(sku).items()) for sku in range(len(products))]
    columns = {
        "sku_id": pa.array(products.ids()),
        "title": pa.array([f"{words[0][1]} {words[1][1]}" for words in attributes]),
        "category": pa.array(category),
        "attributes": pa.array(attributes, pa.map_(pa.string(), pa.string())),
    }
    if cutouts is not None:
        columns["cutout"] = images(cutouts)
    return pa.table(columns)


def creatives_table(config: WorldConfig, products: Products, creatives: Creatives, pictures: Sequence[bytes] | None) -> pa.Table:
    """The `creatives` table; `pictures` are encoded files, one a creative."""
    start = np.full(len(creatives), START_MS, np.int64)
    start[creatives.entry == LATE] = block_start_ms(config, config.cold_block)
    start[creatives.entry == UNLOGGED] = log_end_ms(config)
    elements = [list(creatives.named_elements(c).items()) for c in range(len(creatives))]
    sku = pa.array(products.ids()).take(pa.array(creatives.sku))
    columns = {
        "creative_id": pa.array(creatives.ids()),
        "sku_id": sku,
        "copy": pa.array([". ".join(copy_text(products, creatives, c)) for c in range(len(creatives))]),
        "elements": pa.array(elements, pa.map_(pa.string(), pa.string())),
        "source": pa.array(["designer"] * len(creatives)),
        "created_at": pa.array(start, _TIME),
    }
    if pictures is not None:
        columns["image"] = images(pictures)
    return pa.table(columns)


def images(files: Sequence[bytes]) -> pa.StructArray:
    """A column of images held in the table itself."""
    return pa.StructArray.from_arrays([pa.array(files, pa.binary()), pa.nulls(len(files), pa.string())], ["bytes", "path"])


class ImpressionTables:
    """Turns rows of traffic into Arrow tables in the form of `impressions`."""

    def __init__(self, model: ClickModel, behaviour: Behaviour) -> None:
        """Prepare the id dictionaries.

        Args:
            model: Holds users, products and creatives.
            behaviour: Clicks to look histories up in.
        """
        self._model, self._behaviour = model, behaviour
        self._user_ids, self._sku_ids = pa.array(model.users.ids()), pa.array(model.products.ids())
        self._creative_ids = pa.array(model.creatives.ids())

    def log_tables(self, log: Log) -> Iterable[pa.Table]:
        """The log in parts of at most `PART_ROWS` rows."""
        for start in range(0, len(log.traffic), PART_ROWS):
            rows = slice(start, min(start + PART_ROWS, len(log.traffic)))
            policies = [(log.policies[b], np.flatnonzero(log.traffic.block[rows] == b)) for b in np.unique(log.traffic.block[rows])]
            columns = self._decisions(log.traffic, rows, "r", [(policy, len(members)) for policy, members in policies])
            columns["exposed"] = pa.array(log.exposed[rows], pa.int32())
            columns["clicked"] = pa.array(log.clicked[rows].astype(np.int8))
            yield pa.table(columns)

    def request_table(self, requests: Traffic, policy: Policy) -> pa.Table:
        """Decisions still to be made, with the probability that `policy` shows each candidate."""
        return pa.table(self._decisions(requests, slice(0, len(requests)), "q", [(policy, len(requests))]))

    def _decisions(self, traffic: Traffic, rows: slice, prefix: str, policies: list[tuple[Policy, int]]) -> dict[str, pa.Array]:
        users, products = self._model.users, self._model.products
        user, sku = traffic.users[rows], traffic.skus[rows]
        number = pc.utf8_lpad(pc.cast(pa.array(np.arange(rows.start, rows.stop)), pa.string()), 10, "0")
        history, clicked = self._behaviour.history(traffic, rows)
        liked, slots = self._behaviour.liked_elements(traffic, rows)
        liked_index = liked.values + np.tile(_FIRST_OF_SLOT, len(liked.values) // slots)
        return {
            "request_id": pc.binary_join_element_wise(prefix, number, ""),
            "timestamp": pa.array(traffic.time_ms[rows], _TIME),
            "user_id": coded(user, self._user_ids),
            "user_age": coded(users.age[user], AGES),
            "user_city": coded(users.city[user], CITIES),
            "user_gender": coded(users.gender[user], GENDERS),
            "user_history": coded_lists(history, self._sku_ids),
            "user_clicked_creatives": coded_lists(clicked, self._creative_ids),
            "user_liked_elements": coded_lists(Lists(liked_index, liked.offsets), _LIKED),
            "sku_id": coded(sku, self._sku_ids),
            "sku_category": coded(products.category[sku], [c.name for c in CATEGORIES]),
            "sku_brand": coded(products.brand[sku], BRANDS),
            "sku_price": pa.array(products.price[sku]),
            "cross_category_clicks": pa.array(self._behaviour.category_clicks(traffic, rows).astype(np.float64)),
            "position": pa.array(traffic.position[rows], pa.int32()),
            "candidates": self._candidates(sku, policies),
        }

    def _candidates(self, skus: np.ndarray, policies: list[tuple[Policy, int]]) -> pa.ListArray:
        """Candidate lists; consecutive rows of `skus` belong to consecutive policies."""
        propensities, lengths, start = [], [], 0
        for policy, rows in policies:
            flat, offsets = policy.propensities(skus[start : start + rows])
            propensities.append(flat)
            lengths.append(np.diff(offsets))
            start += rows
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        creative = np.arange(offsets[-1]) + np.repeat(self._model.creatives.offsets[skus] - offsets[:-1], np.diff(offsets))
        unknown = pa.nulls(len(creative), pa.int64())
        candidates = pa.StructArray.from_arrays(
            [coded(creative, self._creative_ids), pa.array(np.concatenate(propensities), pa.float32()), unknown, unknown],
            ["creative_id", "propensity", "impressions", "clicks"],
        )
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), candidates)


def coded(index: np.ndarray, words: pa.Array | Sequence[str]) -> pa.DictionaryArray:
    """A string column given by indices into its distinct values."""
    dictionary = words if isinstance(words, pa.Array) else pa.array(words)
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32()), dictionary)


def coded_lists(lists: Lists, words: pa.Array | Sequence[str]) -> pa.ListArray:
    """A column of lists of strings, likewise."""
    return pa.ListArray.from_arrays(pa.array(lists.offsets, pa.int32()), coded(lists.values, words))
