"""The figures of judged pictures: rates with intervals, what they gain over a baseline, how far an inspector agrees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from adray.bootstrap import difference_interval, ratio_interval
from adray.data.labels import LABELS
from adray.errors import DataError
from adray.simulation.oracle.diversity import HEADLINE, distances, diversity, kept
from adray.simulation.oracle.judge import Judged

PREFIX = "oracle"


def table_figures(found: Judged, resamples: int, seed: int, most: int) -> dict[str, float]:
    """Figures of one table. Intervals draw products with replacement, for one product's pictures are alike.

    Args:
        found: The pictures.
        resamples: Bootstrap draws.
        seed: Of the draws.
        most: Pictures whose backgrounds are compared.

    Returns:
        `oracle/available`, `oracle/share/<label>`, `oracle/prompt_obeyed` (of the pictures whose prompt names a wall colour),
        `oracle/prompt_obeyed_available` (of those among them that the oracle finds available), `oracle/diversity...`, where the
        maker accepted some, `oracle/accepted` and `oracle/available_of_accepted`, and, against the table's own labels where it has
        any, `oracle/agreement` and `oracle/binary_agreement`.
    """
    groups = _groups(found.skus)
    some = spread(len(found), most)
    asked = found.asked >= 0
    obeyed = asked & (found.background.hue == found.asked)
    good = found.available()
    figures = {"pictures": float(len(found)), "products": float(groups.max() + 1), "prompts": float(asked.sum())}
    figures |= {f"share/{label}": float(np.mean(found.label == i)) for i, label in enumerate(LABELS)}
    figures |= ratio_interval(*_sums(groups, good, np.ones_like(good)), resamples=resamples, seed=seed).metrics("available")
    if found.accepted.any():
        sums = _sums(groups, good & found.accepted, found.accepted)
        figures |= {"accepted": float(found.accepted.mean())}
        figures |= ratio_interval(*sums, resamples=resamples, seed=seed).metrics("available_of_accepted")
    if asked.any():
        figures |= ratio_interval(*_sums(groups, obeyed, asked), resamples=resamples, seed=seed).metrics("prompt_obeyed")
    if (asked & good).any():
        figures["prompt_obeyed_available"] = float(obeyed[asked & good].mean())
    figures |= {f"diversity{name}": value for name, value in diversity(found.background[some], found.asked[some]).items()}
    figures |= _truth_figures(found)
    return {f"{PREFIX}/{name}": value for name, value in figures.items()}


def _truth_figures(found: Judged) -> dict[str, float]:
    known = found.truth >= 0
    if not known.any():
        return {}
    label, truth = found.label[known], found.truth[known]
    figures = {"agreement": float(np.mean(label == truth)), "binary_agreement": float(np.mean((label == 0) == (truth == 0)))}
    drawn = known & (found.truth == 0) & (found.asked >= 0)
    if drawn.any():
        figures["prompt_obeyed_labelled_available"] = float(np.mean(found.background.hue[drawn] == found.asked[drawn]))
    return figures


def gain_figures(found: Judged, baseline: Judged, resamples: int, seed: int, most: int) -> dict[str, float]:
    """What pictures gain over others of the same requests.

    Args:
        found: The pictures.
        baseline: The others; pairs are of equal `keys`.
        resamples: Bootstrap draws of products.
        seed: Of the draws.
        most: Pictures whose backgrounds are compared.

    Returns:
        `oracle/available_gain` and `oracle/prompt_obeyed_gain` (differences), `oracle/diversity_kept...` (ratios), each of the
        first and the headline ratio with the ends of its interval, `oracle/pairs`, `oracle/unpaired`, `oracle/baseline/available`.

    Raises:
        DataError: If a request occurs twice in a table, or no request is in both.
    """
    own, other = paired_rows(found.keys, baseline.keys)
    strangers = [found.skus[i] for i, j in zip(own, other, strict=True) if found.skus[i] != baseline.skus[j]]
    if strangers:
        raise DataError(f"a request for product {strangers[0]!r} is for another in the baseline", "set data.pair_on")
    groups = _groups([found.skus[row] for row in own])
    ones = np.ones(len(own))
    good = [table.available()[rows] for table, rows in ((found, own), (baseline, other))]
    figures = {"pairs": float(len(own)), "unpaired": float(len(found) + len(baseline) - 2 * len(own))}
    figures["baseline/available"] = float(good[1].mean())
    sums = [_sums(groups, part, ones) for part in good]
    figures |= difference_interval(sums[0], sums[1], resamples=resamples, seed=seed).metrics("available_gain")
    asked = (found.asked[own] >= 0) & (found.asked[own] == baseline.asked[other])
    if asked.any():
        hues = (found.background.hue[own], baseline.background.hue[other])
        sums = [_sums(groups, asked & (hue == found.asked[own]), asked) for hue in hues]
        figures |= difference_interval(sums[0], sums[1], resamples=resamples, seed=seed).metrics("prompt_obeyed_gain")
    some = spread(len(own), most)
    new, old = (distances(t.background[rows[some]], t.asked[rows[some]]) for t, rows in ((found, own), (baseline, other)))
    chosen = _groups([found.skus[row] for row in own[some]])
    for name in new:
        interval = kept(new[name], old[name], chosen, resamples if name == HEADLINE else 1, seed)
        figures |= interval.metrics("diversity_kept") if name == HEADLINE else {f"diversity_kept{name}": interval.value}
    return {f"{PREFIX}/{name}": value for name, value in figures.items()}


def inspector_figures(found: Judged, verdicts: Mapping[str, tuple[str, bool]]) -> dict[str, float]:
    """How far an inspector agrees with the oracle, which is taken as the truth.

    Args:
        found: The pictures as the oracle judged them.
        verdicts: Picture's id -> label and whether it was accepted.

    Returns:
        `oracle/inspector/agreement` (five labels), `binary_agreement`, `precision`, `recall`, `f1` (positive: available, said:
        accepted), `accepted_share`, `pictures`.

    Raises:
        DataError: If there is no verdict on any of the pictures.
    """
    rows = [row for row, name in enumerate(found.ids) if name in verdicts]
    if not rows:
        problem = f"none of the {len(verdicts)} verdicts is on one of the pictures, e.g. {found.ids[0]!r}"
        raise DataError(problem, "give the verdicts on this table, or set data.id")
    said = np.array([verdicts[found.ids[row]][0] == LABELS[found.label[row]] for row in rows])
    accepted = np.array([verdicts[found.ids[row]][1] for row in rows])
    good = found.available()[rows]
    hits = float((accepted & good).sum())
    figures = {
        "agreement": said.mean(),
        "binary_agreement": np.mean(accepted == good),
        "precision": hits / max(accepted.sum(), 1),
        "recall": hits / max(good.sum(), 1),
        "f1": 2.0 * hits / max(accepted.sum() + good.sum(), 1),
        "accepted_share": accepted.mean(),
        "pictures": len(rows),
    }
    return {f"{PREFIX}/inspector/{name}": float(value) for name, value in figures.items()}


def paired_rows(first: Sequence[str], second: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two tables that have the same key, in the first's order: int64 `[pairs]` each.

    Raises:
        DataError: If a key occurs twice in a table, or none is in both.
    """
    for which, keys in (("data.pictures", first), ("data.baseline", second)):
        name, times = Counter(keys).most_common(1)[0]
        if times > 1:
            raise DataError(f"request {name!r} occurs {times} times in {which}", "set data.pair_on to columns that name a request")
    places = {key: row for row, key in enumerate(second)}
    own = [row for row, key in enumerate(first) if key in places]
    if not own:
        raise DataError(f"no request of data.pictures is in data.baseline, e.g. {first[0]!r} is not", "set data.pair_on")
    return np.array(own), np.array([places[first[row]] for row in own])


def spread(rows: int, most: int) -> np.ndarray:
    """At most `most` row numbers, spread evenly: int64."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64))


def _groups(skus: Sequence[str]) -> np.ndarray:
    return np.unique(np.array(skus, dtype=object), return_inverse=True)[1]


def _sums(groups: np.ndarray, numerators: np.ndarray, denominators: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.bincount(groups, numerators.astype(float)), np.bincount(groups, denominators.astype(float))
