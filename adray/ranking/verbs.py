"""What the command line calls for configs of kind `ranker`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from adray.checks import Check
from adray.data.checks import data_checks
from adray.data.ingest import ingest
from adray.data.tables import Tables
from adray.errors import ArtifactError
from adray.ranking import judgement
from adray.ranking.catalogue import Catalogue, build_catalogue
from adray.ranking.checks import run_checks
from adray.ranking.run_config import RankerRunConfig
from adray.ranking.scoring import HeavyRanker, LightRanker
from adray.ranking.task import Features, RankerTask, build_features
from adray.run import Run
from adray.training.checks import training_checks
from adray.training.in_run import fit_in_run
from adray.training.loop import EXPORT

_log = logging.getLogger(__name__)

CONFIG = RankerRunConfig
HEADLINES = [
    "ranker/oracle_uplift_share",
    "upworthy/pair_accuracy",
    "ranker/nsctr",
    "ranker/click_auc",
    "ranker/ad_auc",
    "ranker/split_max_abs_diff",
]
"""Metrics that a ranker's report shows first, as far as the run has them."""

_TABLES, _FEATURES, _EVALUATION = "tables", "features", "evaluation"


def train(config: RankerRunConfig, run: Run) -> None:
    """Ingest the tables, train, export both halves, and judge them.

    Raises:
        AdrayError: Whatever is the user's to mend in data, config or resources.
    """
    tables, features = _prepare(config, run)
    with run.stage("train"):
        fit_in_run(_task(config, tables, features), config, run)
    _judge(config, run, tables, features, tables.holdout, *_load(run))


def export(config: RankerRunConfig, run: Run) -> None:
    """Write the artifacts again from the run's last complete checkpoint, without training on; for a run that was stopped early.

    Raises:
        ArtifactError: If the run has no checkpoint.
    """
    tables, features = _prepare(config, run)
    with run.stage("export"):
        fit_in_run(_task(config, tables, features), config, run, export_only=True)
    with run.stage("evaluate"):
        light, heavy = _load(run)
        if light is not None:
            judgement.judge_split(run, judgement.restore(light, heavy, features), light, tables.train, features, config.evaluation)


def evaluate(config: RankerRunConfig, run: Run) -> None:
    """Judge the run's artifacts on `data`: on its held-out rows when it is the table that was trained on, else on all its rows.

    Raises:
        ArtifactError: If the run has no artifact yet.
        DataError: If the table cannot be used.
    """
    light, heavy = _load(run)
    folder = run.folder / _EVALUATION
    with run.stage("ingest"):
        own = ingest(config.data, run.folder / _TABLES) if _same_data(config, run) else None
        tables = own or ingest(config.data.model_copy(update={"holdout": 0.0}), folder / _TABLES)
    with run.stage("features"):
        features = Features(folder / "catalogue", run.folder / _FEATURES / "skus")
        catalogue = build_catalogue(tables.creatives or "", features.catalogue, tables.embeddings, tables.attributes)
    if light is not None:
        _report_unknown(run, light, catalogue)
    run.tables += [path for path in (tables.train, tables.holdout, tables.quarantine) if path]
    _report_rows(run, tables)
    run.log({"data/rows/evaluated": tables.rows.get("holdout", 0) if own else tables.rows["train"]})
    _judge(config, run, tables, features, tables.holdout if own else tables.train, light, heavy)


def checks(config: RankerRunConfig, verb: str) -> Iterable[Check]:
    """What the run's folder must hold, data, batch arithmetic, lanes, resources and versions."""
    yield from run_checks(config, verb)
    yield from data_checks(config.data)
    if verb == "train":
        yield from training_checks(config.training, lanes=config.data.lanes, run_folder=Path(config.runs_dir) / config.name)


def _prepare(config: RankerRunConfig, run: Run) -> tuple[Tables, Features]:
    with run.stage("ingest"):
        tables = ingest(config.data, run.folder / _TABLES)
    with run.stage("features"):
        features = build_features(tables, config.model, run.folder / _FEATURES)
    run.tables += [path for path in (tables.train, tables.holdout, tables.quarantine) if path]
    _report_rows(run, tables)
    return tables, features


def _report_rows(run: Run, tables: Tables) -> None:
    run.log({f"data/rows/{name}": float(rows) for name, rows in tables.rows.items()})
    run.log({f"data/quarantined/{name}": float(rows) for name, rows in tables.quarantined.items()})
    run.log({f"data/left_out/{name}": float(rows) for name, rows in tables.left_out.items()})


def _report_unknown(run: Run, light: LightRanker, catalogue: Catalogue) -> None:
    """Count the creatives that are not in the light artifact's store; the joint graph scores them by what they show."""
    unknown = np.flatnonzero(~np.isin(catalogue.creatives, light.store.creatives))
    run.log({"data/creatives_unknown": float(unknown.size)})
    if unknown.size:
        first = catalogue.names.text(int(unknown[0]))
        _log.info("%d of %d creatives are unknown to the artifact, for example %r", unknown.size, len(catalogue), first)


def _task(config: RankerRunConfig, tables: Tables, features: Features) -> RankerTask:
    return RankerTask(config.model, config.data, tables, features, config.seed, config.evaluation.batch_rows)


def _judge(
    config: RankerRunConfig,
    run: Run,
    tables: Tables,
    features: Features,
    held_out: str | None,
    light: LightRanker | None,
    heavy: HeavyRanker | None,
) -> None:
    run.headlines += HEADLINES
    with run.stage("evaluate"):
        joint = judgement.restore(light, heavy, features)
        if held_out is not None:
            judgement.judge_held_out(run, joint, held_out, features, config.evaluation, config.data)
        # A table from elsewhere may hold none of the creatives that the store knows.
        if light is not None and held_out != tables.train:
            judgement.judge_split(run, joint, light, tables.train, features, config.evaluation)
        judgement.judge_in_world(run, joint, tables, features, config.evaluation, config.seed)


def _load(run: Run) -> tuple[LightRanker | None, HeavyRanker | None]:
    folder = run.folder / EXPORT
    light = LightRanker.load(folder / "light") if (folder / "light").exists() else None
    heavy = HeavyRanker.load(folder / "heavy") if (folder / "heavy").exists() else None
    if light is None and heavy is None:
        raise ArtifactError(f"run {run.name!r} has no artifact in {folder}", "train it first")
    return light, heavy


def _same_data(config: RankerRunConfig, run: Run) -> bool:
    """Whether `data` names the very table that the run was trained on."""
    from adray.data.adapters import open_inputs
    from adray.data.ingest import fingerprint
    from adray.data.tables import read_tables

    return read_tables(run.folder / _TABLES).fingerprint == fingerprint(config.data, open_inputs(config.data))
