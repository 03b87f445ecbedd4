"""The log: what was shown to whom, in blocks of simulated time, and what was clicked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from adray.simulation.catalogue import LATE, UNLOGGED, WARM
from adray.simulation.clicks import ClickModel, calibrate
from adray.simulation.config import WorldConfig
from adray.simulation.policy import Policy, creative_scores, greedy_policy

START_MS = 1_704_067_200_000
"""2024-01-01T00:00:00Z, where simulated time starts."""
_DAY_MS = 86_400_000
_CALIBRATION_ROUNDS = 16
_CALIBRATION_TOLERANCE = 0.002


@dataclass(frozen=True)
class Traffic:
    """n decisions to be made: who asks for what, when and where on the page.

    Attributes:
        users: int64 `[n]`.
        skus: int64 `[n]`.
        position: int64 `[n]`.
        block: int64 `[n]`, non-decreasing.
        time_ms: int64 `[n]`, milliseconds since the epoch, non-decreasing.
    """

    users: np.ndarray
    skus: np.ndarray
    position: np.ndarray
    block: np.ndarray
    time_ms: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Log:
    """Traffic with what the policy showed and what was clicked.

    Attributes:
        traffic: The decisions, in order of time.
        policies: The policy of each block.
        request_policy: The policy after the log's end.
        exposed: int64 `[n]`, place of the shown creative in its SKU's list.
        creative: int64 `[n]`, the shown creative.
        probability: float64 `[n]`, true click probability at the row's position.
        clicked: bool `[n]`.
        intercept: Of the click model, such that the log's mean CTR is the configured one.
    """

    traffic: Traffic
    policies: list[Policy]
    request_policy: Policy
    exposed: np.ndarray
    creative: np.ndarray
    probability: np.ndarray
    clicked: np.ndarray
    intercept: float


def log_end_ms(config: WorldConfig) -> int:
    """The log's end, in milliseconds since the epoch."""
    return START_MS + round(config.days * _DAY_MS)


def block_start_ms(config: WorldConfig, block: int) -> int:
    """A block's start, in milliseconds since the epoch."""
    return START_MS + (log_end_ms(config) - START_MS) * block // config.blocks


def draw_traffic(config: WorldConfig, model: ClickModel, rng: np.random.Generator) -> Traffic:
    """Draw the log's decisions: active users ask more, for categories they like and SKUs that are popular."""
    n = config.impressions
    block = np.arange(n) * config.blocks // n
    starts = np.array([block_start_ms(config, b) for b in range(config.blocks + 1)])
    time_ms = starts[block] + (rng.random(n) * np.diff(starts)[block]).astype(np.int64)
    users = draw_weighted(model.users.activity, n, rng)
    return Traffic(users, draw_skus(model, users, rng), rng.integers(len(config.examination), size=n), block, np.sort(time_ms))


def draw_requests(config: WorldConfig, model: ClickModel, truth_users: np.ndarray, rng: np.random.Generator) -> Traffic:
    """Draw decisions of one block's length after the log's end, at the first position, by users whose truth is written."""
    n = config.requests
    length = log_end_ms(config) - block_start_ms(config, config.blocks - 1)
    time_ms = np.sort(log_end_ms(config) + (rng.random(n) * length).astype(np.int64))
    users = truth_users[draw_weighted(model.users.activity[truth_users], n, rng)]
    return Traffic(users, draw_skus(model, users, rng), np.zeros(n, np.int64), np.full(n, config.blocks), time_ms)


