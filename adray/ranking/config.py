"""What a ranker is made of: feature fields, the two halves, and the objective they are trained with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from adray.config import Config

Rate = Annotated[float, Field(ge=0.0, le=1.0)]


class FeatureConfig(Config):
    """One feature field, read from the impressions column of the same name."""

    name: str
    """The column: `user_*`, `sku_*`, `cross_*`, `user_id`, `sku_id` or any other id column."""
    kind: Literal["id", "number", "bag"] = "id"
    """`id`: one string or integer; `number`: a float, put into quantile buckets; `bag`: a list of strings, summed over
    the root of their number."""
    rows: int = Field(default=10_000, ge=2)
    """Rows of the hashed table (id and bag); row 0 is the null row."""
    buckets: int = Field(default=32, ge=2)
    """Quantile buckets (number)."""
    dim: int | None = Field(default=None, ge=1)
    """Width of the embedding; None takes the half's `dim`."""

    @property
    def table_rows(self) -> int:
        """Rows that the field needs in a table, the null row among them."""
        return self.buckets + 1 if self.kind == "number" else self.rows


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


FeatureField = Annotated[FeatureConfig, BeforeValidator(_named)]
"""A feature field; a bare string in YAML is an id field with the default table."""


def _refuse_repeats(fields: list[FeatureConfig], where: str) -> None:
    names = [f.name for f in fields]
    repeated = next((n for n in names if names.count(n) > 1), None)
    if repeated is not None:
        raise ValueError(f"{where} lists the field {repeated!r} twice; keep one")


class HistoryConfig(Config):
    """The behaviour sequence: SKUs clicked before, read by a Transformer with the scored SKU as its target."""

    name: str = "user_history"
    """A list-of-SKU-ids column, oldest first."""
    target: str = "sku_id"
    """The id field whose table embeds both the sequence and the target."""
    max_length: int = Field(default=20, ge=1)
    """Only the latest items are read."""
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    hidden: int = Field(default=64, ge=1)
    """Width of the feed-forward part."""


class HeavyConfig(Config):
    """The heavy half: a pointwise ad-level click model over user, SKU and cross features."""

    user: list[FeatureField] = []
    sku: list[FeatureField] = []
    cross: list[FeatureField] = []
    dim: int = Field(default=16, ge=1)
    """Width of embeddings whose field names none."""
    history: HistoryConfig | None = None
    cross_layers: int = Field(default=2, ge=0)
    """DCN-V2 cross layers."""
    cross_rank: int | None = Field(default=None, ge=1)
    """Rank of the cross layers' weight; None is full rank."""
    deep: list[int] = Field(default=[512, 256, 128], min_length=1)
    """Widths of the deep part."""
    dropout: Rate = 0.0

    @property
    def fields(self) -> list[FeatureConfig]:
        """All fields, in table order."""
        return [*self.user, *self.sku, *self.cross]

    @model_validator(mode="after")
    def _check(self) -> HeavyConfig:
        _refuse_repeats(self.fields, "heavy")
        if not self.fields:
            raise ValueError("heavy has no feature field; list some under user, sku or cross")
        if self.history is not None:
            target = next((f for f in self.sku if f.name == self.history.target and f.kind == "id"), None)
            if target is None:
                raise ValueError(f"heavy.history.target is {self.history.target!r}; name an id field of heavy.sku")
            if (target.dim or self.dim) % self.history.heads:
                raise ValueError(f"heavy.history.heads is {self.history.heads}; it must divide the target's dim {target.dim or self.dim}")
        return self


class SourceConfig(Config):
    """A hashed source of the creative vector."""

    rows: int = Field(default=10_000, ge=2)
    dim: int = Field(default=16, ge=1)


class IdSourceConfig(SourceConfig):
    """The creative's own id: memorises what content cannot tell."""

    dropout: Rate = 0.3
    """Share of creatives per batch whose id is hidden, so that content must carry them (adaptive dropout, CACS)."""
    min_exposures: int = Field(default=1, ge=0)
    """A creative exposed less often in training is served by its content alone: its id's row would be noise."""


class ContentSourceConfig(Config):
    """A vector per creative from an `embeddings` table."""

    dim: int = Field(default=32, ge=1)
    """Width of the learned projection."""


