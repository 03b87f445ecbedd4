"""Rows held to what their table promises; exactly the rows that break a promise are set apart, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adray.data.conform import Problem, conform
from adray.data.hashing import hash_strings
from adray.data.images import ImageRowError, decode_image
from adray.data.schema import IMAGE, QUARANTINE, TableSchema
from adray.data.storage import read_bytes
from adray.errors import DataError

PROBLEM = "_problem"
"""A column that an adapter may add: why it could not make sense of a row, null where it could."""


@dataclass(frozen=True)
class Rules:
    """What a table's rows are held to, beside its types.

    Attributes:
        schema: The declared table.
        target: Columns and types of the rows kept (`conform.target_schema`).
        known_creatives: Sorted int64 hashes of the creative ids that exist; None where there is no creatives table.
        needs_time: Every row must have a timestamp, because the table is split by it.
        folder: What relative paths of pictures are relative to.
    """

    schema: TableSchema
    target: pa.Schema
    known_creatives: np.ndarray | None = None
    needs_time: bool = False
    folder: str = ""


@dataclass
class Violations:
    """The first broken rule of each row."""

    rows: int
    found: dict[int, tuple[str, str]] = field(default_factory=dict)

    def add(self, bad: np.ndarray, stage: str, reason: str | Callable[[int], str]) -> None:
        """Note the rows where `bad` (bool `[rows]`) is set."""
        for row in np.flatnonzero(bad).tolist():
            if row not in self.found:
                self.found[row] = (stage, reason if isinstance(reason, str) else reason(row))

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note single rows."""
        for row, stage, reason in problems:
            self.found.setdefault(row, (stage, reason))


def split_rows(table: pa.Table, rules: Rules, source: str) -> tuple[pa.Table, pa.Table]:
    """Separate the rows that can be used from those that cannot.

    Args:
        table: Rows of any types that `conform` can cast.
        rules: What they are held to.
        source: Where they come from; part of the key of rows that have none.

    Returns:
        The good rows in the target schema, and one row of table `quarantine` for each other row. Both keep order.

    Raises:
        DataError: If a whole column has an impossible type.
    """
    conformed = conform(table, rules.target)
    rows = with_whole_paths(conformed.table, rules.folder)
    violations = Violations(rows.num_rows)
    if PROBLEM in table.column_names:
        problems = table.column(PROBLEM)
        violations.add(_bool(problems.is_valid()), "adapt", lambda row: problems[row].as_py())
    violations.extend(conformed.problems)
    for required in rules.schema.required:
        violations.add(_bool(rows.column(required.name).is_null()), "required", f"{required.name} is null")
    _check_numbers(rows, violations)
    if "candidates" in rows.column_names:
        _check_lists(rows, rules, violations)
        if rules.needs_time:
            missing = _bool(rows.column("timestamp").is_null()) if "timestamp" in rows.column_names else np.ones(rows.num_rows, bool)
            violations.add(missing, "rules", "timestamp is null, and data.holdout splits by it")
    else:
        # A table of things, not of events: its key is unique.
        violations.add(
            _repeats(hash_strings(rows.column(rules.schema.key))), "rules", f"{rules.schema.key} appears before in the same part"
        )
    for column in rows.schema:
        if column.type.equals(IMAGE):
            _check_images(rows, column.name, violations)
    return _separate(rows, rules.schema, violations, source)


def _separate(rows: pa.Table, schema: TableSchema, violations: Violations, source: str) -> tuple[pa.Table, pa.Table]:
    if not violations.found:
        return rows, QUARANTINE.required.empty_table()
    bad = sorted(violations.found)
    keep = np.ones(rows.num_rows, bool)
    keep[bad] = False
    keys = rows.column(schema.key).take(pa.array(bad)).to_pylist()
    quarantined = {
        "table": [schema.name] * len(bad),
        "key": [key if key is not None else f"{source} row {row}" for key, row in zip(keys, bad, strict=True)],
        "stage": [violations.found[row][0] for row in bad],
        "reason": [violations.found[row][1] for row in bad],
    }
    return rows.filter(pa.array(keep)), pa.table(quarantined, schema=QUARANTINE.required)


def _check_numbers(rows: pa.Table, violations: Violations) -> None:
    for column in rows.schema:
        if pa.types.is_floating(column.type):
            infinite = pc.fill_null(pc.is_inf(rows.column(column.name)), False)
            violations.add(_bool(infinite), "rules", f"{column.name} is infinite")
    if "position" in rows.column_names:
        violations.add(_numpy(rows.column("position"), 0) < 0, "rules", "position is negative")


def _check_lists(rows: pa.Table, rules: Rules, violations: Violations) -> None:
    column = rows.column("candidates").combine_chunks()
    lists = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    items = lists.flatten()
    segments = np.repeat(np.arange(len(lengths)), lengths)
    ids = pc.struct_field(items, "creative_id")
    hashes = hash_strings(ids)

    def rows_with(bad_items: np.ndarray) -> np.ndarray:
        return np.bincount(segments[bad_items], minlength=len(lengths)) > 0

    def name_first(bad_items: np.ndarray, text: str) -> Callable[[int], str]:
        # `segments` is sorted, so a row's items are found by bisection.
        where = np.flatnonzero(bad_items)
        return lambda row: text.format(ids[int(where[np.searchsorted(segments[where], row)])].as_py())

    violations.add(lengths == 0, "rules", "candidate list is empty")
    violations.add(rows_with(_bool(ids.is_null())), "rules", "a candidate has no creative_id")
    repeated = _repeats_within(hashes, segments)
    violations.add(rows_with(repeated), "rules", name_first(repeated, "creative {!r} appears twice in the list"))
    impressions = _check_counts(items, rows_with, violations)
    _check_outcome(rows, rules, lengths, rows_with(impressions), violations)
    if rules.known_creatives is not None:
        unknown = ~_contains(rules.known_creatives, hashes)
        violations.add(rows_with(unknown), "reference", name_first(unknown, "creative {!r} has no row in the creatives"))


