"""The world's parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adray.config import Config, RunConfig
from adray.errors import ConfigError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Deviation = Annotated[float, Field(ge=0.0, le=10.0)]


class EffectsConfig(Config):
    """What moves a click: standard deviations of the parts of the click logit, over users and creatives."""

    sku_appeal: Deviation = 0.4
    """How much SKUs differ in appeal, whoever looks and whatever the creative."""
    affinity: Deviation = 0.5
    """How much a user's liking of a SKU (category taste, price) varies."""
    creative: Deviation = 0.55
    """Main effect of a creative through its elements: the same for all users."""
    creative_noise: Deviation = 0.1
    """Main effect of a creative that its elements do not explain."""
    interaction: Deviation = 0.7
    """The dial of personalisation: user taste times creative elements. 0 makes one creative per SKU best for everyone."""
    taste_dims: int = Field(default=3, ge=1, le=64)
    """Dimensions of the latent taste and element vectors."""
    visible_share: Share = 0.75
    """Share of the variance of tastes that age, city and gender explain; the rest shows in behaviour only."""


class PolicyConfig(Config):
    """The logging policy: epsilon-greedy on a model fitted to earlier blocks of the log itself."""

    epsilon: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """Probability of a uniformly random candidate; above 0 so that every candidate has a propensity."""
    model: Literal["creative_ctr", "element_ctr"] = "creative_ctr"
    """What ranks candidates: each creative's smoothed CTR, or the sum of its elements' smoothed log CTRs."""
    smoothing: float = Field(default=30.0, gt=0.0)
    """Pseudo-exposures at the SKU's (or the log's) CTR that are added to each count."""
    warm_up_blocks: int = Field(default=3, ge=1)
    """Blocks at the start in which the policy is uniform."""
    refresh_every: int = Field(default=4, ge=1)
    """Blocks between two fits of the model: the higher, the staler."""


class WorldConfig(Config):
    """A marketplace and its log."""

    users: int = Field(default=4_000, ge=2)
    """Number of users."""
    skus: int = Field(default=400, ge=1)
    """Number of products."""
    creatives_per_sku: tuple[int, int] = (2, 10)
    """Least and most creatives of a SKU, drawn uniformly."""
    impressions: int = Field(default=300_000, ge=1)
    """Rows of the log."""
    requests: int = Field(default=20_000, ge=1)
    """Decisions after the log's end, for evaluation."""
    base_ctr: float = Field(default=0.024, gt=0.0, lt=1.0)
    """Mean CTR of the log; the intercept of the click model is calibrated to it."""
    examination: list[float] = [1.0, 0.75, 0.55, 0.4]
    """Probability that a user looks at each position, relative to the first; clicks are multiplied by it."""
    blocks: int = Field(default=20, ge=2, le=10_000)
    """Equal parts of simulated time; histories and the policy change at their borders only."""
    days: float = Field(default=14.0, gt=0.0, le=3650.0)
    """Simulated length of the log in days."""
    cold_start_share: Share = 0.1
    """Share of creatives that the training part of the log never offers."""
    cold_start_from: Share = 0.85
    """Share of the log after which late creatives enter; rounded to a block's border."""
    cold_start_unlogged: Share = 0.5
    """Of the cold-start creatives, the share that appears in requests only, never in the log."""
    effects: EffectsConfig = EffectsConfig()
    """Sizes of the effects on clicks."""
    policy: PolicyConfig = PolicyConfig()
    """The logging policy."""
    truth_users: int | None = Field(default=None, ge=2)
    """Write the truth of this many users only, and draw requests from them; None means all users."""
    truth_limit: float = Field(default=2e8, gt=0.0)
    """Most click probabilities (users x creatives) that the truth table may hold."""
    images: bool = True
    """Render creatives and cut-outs; the log is the same with and without."""
    image_size: int = Field(default=96, ge=48, le=1024)
    """Width and height of a creative in pixels."""
    image_format: Literal["webp", "jpeg"] = "jpeg"
    """Encoding of the creatives' images; cut-outs are always PNG."""
    image_workers: int = Field(default=1, ge=1, le=64)
    """Processes that render images; the bytes do not depend on it."""

    @model_validator(mode="after")
    def _consistent(self) -> WorldConfig:
        low, high = self.creatives_per_sku
        if not 2 <= low <= high <= 64:
            raise ValueError(f"creatives_per_sku is [{low}, {high}]; it must be [least, most] with 2 <= least <= most <= 64")
        if not self.examination or self.examination[0] != 1.0 or not all(0.0 < e <= 1.0 for e in self.examination):
            raise ValueError(f"examination is {self.examination}; it must start with 1.0 and hold numbers in (0, 1]")
        reachable = sum(self.examination) / len(self.examination)
        if self.base_ctr >= 0.9 * reachable:
            raise ValueError(f"base_ctr is {self.base_ctr}, but positions leave at most {reachable:.3f}; lower it or raise examination")
        if self.policy.warm_up_blocks >= self.blocks:
            raise ValueError(f"policy.warm_up_blocks is {self.policy.warm_up_blocks}; it must be below blocks ({self.blocks})")
        if self.impressions < self.blocks:
            raise ValueError(f"impressions is {self.impressions}; it must be at least blocks ({self.blocks})")
        if self.truth_users is not None and self.truth_users > self.users:
            raise ValueError(f"truth_users is {self.truth_users}; it must be at most users ({self.users})")
        return self

    @property
    def cold_block(self) -> int:
        """First block that offers late creatives."""
        return round(self.cold_start_from * self.blocks)


class WorldRunConfig(RunConfig):
    """A run that simulates a world."""

    kind: Literal["world"]
    world: WorldConfig = WorldConfig()
    """The marketplace and its log."""


def check_truth_size(config: WorldConfig, creatives: int) -> int:
    """Number of probabilities in the truth table.

    Args:
        config: The world's parameters.
        creatives: Number of creatives, drawn or expected.

    Raises:
        ConfigError: If it passes `truth_limit`.
    """
    users = config.truth_users or config.users
    size = users * creatives
    if size > config.truth_limit:
        affordable = max(2, int(config.truth_limit // creatives))
        raise ConfigError(
            f"field 'world.truth_users': the truth of {users:,} users x {creatives:,} creatives is {size:,} probabilities, "
            f"above truth_limit {config.truth_limit:,.0f}",
            f"set world.truth_users to at most {affordable}, or raise world.truth_limit",
        )
    return size