class CreativeConfig(Config):
    """Which sources the creative vector is made of, and its width."""

    dim: int = Field(default=32, ge=1)
    """Width of the creative vector, which serving caches."""
    elements: SourceConfig | None = SourceConfig(rows=2_000)
    copy_ngrams: SourceConfig | None = None
    """Word 1- and 2-grams of the copy, hashed."""
    id: IdSourceConfig | None = IdSourceConfig()
    content: ContentSourceConfig | None = None
    attributes: SourceConfig | None = None
    """What was extracted from the creative, hashed: the `tokens` of an `attributes` table."""

    @model_validator(mode="after")
    def _check(self) -> CreativeConfig:
        if not any((self.elements, self.copy_ngrams, self.id, self.content, self.attributes)):
            raise ValueError("creative has no source; set elements, copy_ngrams, id, content or attributes")
        return self


class SimTierConfig(Config):
    """How like each candidate is to what the user clicked: a histogram of cosines between content vectors (SimTier, Taobao)."""

    column: str = "user_clicked_creatives"
    """A list-of-creative-ids column, oldest first."""
    tiers: int = Field(default=20, ge=2, le=1000)
    """Equal parts of [-1, 1] in which cosines are counted. The paper names none; 20 is this project's default."""
    max_length: int = Field(default=20, ge=1)
    """Only the latest items are read."""


class AdScoreConfig(Config):
    """How the ad-level score enters the light half: quantised on a log scale, embedded (JAC, section 1.3)."""

    codes: int = Field(default=8192, ge=2)
    dim: int = Field(default=128, ge=1)
    r: float = Field(default=1000.0, gt=0)
    """Log scale: larger r spends more codes on small probabilities."""
    mode: Literal["sum", "interp", "stop"] = "sum"
    """How the gradient passes the quantiser: copied and summed, through interpolation, or not at all."""


class LightConfig(Config):
    """The light half: scores every creative of a SKU for a user; the only half on the creative path at serving."""

    user: list[FeatureField] = []
    sku: list[FeatureField] = []
    dim: int = Field(default=4, ge=1)
    creative: CreativeConfig = CreativeConfig()
    liked: str | None = None
    """A bag column of elements the user liked (`slot=element`), embedded by the creative's own element table."""
    simtier: SimTierConfig | None = None
    """Compare each candidate with the creatives that the user clicked before; needs `data.embeddings`."""
    hidden: list[int] = Field(default=[128, 64, 32], min_length=1)
    interaction: bool = True
    """Feed the elementwise product of the projected user and creative vectors to the MLP."""
    exposure_head: Literal["own", "shared"] = "own"
    """How the head that models the logging policy is trained. `own`: it reads the light half without shaping it, and has a
    bias per creative. `shared`: its gradient reaches the whole light half, which then learns what was shown as well as
    what is clicked; on logs of a greedy policy that costs click order."""
    two_tower: bool = False
    """Score by the inner product of the user/SKU vector and the creative vector only (the DSSM-like baseline)."""
    ad_score: AdScoreConfig = AdScoreConfig()
    historical_share: Rate = 0.3
    """Share of training rows whose live ad score is replaced by the SKU's historical CTR, which is what serving has."""

    @property
    def fields(self) -> list[FeatureConfig]:
        """All row-side fields, in table order."""
        return [*self.user, *self.sku]

    @model_validator(mode="after")
    def _check(self) -> LightConfig:
        _refuse_repeats(self.fields, "light")
        if self.liked is not None and self.creative.elements is None:
            raise ValueError("light.liked needs light.creative.elements, whose table embeds it")
        if self.simtier is not None and self.two_tower:
            raise ValueError("light.simtier compares user and creative, but a two_tower sees them apart; set one of them only")
        return self


