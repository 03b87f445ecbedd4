"""What a report shows of an `attributes` table: how often each value occurs, and some pictures with what was read off them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib import font_manager
from matplotlib.patches import Polygon, Rectangle

from adray.data.parquet import GroupReader, open_parquet
from adray.representation.attributes.palette import PALETTE
from adray.representation.attributes.values import AUDIENCE
from adray.representation.reading import creatives_from_arrow

_CHINESE_FONTS = ("WenQuanYi", "Noto Sans CJK", "Source Han", "SimHei", "Microsoft YaHei", "PingFang", "Heiti", "AR PL")
_MOST_VALUES = 12
_SCAN_ROWS = 4096

Distribution = dict[str, Counter[str]]
"""Field -> value -> creatives."""


def distribution(table: str) -> tuple[Distribution, dict[str, float]]:
    """Count every field's values, and average each field's confidence over the rows where it is known.

    Args:
        table: Folder of an `attributes` table.

    Returns:
        The counts, and mean confidences by field.
    """
    counts: Distribution = {}
    sums: dict[str, list[float]] = {}
    found = open_parquet(table)
    reader = GroupReader(found, ["explicit", "implicit"])
    for group in found.groups:
        for row in reader.read(group).to_pylist():
            for field, value, confidence in _values(row):
                counts.setdefault(field, Counter())[value] += 1
                if value != "unknown":
                    sums.setdefault(field, []).append(confidence)
    reader.close()
    return counts, {field: float(np.mean(values)) for field, values in sums.items()}


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    explicit, implicit = row["explicit"], row["implicit"]
    yield "background_colour", explicit["background_colour"]["name"], explicit["background_colour"]["confidence"]
    for field in ("promotion", "style"):
        yield field, implicit[field]["value"], implicit[field]["confidence"]
    for part in AUDIENCE:
        yield part, implicit["audience"][part]["value"], implicit["audience"][part]["confidence"]
    for name, plural, key in (("selling_point", implicit["selling_points"], "value"), ("logo", explicit["logos"], "brand")):
        for one in plural:
            yield name, one[key], one["confidence"]
    for entity in explicit["entities"]:
        yield f"entity {entity['type']}", entity["value"], entity["confidence"]


def distribution_rows(counts: Distribution, confidences: Mapping[str, float], creatives: int) -> list[tuple[str, str, int, str, str]]:
    """Rows of the report's table: field, value, creatives, share, and the field's mean confidence; the rarest values summed up."""
    rows = []
    for field in sorted(counts):
        common = counts[field].most_common()
        shown = common if len(common) <= _MOST_VALUES else common[: _MOST_VALUES - 1]
        for value, count in shown:
            rows.append((field, value, count, f"{count / creatives:.1%}", f"{confidences.get(field, 0.0):.2f}"))
        if rest := common[len(shown) :]:
            count = sum(count for _, count in rest)
            rows.append((field, f"{len(rest)} more", count, f"{count / creatives:.1%}", f"{confidences.get(field, 0.0):.2f}"))
    return rows


def contact_sheet(creatives: str, table: str, number: int, path: Path) -> Path | None:
    """Draw pictures with what was read off them.

    Args:
        creatives: The creatives that were read.
        table: Folder of their `attributes` table.
        number: Pictures wanted: those with the most tokens of the table's beginning, so that there is something to see.
        path: Where the PNG goes.

    Returns:
        `path`; None when no creative has a picture.
    """
    rows = _most_telling(table, number)
    pictures = _pictures(creatives, list(rows))
    shown = [(pictures[key], rows[key]) for key in rows if key in pictures]
    if not shown:
        return None
    columns = min(4, len(shown))
    lines = -(-len(shown) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4.2 * columns, 5.6 * lines), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (picture, row) in zip(axes.flat, shown, strict=False):
        _draw(axis, picture, row)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70)
    plt.close(figure)
    return path


def _most_telling(table: str, number: int) -> dict[str, dict[str, Any]]:
    found = open_parquet(table)
    reader = GroupReader(found)
    seen: list[dict[str, Any]] = []
    for group in found.groups:
        if len(seen) >= _SCAN_ROWS:
            break
        rows = reader.read(group)
        seen += rows.filter(pc.is_valid(rows["width"])).slice(0, _SCAN_ROWS - len(seen)).to_pylist()
    reader.close()
    seen.sort(key=lambda row: -len(row["tokens"]) - 2 * len(row["explicit"]["text_boxes"]) - 4 * len(row["explicit"]["logos"]))
    return {row["creative_id"]: row for row in seen[:number]}


def _pictures(creatives: str, wanted: list[str]) -> dict[str, np.ndarray]:
    from adray.data.sources import open_source, read_part
    from adray.data.validate import with_whole_paths
    from adray.representation.attributes.worker import SHORTER_SIDE

    source = open_source(creatives)
    found: dict[str, np.ndarray] = {}
    for part in source.parts:
        for rows in read_part(source, part, lambda key, reason: None):
            keep = rows.filter(pc.is_in(rows["creative_id"].cast(pa.string()), pa.array(wanted)))
            if keep.num_rows:
                read, _ = creatives_from_arrow(with_whole_paths(keep, source.folder), at_least=SHORTER_SIDE)
                pairs = zip(read.creative_ids, read.pictures, strict=True)
                found |= {key: picture for key, picture in pairs if picture is not None}
        if len(found) == len(wanted):
            break
    return found


def _draw(axis: Any, picture: np.ndarray, row: Mapping[str, Any]) -> None:
    explicit, implicit = row["explicit"], row["implicit"]
    axis.imshow(picture)
    for box in explicit["text_boxes"]:
        axis.add_patch(Polygon(np.reshape(box["polygon"], (-1, 2)), fill=False, edgecolor="magenta", linewidth=1.5))
    for logo in explicit["logos"]:
        left, top, right, bottom = logo["box"]
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="lime", linewidth=2))
        axis.text(left, top, _drawable(f"{logo['brand']} {logo['confidence']:.2f}"), color="lime", fontsize=9, va="bottom", family=_fonts())
    axis.set_title("\n".join(_lines(row, explicit, implicit)), fontsize=8, loc="left", family=_fonts())
    chinese = {colour.name: colour.anchors[0] for colour in PALETTE}
    name = explicit["background_colour"]["name"]
    if name in chinese:
        axis.add_patch(Rectangle((0.9, 0.9), 0.1, 0.1, transform=axis.transAxes, facecolor=f"#{chinese[name]}", edgecolor="black"))


def _lines(row: Mapping[str, Any], explicit: Mapping[str, Any], implicit: Mapping[str, Any]) -> list[str]:
    background, promotion = explicit["background_colour"], implicit["promotion"]
    said = f" “{promotion['evidence']}” ({promotion['source']})" if promotion["evidence"] else ""
    audience = " ".join(implicit["audience"][part]["value"] for part in AUDIENCE if implicit["audience"][part]["value"] != "unknown")
    entities = " ".join(f"{e['type']}:{e['value']}" for e in explicit["entities"][:5])
    texts = " | ".join(box["text"] for box in explicit["text_boxes"][:4])
    points = " ".join(point["value"] for point in implicit["selling_points"][:4])
    lines = [
        f"{row['creative_id']}: {background['name']} {background['coverage']:.0%} ({background['confidence']:.2f})",
        f"promotion {promotion['value']}{said} {promotion['confidence']:.2f}",
        f"for {audience or 'unknown'}; style {implicit['style']['value']}",
        f"points {points or '-'}",
        f"entities {entities or '-'}",
        f"text {texts or '-'}",
    ]
    return [_drawable(line[:58]).replace("$", r"\$") for line in lines]


def _drawable(text: str) -> str:
    """Text with a box in place of characters that no font here can draw."""
    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in _fonts()]
    return "".join(letter if any(font.get_char_index(ord(letter)) for font in fonts) else "\u25a1" for letter in text)


def _fonts() -> list[str]:
    """Chinese fonts of this machine, if there are any, after the usual one."""
    names = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in sorted(names) if name.startswith(_CHINESE_FONTS))]
