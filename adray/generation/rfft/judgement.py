"""Pictures of held-out products before and after fine-tuning, judged by the inspector that was the reward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageDraw

from adray.data.labels import LABELS
from adray.data.schema import GENERATED
from adray.feedback.artifact import LoadedInspector, load_inspector
from adray.feedback.metrics import AVAILABLE
from adray.files import replacing_folder
from adray.generation.components import load_components
from adray.generation.condition import cutout_tensor
from adray.generation.recurrent.tables import png_cell
from adray.generation.rfft.config import RfftRunConfig
from adray.generation.rfft.source import FeedbackBatch, asked, first_of_each
from adray.generation.rfft.task import FeedbackTask
from adray.generation.sampler import PictureMaker
from adray.generation.usable import UsableTables
from adray.run import Run

HEADLINES = ["generation/available_before", "generation/available_after", "generation/reward_gain"]
PICTURES = "pictures"
"""Folder of the tables of pictures in a run's: `before` and `after`."""
_TILE, _CAPTION, _ACROSS = 128, 26, 4


def judge(run: Run, config: RfftRunConfig, tables: UsableTables, tuned: Path) -> None:
    """Rates before and after with the same prompts and noise, and a sheet of pairs, into the report.

    Args:
        run: The run that reports.
        config: Its config.
        tables: Its products.
        tuned: The artifact with the tuned ControlNet.
    """
    batches = _batches(FeedbackTask(config, tables))
    inspector = load_inspector(config.feedback.inspector)
    pictures, said = {}, {}
    for name, path, controlnet in (("before", config.generator, config.controlnet), ("after", str(tuned), None)):
        maker = PictureMaker(load_components(path, controlnet), config.sampling, precision=config.feedback.rollout)
        pictures[name] = np.concatenate([maker(b.products.cutouts, b.prompts, b.negatives, b.seeds) for b in batches])
        said[name] = _verdicts(inspector, pictures[name], batches)
        run.tables.append(_write(run.folder / PICTURES / name, pictures[name], said[name], batches))
    good = {name: labels == AVAILABLE for name, labels in said.items()}
    run.headlines += HEADLINES
    run.log(
        {
            "generation/pictures": len(good["after"]),
            "generation/available_before": float(good["before"].mean()),
            "generation/available_after": float(good["after"].mean()),
            "generation/reward_gain": float(good["after"].mean() - good["before"].mean()),
            "generation/reward_gain_error": float(_paired_error(good["after"], good["before"])),
        }
    )
    rows = [[name, *np.bincount(labels, minlength=len(LABELS)).tolist()] for name, labels in said.items()]
    run.add_table("Verdicts of the inspector that was the reward", ["pictures", *LABELS], rows, note="Same products, prompts and noise.")
    titles = [title for batch in batches for title in batch.products.titles]
    run.add_plot("Before and after", pairs_sheet(pictures, said, titles, config.evaluation.shown, run.folder / "plots" / "pairs.png"))


def _write(folder: Path, pictures: np.ndarray, said: np.ndarray, batches: list[FeedbackBatch]) -> str:
    """Pictures as a table `generated`, so that other judges can look at them; before and after are paired by `request_id`."""
    rows, row = [], 0
    for batch in batches:
        for place in range(len(batch)):
            rows.append(
                {
                    "annotation_id": f"{batch.products.keys[place]}/{folder.name}",
                    "sku_id": batch.products.skus[place],
                    "image": png_cell(pictures[row]),
                    "cutout": png_cell(batch.products.cutouts[place]),
                    "copy": batch.products.titles[place],
                    "prompt": batch.prompts[place],
                    "negative_prompt": batch.negatives[place],
                    "request_id": batch.products.keys[place],
                    "attempt": 0,
                    "seed": batch.seeds[place],
                    "accepted": bool(said[row] == AVAILABLE),
                }
            )
            row += 1
    with replacing_folder(folder) as partial:
        pq.write_table(
            pa.Table.from_pylist(rows, schema=pa.schema([*GENERATED.required, *GENERATED.optional])), partial / "pictures.parquet"
        )
    return str(folder)


def _batches(task: FeedbackTask) -> list[FeedbackBatch]:
    """One picture each of the first products."""
    config, collate = task.config, task.collate(task.tables.holdout)
    chosen = first_of_each(task.tables.holdout, collate, config.evaluation.batch_rows, config.evaluation.pictures)
    last = config.sampling.steps - 1
    return [asked(products, config.prompts, config.seed, 0, last, config.placement) for products in chosen]


def _verdicts(inspector: LoadedInspector, pictures: np.ndarray, batches: list[FeedbackBatch]) -> np.ndarray:
    """int64 `[n]`, the most probable label of each picture."""
    labels, start = [], 0
    for batch in batches:
        own = torch.from_numpy(pictures[start : start + len(batch)]).permute(0, 3, 1, 2).float() / 255.0
        labels.append(inspector.probabilities(own, cutout_tensor(batch.products.cutouts), list(batch.products.titles)).argmax(dim=1))
        start += len(batch)
    return torch.cat(labels).numpy()


def _paired_error(after: np.ndarray, before: np.ndarray) -> float:
    """Standard error of the mean of paired differences."""
    difference = after.astype(float) - before.astype(float)
    return float(difference.std(ddof=1) / np.sqrt(len(difference)))


def pairs_sheet(pictures: dict[str, np.ndarray], said: dict[str, np.ndarray], titles: list[str], shown: int, path: Path) -> Path:
    """Pairs of pictures, before on the left, with what the inspector said below.

    Args:
        pictures: `before` and `after`, uint8 `[n, side, side, 3]`.
        said: Likewise, int64 `[n]` index into `LABELS`.
        titles: n titles.
        shown: Pairs.
        path: The PNG to write.
    """
    count = min(shown, len(titles))
    lines = -(-count // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * (2 * _TILE + 12), lines * (_TILE + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for index in range(count):
        x, y = index % _ACROSS * (2 * _TILE + 12), index // _ACROSS * (_TILE + _CAPTION)
        for place, name in enumerate(("before", "after")):
            tile = Image.fromarray(pictures[name][index]).resize((_TILE, _TILE), Image.Resampling.NEAREST)
            sheet.paste(tile, (x + place * _TILE, y))
            draw.text((x + place * _TILE, y + _TILE), LABELS[int(said[name][index])], fill="black")
        draw.text((x, y + _TILE + 12), titles[index][:40], fill="grey")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path
