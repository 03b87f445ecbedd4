"""What a run says of its ranker: held-out metrics, the split's parity, true value in a simulated world, plots."""

from __future__ import annotations

import torch

from adray.data.config import DataConfig
from adray.data.tables import Tables
from adray.ranking import plots
from adray.ranking.cold_start import cold_value
from adray.ranking.evaluation import HeldOutScores, collect_scores, held_out_metrics, judge_copy_pairs
from adray.ranking.joint import JointRanker
from adray.ranking.metrics import auc, calibration_table
from adray.ranking.pair_accuracy import pair_accuracy_by_z
from adray.ranking.parity import split_max_abs_diff
from adray.ranking.run_config import EvaluationConfig
from adray.ranking.scoring import HeavyRanker, LightRanker
from adray.ranking.task import Features, lists_of
from adray.ranking.world_value import WorldValue, load_request_truth, true_ad_auc, world_value
from adray.run import Run

_Z_EDGES = (0.0, 1.0, 1.96, 2.58, 4.0, float("inf"))


def restore(light: LightRanker | None, heavy: HeavyRanker | None, features: Features) -> JointRanker:
    """The joint graph from exported halves, to score lists of any table, also creatives that the store does not hold.

    Args:
        light: The light half; None when the run has none.
        heavy: The heavy half likewise.
        features: The catalogue of the lists to score, and the training log's counts.
    """
    half = light or heavy
    assert half is not None, "a ranker has at least one half"
    collate = features.collate(half.config, training=False)
    joint = JointRanker(half.config, collate.catalogue, collate.skus)
    if light is not None and joint.light is not None:
        joint.light.load_state_dict(light.module.state_dict())
    if heavy is not None and joint.heavy is not None:
        joint.heavy.load_state_dict(heavy.module.state_dict())
    return joint.eval()


def judge_held_out(run: Run, joint: JointRanker, table: str, features: Features, config: EvaluationConfig, data: DataConfig) -> None:
    """Report held-out metrics, with `<adapter>/pair_accuracy` for randomised tests, and their plots.

    `ranker/whole_auc` is the click AUC of the whole graph, which knows the shown creative and, if trained jointly, the live
    ad score (JAC's row in the paper's table 4, where `ranker/ad_auc` is AR+); serving has neither at hand when it ranks ads.
    """
    with torch.inference_mode():
        scores = collect_scores(joint, lists_of(table, joint.config, features, config.batch_rows))
    metrics = held_out_metrics(scores, heavy=joint.heavy is not None, light=joint.light is not None)
    run.log(metrics)
    if joint.heavy is not None and joint.light is not None and scores.single.any():
        with torch.inference_mode():
            live = collect_scores(joint, lists_of(table, joint.config, features, config.batch_rows), historical=False)
        run.log({"ranker/whole_auc": auc(*live.exposed_probability())})
    if data.adapter == "upworthy":
        run.log({name.replace("ranker/", "upworthy/"): value for name, value in metrics.items() if "pair_accuracy" in name})
    _plot_held_out(run, joint, scores)


def judge_split(run: Run, joint: JointRanker, light: LightRanker, table: str, features: Features, config: EvaluationConfig) -> None:
    """Report the largest difference between the exported light half and the joint graph at the same ad score."""
    batches = lists_of(table, joint.config, features, config.parity_rows)
    batch = next(iter(batches))
    run.log({"ranker/split_max_abs_diff": split_max_abs_diff(joint, light, batch)})


def judge_in_world(
    run: Run, joint: JointRanker, tables: Tables, features: Features, config: EvaluationConfig, seed: int
) -> WorldValue | None:
    """Report what the served order is truly worth; None when the data is no simulated world."""
    if tables.requests is None or tables.truth is None or joint.light is None:
        return None
    truth = load_request_truth(tables.requests, tables.truth)
    with torch.inference_mode():
        scores = collect_scores(joint, lists_of(tables.requests, joint.config, features, config.batch_rows), historical=True)
    value = world_value(truth, scores.click_logit, resamples=config.resamples, seed=seed)
    run.log({f"ranker/{name}": number for name, number in value.metrics().items()})
    if joint.heavy is not None:
        run.log({"ranker/true_ad_auc": true_ad_auc(truth, scores.ad_probability)})
    new = joint.skus.creative_counts(scores.creatives)[0] == 0
    cold = cold_value(truth, scores.click_logit, new, resamples=config.resamples, seed=seed)
    if cold is not None:
        run.log({f"ranker/{name}": number for name, number in cold.metrics().items()})
    run.add_plot(
        "What each policy is worth in the world", plots.policy_values(value.policies(), run.folder / "plots" / "policy_values.png")
    )
    run.add_table(
        "True click rate of each policy",
        ["policy", "true CTR", "95 % low", "95 % high"],
        [[name, one.value, one.low, one.high] for name, one in value.policies().items()],
        "Exact probabilities of the simulated world on requests after the log; intervals over requests.",
    )
    return value


def _plot_held_out(run: Run, joint: JointRanker, scores: HeldOutScores) -> None:
    folder = run.folder / "plots"
    if joint.heavy is not None and scores.single.any():
        table = calibration_table(scores.clicked[scores.single], scores.ad_probability[scores.single])
        run.add_plot("Ad click probability", plots.calibration_curve(table, folder / "ad_calibration.png"))
    if joint.light is not None and scores.single.any():
        table = calibration_table(*scores.exposed_probability())
        run.add_plot("Creative click probability", plots.calibration_curve(table, folder / "creative_calibration.png"))
    if joint.light is not None and (scores.impressions > 0).any():
        bins = pair_accuracy_by_z(judge_copy_pairs(scores), _Z_EDGES)
        run.add_plot("Pair accuracy", plots.pair_accuracy_bars(bins, _Z_EDGES, folder / "pair_accuracy.png"))