class ObjectiveConfig(Config):
    """How the light half learns to order creatives."""

    name: Literal["pointwise", "vam", "listwise", "listwise_click", "jrc", "clid"] = "listwise_click"
    """`pointwise`: click of the exposed creative; `vam`: list-wise on aggregated CTR; `listwise`: exposure + click (form A);
    `listwise_click`: form A and the within-list click term (form B); `jrc`: joint ranking and calibration;
    `clid`: pointwise and distillation from a teacher on the heavy trunk."""
    aggregated: Literal["multinomial", "binomial", "vam"] = "multinomial"
    """The objective of lists that carry counts instead of one exposure."""
    delta: bool = False
    """The click logit is the ad logit plus a creative increment, so the light half learns only differences (PinDCO)."""
    creative_offset: bool = True
    """The ad's click loss counts in what the light half says that the shown creative added, so that the heavy half learns from
    cleaner labels. No gradient passes; nothing of it is served. Without effect where the halves are trained separately, where
    no exposure head is trained, and under `vam`, whose scores are no logits."""
    ad_weight: float = Field(default=1.0, ge=0)
    """Weight of the heavy half's click loss."""
    light_weight: float = Field(default=1.0, ge=0)
    """Weight of the light half's whole objective."""
    exposure_weight: float = Field(default=1.0, ge=0)
    """Weight of the list-wise exposure term (forms A and B)."""
    click_list_weight: float = Field(default=1.0, ge=0)
    """Weight beta of the within-list click term (form B)."""
    vam_temperature: float = Field(default=1000.0, gt=0)
    vam_alpha: float = Field(default=2.0402, gt=0)
    """Pseudo clicks of the smoothed CTR."""
    vam_beta: float = Field(default=54.0625, gt=0)
    """Pseudo non-clicks of the smoothed CTR."""
    vam_pointwise_weight: float = Field(default=0.5, ge=0)
    jrc_alpha: Rate = 0.5
    """Share of the calibration term."""
    jrc_session: str = "sku_id"
    """The id column whose equal values within a batch make a session."""
    clid_weight: float = Field(default=1.0, ge=0)
    """Weight of the distillation term."""


class RankerModelConfig(Config):
    """The ranker: a heavy user-SKU half, a light creative half, and how they are trained together."""

    heavy: HeavyConfig | None = None
    """None: light only, e.g. for aggregated creative tests without users."""
    light: LightConfig | None = LightConfig()
    """None: heavy only."""
    objective: ObjectiveConfig = ObjectiveConfig()
    joint: bool = True
    """False: the halves share nothing; the light one sees the historical score only ('trained separately')."""
    bias: list[FeatureField] = []
    """Fields (e.g. `position`) that shift logged clicks but are absent when serving: added to the logits in training only."""
    table_lr: float | None = Field(default=None, gt=0)
    """Learning rate of the embedding tables; None takes the trainer's."""
    history_prior: float = Field(default=100.0, gt=0)
    """Pseudo impressions, at the global CTR, in a SKU's historical CTR."""

    @model_validator(mode="after")
    def _check(self) -> RankerModelConfig:
        if self.heavy is None and self.light is None:
            raise ValueError("model has neither heavy nor light; set at least one")
        if self.objective.name == "clid" and (self.heavy is None or self.light is None or not self.joint):
            raise ValueError("objective.name is 'clid', which distils from the heavy trunk; it needs heavy, light and joint: true")
        if self.objective.delta and self.objective.name == "vam":
            raise ValueError("objective.delta adds a logit, but 'vam' scores are no logits; choose another objective or delta: false")
        if any(f.kind != "id" for f in self.bias):
            raise ValueError("model.bias takes id fields only")
        return self

    def columns(self) -> list[str]:
        """Impression columns that the model reads, besides the schema's own."""
        names = [f.name for half in (self.heavy, self.light) if half is not None for f in half.fields]
        names += [f.name for f in self.bias]
        if self.heavy is not None and self.heavy.history is not None:
            names.append(self.heavy.history.name)
        if self.light is not None and self.light.liked is not None:
            names.append(self.light.liked)
        if self.light is not None and self.light.simtier is not None:
            names.append(self.light.simtier.column)
        if self.light is not None and self.objective.name == "jrc":
            names.append(self.objective.jrc_session)
        return list(dict.fromkeys(names))

    def number_fields(self) -> dict[str, int]:
        """Number columns and the most buckets any field asks of them."""
        found: dict[str, int] = {}
        for half in (self.heavy, self.light):
            for feature in half.fields if half is not None else []:
                if feature.kind == "number":
                    found[feature.name] = max(found.get(feature.name, 0), feature.buckets)
        return found