def draw_weighted(weight: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n indices with probability proportional to weight: int64 `[n]`."""
    cumulated = np.cumsum(weight)
    return np.minimum(np.searchsorted(cumulated, rng.random(n) * cumulated[-1], side="right"), len(weight) - 1)


def draw_skus(model: ClickModel, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a SKU for each user: a category by the user's taste, then a SKU of it by popularity: int64 `[n]`."""
    category = model.products.category
    order = np.argsort(category, kind="stable")
    cumulated = np.concatenate([[0.0], np.cumsum(model.products.popularity[order])])
    counts = np.bincount(category, minlength=model.users.category_taste.shape[1])
    ends = np.cumsum(counts)
    # A small world may lack products of some category.
    weight = np.where(counts > 0, np.exp(0.7 * model.users.category_taste), 0.0)
    choice = np.cumsum(weight, axis=1)
    wanted = rng.random(len(users)) * choice[users, -1]
    chosen = np.zeros(len(users), np.int64)
    for column in choice.T[: np.flatnonzero(counts)[-1]]:
        chosen += column[users] <= wanted
    low, high = cumulated[ends[chosen] - counts[chosen]], cumulated[ends[chosen]]
    place = np.searchsorted(cumulated, low + rng.random(len(users)) * (high - low), side="right") - 1
    return order[np.clip(place, ends[chosen] - counts[chosen], ends[chosen] - 1)]


def simulate_log(config: WorldConfig, model: ClickModel, traffic: Traffic, rng: np.random.Generator) -> Log:
    """Show and click, block by block, with an intercept calibrated so that the log's expected mean CTR is `base_ctr`.

    The policy learns from clicks, so the mean CTR depends on the log that it makes: the log is simulated with the same
    random numbers a few times, each time correcting the intercept on what was shown; the closest one is kept. One round
    or two do for large logs; in tiny ones a changed click flips what the policy prefers, so a few more are tried.
    """
    n = len(traffic)
    explore, pick, look = rng.random(n), rng.random(n), rng.random(n)
    context = model.context_logit(traffic.users, traffic.skus)
    examination = np.array(config.examination)[traffic.position]
    uniform = model.creatives.offsets[traffic.skus] + np.floor(pick * model.creatives.offered(WARM)[traffic.skus]).astype(np.int64)
    intercept = calibrate(context + model.creative_logit(traffic.users, uniform), examination, config.base_ctr)
    best = log = _run_blocks(config, model, traffic, context, (explore, pick, look), intercept)
    low, high = -np.inf, np.inf
    for _ in range(_CALIBRATION_ROUNDS):
        if abs(_ctr_error(best, config)) < _CALIBRATION_TOLERANCE:
            break
        low, high = (intercept, high) if _ctr_error(log, config) < 0.0 else (low, intercept)
        intercept = calibrate(context + model.creative_logit(traffic.users, log.creative), examination, config.base_ctr)
        if not low < intercept < high:
            intercept = (low + high) / 2.0
        log = _run_blocks(config, model, traffic, context, (explore, pick, look), intercept)
        if abs(_ctr_error(log, config)) < abs(_ctr_error(best, config)):
            best = log
    return best


def _ctr_error(log: Log, config: WorldConfig) -> float:
    return float(log.probability.mean() / config.base_ctr - 1.0)


def _run_blocks(
    config: WorldConfig,
    model: ClickModel,
    traffic: Traffic,
    context: np.ndarray,
    draws: tuple[np.ndarray, np.ndarray, np.ndarray],
    intercept: float,
) -> Log:
    explore, pick, look = draws
    n, creatives = len(traffic), model.creatives
    exposed, creative = np.zeros(n, np.int64), np.zeros(n, np.int64)
    probability, clicked = np.zeros(n), np.zeros(n, bool)
    examination = np.array(config.examination)[traffic.position]
    exposures, clicks = np.zeros(len(creatives)), np.zeros(len(creatives))
    scores, policies = np.zeros(len(creatives)), []
    borders = np.searchsorted(traffic.block, np.arange(config.blocks + 1))
    for block in range(config.blocks):
        if refreshes(config, block):
            scores = creative_scores(config.policy, creatives, exposures, clicks)
        epsilon = 1.0 if block < config.policy.warm_up_blocks else config.policy.epsilon
        policy = greedy_policy(epsilon, creatives, scores, LATE if block >= config.cold_block else WARM)
        rows = slice(borders[block], borders[block + 1])
        users, skus = traffic.users[rows], traffic.skus[rows]
        exposed[rows] = policy.choose(skus, explore[rows], pick[rows])
        creative[rows] = creatives.offsets[skus] + exposed[rows]
        logit = intercept + context[rows] + model.creative_logit(users, creative[rows])
        probability[rows] = examination[rows] * expit(logit)
        clicked[rows] = look[rows] < probability[rows]
        exposures += np.bincount(creative[rows], minlength=len(creatives))
        clicks += np.bincount(creative[rows], clicked[rows], minlength=len(creatives))
        policies.append(policy)
    request_policy = greedy_policy(config.policy.epsilon, creatives, scores, UNLOGGED)
    return Log(traffic, policies, request_policy, exposed, creative, probability, clicked, intercept)


def refreshes(config: WorldConfig, block: int) -> bool:
    """Whether the policy's model is fitted anew before this block."""
    since = block - config.policy.warm_up_blocks
    return since >= 0 and since % config.policy.refresh_every == 0
