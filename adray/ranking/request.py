"""JSON features of a request to model input."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from adray.data.batch import Ragged
from adray.data.hashing import hash_strings
from adray.errors import DataError
from adray.ranking.config import FeatureConfig
from adray.ranking.tables import FieldValues

_log = logging.getLogger(__name__)


class RequestFields:
    """Reads the features that a half wants from JSON-like mappings; what is missing is null.

    Args:
        fields: The fields.
        bags: Further bag columns, e.g. the behaviour history.
    """

    def __init__(self, fields: Sequence[FeatureConfig], bags: Iterable[str] = ()) -> None:
        self.kinds: dict[str, str] = {f.name: f.kind for f in fields}
        self.kinds.update((name, "bag") for name in bags)
        self._reported: set[str] = set()

    def read(self, rows: Sequence[Mapping[str, Any]], where: str) -> FieldValues:
        """Turn n mappings into n rows.

        Args:
            rows: One mapping per row: strings, integers, numbers, lists of strings, or null.
            where: What to call them in errors, e.g. `user`.

        Raises:
            DataError: If a value is of the wrong type, naming the field.
        """
        self._report_unknown(rows, where)
        values = FieldValues(len(rows))
        for name, kind in self.kinds.items():
            column = [row.get(name) for row in rows]
            if kind == "id":
                values.ids[name] = torch.from_numpy(hash_strings([_id(value, name, where) for value in column]))
            elif kind == "number":
                values.numbers[name] = torch.tensor([_number(value, name, where) for value in column], dtype=torch.float32)
            else:
                lists = [_bag(value, name, where) for value in column]
                hashes = hash_strings([item for one in lists for item in one])
                offsets = torch.tensor([0, *(len(one) for one in lists)]).cumsum(0)
                values.bags[name] = Ragged(torch.from_numpy(hashes), offsets)
        return values

    def _report_unknown(self, rows: Sequence[Mapping[str, Any]], where: str) -> None:
        unknown = {str(name) for row in rows for name in row} - self.kinds.keys() - self._reported
        # A caller may send any number of names; only so many are worth remembering.
        for name in sorted(unknown)[: max(0, 100 - len(self._reported))]:
            self._reported.add(name)
            _log.warning("%s feature %r is not one of the model's and is ignored", where, name)


def _id(value: Any, name: str, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise DataError(f"{where} feature {name!r} is {value!r}", "give a string or an integer")


def _number(value: Any, name: str, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    raise DataError(f"{where} feature {name!r} is {value!r}", "give a number")


def _bag(value: Any, name: str, where: str) -> list[str | None]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise DataError(f"{where} feature {name!r} is {value!r}", "give a list of strings")
    return [_id(item, name, where) for item in value]