def _check_counts(items: pa.Array, rows_with: Callable[[np.ndarray], np.ndarray], violations: Violations) -> np.ndarray:
    """Check propensities and counts; returns bool `[items]`, whether an item has been shown (aggregated lists)."""
    propensity = pc.struct_field(items, "propensity").cast(pa.float64())
    outside = pc.fill_null(pc.invert(pc.and_(pc.greater_equal(propensity, 0.0), pc.less_equal(propensity, 1.0))), False)
    violations.add(rows_with(_bool(outside)), "rules", "a propensity is outside [0, 1]")
    impressions = _numpy(pc.struct_field(items, "impressions"), 0)
    clicks = _numpy(pc.struct_field(items, "clicks"), 0)
    violations.add(rows_with((impressions < 0) | (clicks < 0)), "rules", "a count of impressions or clicks is negative")
    violations.add(rows_with(clicks > impressions), "rules", "a candidate has more clicks than impressions")
    return impressions > 0


def _check_outcome(rows: pa.Table, rules: Rules, lengths: np.ndarray, aggregated: np.ndarray, violations: Violations) -> None:
    count = rows.num_rows
    names = rows.column_names
    exposed_null = _bool(rows.column("exposed").is_null()) if "exposed" in names else np.ones(count, bool)
    clicked_null = _bool(rows.column("clicked").is_null()) if "clicked" in names else np.ones(count, bool)
    if "exposed" in names:
        exposed = _numpy(rows.column("exposed"), 0)
        outside = ~exposed_null & ((exposed < 0) | (exposed >= lengths))
        violations.add(outside, "rules", lambda row: f"exposed index {exposed[row]} is outside its list of {lengths[row]}")
    if "clicked" in names:
        clicked = _numpy(rows.column("clicked"), 0)
        violations.add(~clicked_null & (clicked != 0) & (clicked != 1), "rules", lambda row: f"clicked is {clicked[row]}, not 0 or 1")
        violations.add(~clicked_null & exposed_null, "rules", "clicked is given but exposed is not")
        violations.add(clicked_null & ~exposed_null, "rules", "exposed is given but clicked is not")
    if rules.schema.name == "impressions":
        violations.add(exposed_null & ~aggregated, "rules", "neither an exposed candidate nor impression counts")


def with_whole_paths(rows: pa.Table, folder: str) -> pa.Table:
    """Pictures' relative paths made whole (relative to `folder`): workers that read them later run elsewhere."""
    if not folder:
        return rows
    for index, column in enumerate(rows.schema):
        if not column.type.equals(IMAGE):
            continue
        images = rows.column(index).combine_chunks()
        images = images.chunk(0) if isinstance(images, pa.ChunkedArray) else images
        paths = pc.struct_field(images, "path")
        if paths.null_count == len(paths):
            continue
        whole = pc.or_(pc.starts_with(paths, "/"), pc.match_substring(paths, "://"))
        paths = pc.if_else(whole, paths, pc.binary_join_element_wise(folder, paths, "/"))
        mask = images.is_null()
        images = pa.StructArray.from_arrays([pc.struct_field(images, "bytes"), paths], fields=list(IMAGE), mask=mask)
        rows = rows.set_column(index, column, images)
    return rows


def _check_images(rows: pa.Table, column: str, violations: Violations) -> None:
    for row, image in enumerate(rows.column(column)):
        if not image.is_valid or row in violations.found:
            continue
        try:
            decode_image(image["bytes"].as_py() if image["bytes"].is_valid else read_bytes(image["path"].as_py()))
        except (ImageRowError, DataError, OSError) as error:
            problem = error.problem if isinstance(error, DataError) else str(error)
            violations.found[row] = ("image", f"{column}: {problem}")


def _contains(known: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    if not len(known):
        return np.zeros(len(hashes), bool)
    return known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes


def _repeats_within(hashes: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """bool: an item equal to another of its segment (all but one of the equal ones)."""
    order = np.lexsort((hashes, segments))
    same = (hashes[order][1:] == hashes[order][:-1]) & (segments[order][1:] == segments[order][:-1])
    repeated = np.zeros(len(hashes), bool)
    repeated[order[1:][same]] = True
    return repeated


def _repeats(hashes: np.ndarray) -> np.ndarray:
    """bool: all but the first of equal values."""
    repeated = np.ones(len(hashes), bool)
    repeated[np.unique(hashes, return_index=True)[1]] = False
    return repeated


def _bool(array: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False) if isinstance(array, pa.Array) else array.to_numpy()).astype(bool)


def _numpy(array: pa.Array | pa.ChunkedArray, fill: int) -> np.ndarray:
    return np.asarray(pc.fill_null(array, fill).to_numpy()).astype(np.int64)
