"""What a generation's report shows: how many are available after k attempts, what failed and why, and the pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adray.data.labels import AVAILABLE, LABELS
from adray.data.picture_sheet import picture_sheet
from adray.data.pictures import image_pixels
from adray.generation.recurrent.job import Generated
from adray.run import Run

_EXAMPLES = 3


@dataclass(frozen=True)
class Attempts:
    """What came of each attempt, read off table `verdicts`.

    Attributes:
        wanted: Pictures wanted.
        tried: int64 `[k]`, pictures made at each attempt.
        accepted: int64 `[k]`, pictures accepted at each attempt.
        labels: int64 `[k, 5]`, verdicts of each attempt by label.
    """

    wanted: int
    tried: np.ndarray
    accepted: np.ndarray
    labels: np.ndarray

    def available(self) -> np.ndarray:
        """float64 `[k]`: share of the pictures wanted that are accepted after 1, 2, ... attempts."""
        return np.cumsum(self.accepted) / max(self.wanted, 1)

    def independent(self) -> np.ndarray:
        """float64 `[k]`: 1 - (1 - p)^k, what it would be if attempts at one product had nothing in common."""
        first = self.available()[0]
        return 1.0 - (1.0 - first) ** np.arange(1, len(self.tried) + 1)


def read_attempts(verdicts: Path, attempts: int) -> Attempts:
    """Count a run's verdicts.

    Args:
        verdicts: Table `verdicts`.
        attempts: Most attempts at one picture.
    """
    table = pq.read_table(verdicts, columns=["label", "accepted", "attempt"])
    attempt = table.column("attempt").to_numpy()
    label = pc.index_in(table.column("label"), value_set=pc.cast(list(LABELS), "string")).to_numpy()
    counts = np.bincount(attempt * len(LABELS) + label, minlength=attempts * len(LABELS)).reshape(attempts, len(LABELS))
    accepted = np.bincount(attempt[table.column("accepted").to_numpy(zero_copy_only=False)], minlength=attempts)
    tried = counts.sum(axis=1)
    return Attempts(int(tried[0]), tried, accepted, counts)


def report(run: Run, done: Generated, attempts: int, *, judged: bool, shown: int) -> None:
    """Fill a run's report.

    Args:
        run: The run.
        done: What was made.
        attempts: Most attempts at one picture.
        judged: Whether there are verdicts.
        shown: Pictures of the contact sheet; 0 for none.
    """
    run.log(done.metrics())
    if done.new:
        run.seconds.update({f"generate/{stage}": seconds for stage, seconds in done.done.stage_seconds.items()})
    if judged:
        found = read_attempts(done.outputs.parts["verdicts"].output, attempts)
        run.log({f"generation/available_after_{k}": share for k, share in enumerate(found.available().tolist(), 1)})
        run.log({f"generation/independent_after_{k}": share for k, share in enumerate(found.independent().tolist(), 1)})
        _attempts_table(run, found)
        _failures_table(run, done)
        run.add_plot("Available after k attempts", curve_plot(found, run.folder / "plots" / "available.png"))
    if shown:
        sheet = _sheet(done, run.folder / "plots" / "pictures.png", shown, judged=judged)
        if sheet is not None:
            run.add_plot("Attempts at some products, with the probability of `available`" if judged else "Pictures", sheet)


def _attempts_table(run: Run, found: Attempts) -> None:
    columns = ("attempt", "pictures", "accepted", "available after it", "if attempts were independent", *LABELS)
    rows = zip(found.tried, found.accepted, found.available(), found.independent(), found.labels, strict=True)
    cells = [
        (k, int(tried), int(accepted), f"{share:.3f}", f"{alone:.3f}", *labels.tolist())
        for k, (tried, accepted, share, alone, labels) in enumerate(rows, 1)
    ]
    run.add_table("Attempts and their verdicts", columns, cells, f"{found.wanted} pictures wanted")


def _failures_table(run: Run, done: Generated) -> None:
    rows = pq.read_table(done.outputs.parts["failures"].output, columns=["label", "sku_id"]).to_pylist()
    counts = Counter(row["label"] for row in rows)
    run.log({f"generation/failed/{label}": n for label, n in counts.items()})
    cells = [
        (label, n, ", ".join([row["sku_id"] for row in rows if row["label"] == label][:_EXAMPLES])) for label, n in counts.most_common()
    ]
    run.add_table(
        "Failures by the label given most often", ("label", "pictures wanted", "products, the first"), cells, "Each in table failures."
    )


def curve_plot(found: Attempts, path: Path) -> Path:
    """The available rate over attempts, beside what independent attempts would reach.

    Args:
        found: The attempts.
        path: The PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="attempts", ylabel="available", ylim=(0, 1.02), title=f"{found.wanted:,} pictures wanted")
    attempts = np.arange(1, len(found.tried) + 1)
    axes.plot(attempts, found.available(), "o-", label="accepted by the inspector")
    axes.plot(attempts, found.independent(), "s--", color="grey", label="1 - (1 - p)^k, independent attempts")
    axes.set_xticks(attempts)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _sheet(done: Generated, path: Path, shown: int, *, judged: bool) -> Path | None:
    """Some requests' pictures, a request's attempts one after the other."""
    tiles: list[tuple[Any, str]] = []
    for file in sorted(done.outputs.parts["generated"].output.glob("part-*.parquet")):
        verdicts = done.outputs.parts["verdicts"].output / file.name if judged else None
        tiles += _tiles(file, verdicts, shown - len(tiles))
        if len(tiles) == shown:
            break
    return picture_sheet([image_pixels(image) for image, _ in tiles], [caption for _, caption in tiles], path) if tiles else None


def _tiles(generated: Path, verdicts: Path | None, most: int) -> list[tuple[Any, str]]:
    """Pictures of one work item with their captions, in the order of requests and attempts."""
    rows = pq.read_table(generated, columns=["annotation_id", "request_id", "attempt"]).to_pylist()
    order = {request: place for place, request in enumerate(dict.fromkeys(row["request_id"] for row in rows))}
    chosen = [row["annotation_id"] for row in sorted(rows, key=lambda row: (order[row["request_id"]], row["attempt"]))][:most]
    found = _by_key(generated, "annotation_id", chosen, ["image", "prompt", "attempt"])
    said = {} if verdicts is None else _by_key(verdicts, "image_id", chosen, ["label", "accepted", "probabilities"])
    tiles = []
    for name in chosen:
        row = found[name]
        first = f"{row['attempt'] + 1}: {_verdict(said[name])}" if name in said else name
        tiles.append((row["image"], f"{first[:28]}\n{(row['prompt'] or '')[:28]}"))
    return tiles


def _verdict(row: dict[str, Any]) -> str:
    label = "accepted" if row["accepted"] else row["label"]
    return f"{label} {dict(row['probabilities'])[AVAILABLE]:.2f}"


def _by_key(file: Path, key: str, ids: Sequence[str], columns: list[str]) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(file, columns=[key, *columns], filters=[(key, "in", list(ids))]).to_pylist()
    return {row[key]: row for row in rows}
