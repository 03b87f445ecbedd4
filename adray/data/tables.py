"""What ingestion leaves behind: the standard tables of a run and what is known of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from adray.errors import DataError
from adray.files import write_json

TABLES_FILE = "tables.json"


@dataclass(frozen=True)
class Tables:
    """Paths of a run's standard tables.

    Attributes:
        train: Impressions to train on.
        holdout: Later impressions to evaluate on; None when nothing is held out.
        creatives: The creatives; None when the source has none.
        products: The products.
        requests: Decisions to evaluate a policy on.
        truth: True click probabilities of a simulated world.
        embeddings: Creative vectors.
        attributes: What was extracted from the creatives.
        quarantine: Rows that could not be used, with their reasons.
        rows: Rows of each table that was read (`train`, `holdout`, `creatives`, ...).
        quarantined: Rows put into the quarantine, by source table.
        left_out: Source rows that the settings leave out (`data.drop_weeks`), by table; only tables that lost any.
        fingerprint: Hex digest of the source files' names, sizes and times and of the settings; equal input, equal tables.
        train_until: Time of the last training row (ISO 8601, UTC); None without times.
    """

    train: str
    holdout: str | None
    creatives: str | None
    products: str | None
    requests: str | None
    truth: str | None
    embeddings: str | None
    quarantine: str
    rows: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    fingerprint: str = ""
    train_until: str | None = None
    attributes: str | None = None

    def lineage(self) -> dict[str, dict[str, object]]:
        """For an artifact's lineage: path and rows of every table, and the fingerprint."""
        names = ("train", "holdout", "creatives", "products", "requests", "truth", "embeddings", "attributes")
        present = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {name: {"path": path, "rows": self.rows.get(name), "fingerprint": self.fingerprint} for name, path in present.items()}

    def save(self, folder: str | Path) -> None:
        """Write `tables.json`."""
        write_json(Path(folder) / TABLES_FILE, asdict(self))


def read_tables(folder: str | Path) -> Tables:
    """Read what `ingest` wrote.

    Raises:
        DataError: If the folder holds no tables or those of another version.
    """
    path = Path(folder) / TABLES_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {f.name for f in fields(Tables)}
        return Tables(**{name: value for name, value in values.items() if name in known})
    except FileNotFoundError:
        raise DataError(f"no tables at {path}", "ingest them first") from None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "ingest the tables again") from None
