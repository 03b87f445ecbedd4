"""The verb `evaluate` of kind `embedding`: measure, compare, decide, report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset
from PIL import Image

from adray.bootstrap import Interval
from adray.errors import DataError
from adray.files import write_json
from adray.representation.embedding.config import EmbeddingRunConfig
from adray.representation.embedding.creatives import creatives_table
from adray.representation.embedding.job import EMBEDDINGS, ENCODER, prepare_encoder, provenance_for
from adray.representation.embedding.provenance import Provenance, iterate_vectors, read_provenance
from adray.representation.quality.gate import Evidence, Finding, verdict
from adray.representation.quality.geometry import alignment, uniformity
from adray.representation.quality.judged import Judged, is_table, pictures_of, select, vectors_of
from adray.representation.quality.measure import FULL, Probe, ablate, compare, key_metric, make_tasks, measure, probe
from adray.representation.quality.sheet import contact_sheet
from adray.representation.quality.splits import query_rows
from adray.representation.quality.tasks import Answers, Task, ask
from adray.representation.quality.variants import VARIANTS, variant_vectors
from adray.representation.retrieval.exact import ExactSearch
from adray.representation.retrieval.search import open_index
from adray.run import Run
from adray.training.tracking import METRICS_FILE, open_trackers, read_metrics

EVALUATION, VERDICT_FILE = "evaluation", "verdict.json"
_NEIGHBOURS = 7
HEADLINES = ["representation/gate_passed", "representation/uniformity", "representation/alignment", "representation/ann_recall"]


@dataclass(frozen=True)
class Measured:
    """Everything that was measured on one version."""

    answers: dict[tuple[str, str], Answers]
    intervals: dict[tuple[str, str], dict[str, Interval]]
    probes: dict[tuple[str, str], Probe]
    ablation: dict[str, Interval]


def judge(config: EmbeddingRunConfig, run: Run) -> None:
    """Judge the run's vectors and say pass or fail with reasons.

    Raises:
        DataError: If the vectors are missing, were made by another encoder than the config's, or too few can be judged.
    """
    settings, folder = config.evaluation, run.folder / EVALUATION
    table = str(run.folder / EMBEDDINGS)
    with run.stage("select"):
        provenance = read_provenance(table)
        embedded = pyarrow.dataset.dataset(table, format="parquet").to_table(columns=["creative_id", "sku_id"])
        data = config.data.model_copy(update={"creatives": creatives_table(config.data, run.folder)})
        judged = select(data, settings, embedded, config.seed)
    with run.stage("variants"):
        vectors = _vectors(config, run, judged, provenance, folder)
    splits = query_rows(judged.rows["sku_id"].to_pylist(), judged.creative_ids, judged.times, settings.query_share, config.seed)
    with run.stage("measure"):
        measured = _measure(config, judged, vectors, splits)
        previous = _previous(config, judged, splits)
        differences = None if previous is None else compare(measured.answers, previous, judged, settings, config.seed)
        spread = uniformity(vectors[FULL][vectors[FULL].any(axis=1)])
        ann = None if settings.index is None else _ann_recall(settings.index, table, provenance, vectors[FULL], max(settings.ks))
    key = (settings.primary_split, settings.primary)
    metric = key_metric(settings.primary, settings.ks)
    evidence = Evidence(
        primary=measured.intervals[key][metric] if key in measured.intervals else None,
        primary_chance=measured.answers[key].chance[metric] if key in measured.answers else float("nan"),
        differences=differences,
        ablation=measured.ablation,
        uniformity=spread,
        ann_recall=ann,
    )
    findings = verdict(evidence, settings)
    with run.stage("report"):
        _log(config, run, judged, vectors, measured, evidence)
        _tables(config, run, measured, evidence, findings)
        sheet = _sheet(config, judged, vectors[FULL], run.folder / "plots" / "neighbours.png")
        run.add_plot("Nearest neighbours of the full vectors: the query, then its neighbours; green frames share its SKU", sheet)
        _track(config, run, sheet)
    write_json(folder / VERDICT_FILE, {"passed": all(f.passed for f in findings), "findings": [vars(f) for f in findings]})


def _vectors(config: EmbeddingRunConfig, run: Run, judged: Judged, provenance: Provenance, folder: Path) -> dict[str, np.ndarray]:
    vectors = {FULL: vectors_of(str(run.folder / EMBEDDINGS), provenance, judged.creative_ids)}
    if config.evaluation.ablation:
        kept = run.folder / ENCODER
        own = config if config.artifact is not None or not kept.is_dir() else config.model_copy(update={"artifact": str(kept)})
        encoder = prepare_encoder(own, run.folder)
        now = provenance_for(config, encoder[2], encoder[1])
        if now != provenance:
            problem = f"the vectors of run {config.name!r} and this config differ: {provenance.difference(now)}"
            raise DataError(problem, "judge with the config that embedded, or embed again")
        vectors |= {str(name): found for name, found in variant_vectors(config, judged, folder, encoder).items()}
    return vectors


def _measure(config: EmbeddingRunConfig, judged: Judged, vectors: Mapping[str, np.ndarray], splits: Mapping[str, np.ndarray]) -> Measured:
    settings = config.evaluation
    answers = measure(make_tasks(judged, vectors), splits, settings.ks)
    intervals = {key: found.intervals(judged.skus, settings.resamples, config.seed) for key, found in answers.items()}
    probes = probe(judged, vectors[FULL], splits, settings.resamples, config.seed)
    both = "image_shuffled" in vectors
    ablation = ablate(judged, vectors, settings, config.seed) if both else {}
    return Measured(answers, intervals, probes, ablation)


def _previous(config: EmbeddingRunConfig, judged: Judged, splits: Mapping[str, np.ndarray]) -> dict[tuple[str, str], Answers] | None:
    """The same questions put to the previous version."""
    given = config.evaluation.previous
    if given is None:
        return None
    folder = Path(given)
    tables = {FULL: folder if is_table(folder) else folder / EMBEDDINGS}
    tables |= {name: folder / EVALUATION / name / EMBEDDINGS for name in VARIANTS}
    vectors = {}
    for name, table in tables.items():
        if name == FULL or (table.is_dir() and is_table(table)):
            vectors[str(name)] = vectors_of(str(table), read_provenance(str(table)), judged.creative_ids)
    if not vectors[FULL].any():
        raise DataError(f"field 'evaluation.previous': {given} has no vector of the judged creatives", "embed the same creatives with it")
    return measure(make_tasks(judged, vectors), splits, config.evaluation.ks)


def _ann_recall(index: str, table: str, provenance: Provenance, vectors: np.ndarray, k: int) -> float:
    """Share of the exact neighbours in the whole table that the index finds: says nothing about what the neighbours mean."""
    queries = vectors[vectors.any(axis=1)]
    exact = ExactSearch(queries, k)
    for ids, block in iterate_vectors(table, provenance):
        exact.add(ids, block)
    with open_index(index, expect=provenance) as opened:
        return exact.recall(opened.search(queries, k).ids)


def _log(
    config: EmbeddingRunConfig,
    run: Run,
    judged: Judged,
    vectors: Mapping[str, np.ndarray],
    measured: Measured,
    evidence: Evidence,
) -> None:
    figures: dict[str, float] = {
        "judged": len(judged),
        "near_duplicates": judged.sampled - len(judged),
        "uniformity": evidence.uniformity,
        "alignment": _alignment(vectors[FULL], judged.skus),
        "gate_passed": float(all(f.passed for f in verdict(evidence, config.evaluation))),
    }
    if evidence.ann_recall is not None:
        figures["ann_recall"] = evidence.ann_recall
    for (split, task), found in measured.answers.items():
        intervals = measured.intervals[split, task]
        key = key_metric(task, config.evaluation.ks)
        for name, interval in intervals.items():
            figures[f"{split}/{task}/{name}"] = interval.value
        figures |= intervals[key].metrics(f"{split}/{task}/{key}")
        figures[f"{split}/{task}/chance"] = found.chance[key]
        figures[f"{split}/{task}/lift"] = intervals[key].value / max(found.chance[key], 1e-12)
        figures[f"{split}/{task}/queries"] = len(found.rows)
    for (split, label), one in measured.probes.items():
        figures |= one.accuracy.metrics(f"{split}/probe/{label}") | {f"{split}/probe/{label}_chance": one.chance}
    for name, gain in measured.ablation.items():
        figures |= gain.metrics(f"ablation/full_minus_{name}")
    for (split, task), change in (evidence.differences or {}).items():
        figures |= change.metrics(f"{split}/{task}/change")
    run.log({f"representation/{name}": value for name, value in figures.items()})
    primary = f"{config.evaluation.primary_split}/{config.evaluation.primary}"
    run.headlines += [*HEADLINES, f"representation/{primary}/{key_metric(config.evaluation.primary, config.evaluation.ks)}"]


def _alignment(vectors: np.ndarray, skus: np.ndarray) -> float:
    """Over pairs of neighbouring creatives of a SKU in id order."""
    order = np.argsort(skus, kind="stable")
    order = order[vectors[order].any(axis=1)]
    pairs = skus[order][1:] == skus[order][:-1]
    return alignment(vectors[order[:-1][pairs]], vectors[order[1:][pairs]])


def _tables(config: EmbeddingRunConfig, run: Run, measured: Measured, evidence: Evidence, findings: list[Finding]) -> None:
    passed = all(finding.passed for finding in findings)
    rows = [(finding.name, "pass" if finding.passed else "FAIL", finding.detail) for finding in findings]
    run.add_table(f"Quality gate: {'pass' if passed else 'FAIL'}", ["condition", "verdict", "figures"], rows)
    tasks = []
    for (split, task), found in sorted(measured.answers.items()):
        intervals = measured.intervals[split, task]
        key = key_metric(task, config.evaluation.ks)
        lift = intervals[key].value / max(found.chance[key], 1e-12)
        chance = round(found.chance[key], 4)
        tasks.append((split, task, len(found.rows), key, str(intervals[key]), chance, f"{lift:.1f}x", str(intervals["mrr"])))
    note = "Intervals: 95 % bootstrap over SKUs. Chance: the mean over random orders."
    run.add_table("Retrieval", ["split", "task", "queries", "metric", "value", "chance", "lift", "MRR"], tasks, note)
    probes = [(split, label, str(one.accuracy), round(one.chance, 4)) for (split, label), one in sorted(measured.probes.items())]
    if probes:
        run.add_table("Probes: kNN accuracy (k = 20, T = 0.07)", ["split", "label", "accuracy", "most frequent"], probes)
    if measured.ablation:
        metric = key_metric("same_sku", config.evaluation.ks)
        run.add_table("Ablation", ["full minus", f"same-SKU {metric}"], [(name, str(gain)) for name, gain in measured.ablation.items()])
    if evidence.differences is not None:
        changes = [(split, task, str(change)) for (split, task), change in sorted(evidence.differences.items())]
        run.add_table("Against the previous version", ["split", "task", "change, paired"], changes)


def _sheet(config: EmbeddingRunConfig, judged: Judged, vectors: np.ndarray, path: Path) -> Path:
    everyone = np.ones(len(judged), bool)
    found = ask(Task("same_sku", vectors, vectors, judged.skus, True), everyone, [_NEIGHBOURS])
    if found is None:
        # Every SKU has one creative: neighbours are still worth a look.
        found = ask(Task("any", vectors, vectors, np.zeros(len(judged), np.int64), True), everyone, [_NEIGHBOURS])
    if found is None:
        raise DataError("no vector to draw neighbours of", "embed the creatives again")
    count = min(config.evaluation.sheet_queries, len(found.rows))
    chosen = np.random.default_rng(config.seed).choice(len(found.rows), count, replace=False)
    ids = judged.creative_ids
    rows = [[int(found.rows[i]), *(int(j) for j in found.neighbours[i] if j >= 0)] for i in chosen]
    right = [[bool(judged.skus[j] == judged.skus[row[0]]) for j in row[1:]] for row in rows]
    pictures = _unique_pictures(judged, rows)
    captions = [[_caption(judged, ids, j) for j in row] for row in rows]
    return contact_sheet([[pictures[j] for j in row] for row in rows], captions, right, path)


def _unique_pictures(judged: Judged, rows: list[list[int]]) -> dict[int, np.ndarray | None]:
    wanted = sorted({j for row in rows for j in row})
    return dict(zip(wanted, pictures_of(judged, wanted), strict=True))


def _caption(judged: Judged, ids: list[str], row: int) -> str:
    copy = judged.rows["copy"][row].as_py() if "copy" in judged.rows.column_names else None
    return copy or ids[row]


def _track(config: EmbeddingRunConfig, run: Run, sheet: Path) -> None:
    """The gate's figures, its table and the page to the trackers."""
    trackers = open_trackers(config.tracking, run.folder, config.name, json.loads(config.model_dump_json()), _last_step(run))
    failed = True
    try:
        step = _last_step(run) + 1
        trackers.metrics(step, {name: value for name, value in run.metrics.items() if name.startswith("representation/")})
        trackers.pictures(step, {"nearest_neighbours": np.asarray(Image.open(sheet))})
        for table in run.report_tables:
            trackers.table(table.title, table.columns, table.rows)
        failed = False
    finally:
        trackers.close(failed)


def _last_step(run: Run) -> int:
    return max((row["step"] for row in read_metrics(run.folder / METRICS_FILE)), default=0)
