"""Requests and answers of the HTTP interface: the contract that the OpenAPI page shows.

Unknown fields, wrong types, numbers that are not finite, and lists beyond the stated sizes are refused.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

MAX_BODY_BYTES = 4 * 2**20
"""Longest request body; longer ones end with 413."""
MAX_SKUS = 1_000
MAX_CREATIVES = 1_000
MAX_FEATURES = 256
MAX_FEATURE_ITEMS = 1_000
MAX_LABEL = 256

Label = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_LABEL)]
"""An id."""
_Text = Annotated[StrictStr, StringConstraints(max_length=MAX_LABEL)]
# Wider integers would not fit the int64 columns of the tables that models are trained on.
_Integer = Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)]
_Number = Annotated[StrictFloat, Field(allow_inf_nan=False)]
_Items = Annotated[list[_Text], Field(max_length=MAX_FEATURE_ITEMS)]


def _one_complaint(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Validate a feature, with one message instead of one per type that it might have been."""
    try:
        # A wider integer would pass as a number and, as an id, silently match nothing.
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError
        return check(value)
    except ValueError:
        raise PydanticCustomError("feature", _FEATURE_RULE) from None


_FEATURE_RULE = (
    f"must be a string of at most {MAX_LABEL} characters, an integer of 64 bits, a finite number,"
    f" a list of at most {MAX_FEATURE_ITEMS} such strings, or null"
)
FeatureValue = Annotated[_Text | _Integer | _Number | _Items | None, WrapValidator(_one_complaint)]
"""A string, an integer, a finite number, a list of strings, or null for unknown."""

_UserName = Annotated[str, StringConstraints(pattern=r"^user_[A-Za-z0-9_]+$", max_length=64)]
_CrossName = Annotated[str, StringConstraints(pattern=r"^cross_[A-Za-z0-9_]+$", max_length=64)]
UserFeatures = Annotated[dict[_UserName, FeatureValue], Field(max_length=MAX_FEATURES)]
CrossFeatures = Annotated[dict[_CrossName, FeatureValue], Field(max_length=MAX_FEATURES)]


class Message(BaseModel):
    """Base of everything that crosses the wire: immutable, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SkuCandidates(Message):
    """A SKU and which of its creatives may be shown."""

    sku_id: Label
    """The SKU."""
    creative_ids: Annotated[list[Label], Field(min_length=1, max_length=MAX_CREATIVES)] | None = None
    """Candidates; null: all of the SKU's creatives in the artifact."""


class CreativesRequest(Message):
    """Order the creatives of one or many SKUs for a user."""

    user: UserFeatures = Field(default_factory=dict, examples=[{"user_id": "u17", "user_age": "25-34", "user_history": ["s3", "s8"]}])
    """What is known of the user: the `user_*` columns that the model was trained on. Others are ignored; absent ones are unknown."""
    skus: Annotated[list[SkuCandidates], Field(min_length=1, max_length=MAX_SKUS)]
    """The SKUs, answered in this order."""


class RankedCreative(Message):
    """A creative with its scores."""

    creative_id: str
    """The creative."""
    score: float
    """Click probability of the ad with this creative, in [0, 1]; orders the list."""
    propensity: float
    """Probability, under the logging policy that the model learned, of being exposed among the candidates. Never orders; log it."""


class RankedSku(Message):
    """One SKU's creatives, best first."""

    sku_id: str
    """The SKU."""
    known: bool
    """Whether the artifact has creatives of this SKU."""
    creatives: list[RankedCreative]
    """Best first."""
    unknown: list[str]
    """Creatives that were asked for and the artifact does not know; they are not ranked."""


class CreativesAnswer(Message):
    """The ordered creatives of every SKU asked for."""

    artifact: str
    """Content hash of the light artifact that answered."""
    skus: list[RankedSku]
    """In the request's order."""
    unknown_skus: list[str]
    """SKUs that the artifact does not know."""


class UserSkuRequest(Message):
    """Score many SKUs for a user."""

    user: UserFeatures = Field(default_factory=dict, examples=[{"user_id": "u17", "user_age": "25-34", "user_history": ["s3", "s8"]}])
    """What is known of the user: the `user_*` columns that the model was trained on."""
    sku_ids: Annotated[list[Label], Field(min_length=1, max_length=MAX_SKUS)]
    """The SKUs, answered in this order."""
    cross: Annotated[dict[Label, CrossFeatures], Field(max_length=MAX_SKUS)] | None = None
    """What is known of the user and a SKU together: SKU -> the `cross_*` columns."""

    @model_validator(mode="after")
    def _cross_is_asked_for(self) -> UserSkuRequest:
        _check_cross(self.cross or {}, self.sku_ids)
        return self


class ScoredSku(Message):
    """A SKU with its ad-level score."""

    sku_id: str
    """The SKU."""
    score: float | None
    """Click probability of the ad, in [0, 1]; null when the artifact does not know the SKU."""


class UserSkuAnswer(Message):
    """The scores of every SKU asked for."""

    artifact: str
    """Content hash of the heavy artifact that answered."""
    skus: list[ScoredSku]
    """In the request's order."""
    unknown_skus: list[str]
    """SKUs that the artifact does not know."""


class AdsRequest(Message):
    """Choose the ads for a user, each with its best creative."""

    user: UserFeatures = Field(default_factory=dict, examples=[{"user_id": "u17", "user_age": "25-34", "user_history": ["s3", "s8"]}])
    """What is known of the user, for both halves."""
    skus: Annotated[list[SkuCandidates], Field(min_length=1, max_length=MAX_SKUS)]
    """The candidate ads."""
    top: Annotated[int, Field(strict=True, ge=1, le=MAX_SKUS)] | None = None
    """How many ads to return; null: all."""
    cross: Annotated[dict[Label, CrossFeatures], Field(max_length=MAX_SKUS)] | None = None
    """What is known of the user and a SKU together: SKU -> the `cross_*` columns."""

    @model_validator(mode="after")
    def _cross_is_asked_for(self) -> AdsRequest:
        _check_cross(self.cross or {}, [sku.sku_id for sku in self.skus])
        return self


class RankedAd(Message):
    """An ad: a SKU with the creative to show."""

    sku_id: str
    """The SKU."""
    score: float | None
    """Click probability of the ad by the heavy half; null when that half did not score it."""
    creative: RankedCreative
    """The best creative by the light half."""


class AdsAnswer(Message):
    """Ads ordered by the heavy half, each with its best creative by the light half."""

    ads: list[RankedAd]
    """Best first. SKUs without any known creative are left out."""
    degraded: str | None
    """Why the ads are not ordered by the heavy half; null when they are. Then they keep the request's order."""
    unknown_skus: list[str]
    """SKUs that the light half does not know."""
    unknown_creatives: dict[str, list[str]]
    """SKU -> creatives that were asked for and the light half does not know."""
    light_artifact: str
    """Content hash of the light artifact that answered."""
    heavy_artifact: str | None
    """Content hash of the heavy artifact that answered; null when degraded."""


class HalfHealth(Message):
    """One half of the ranker."""

    artifact: str | None
    """Content hash of what it serves; null when it did not answer."""
    problem: str | None
    """Why it did not answer; null when it did."""


class Health(Message):
    """Whether requests can be answered."""

    status: Literal["ok", "degraded", "down"]
    """`ok`; `degraded`: the heavy half is absent or silent, ads keep the request's order; `down`: the light half is silent."""
    light: HalfHealth
    """The light half."""
    heavy: HalfHealth | None
    """The heavy half; null when the configuration has none."""


class Problem(Message):
    """One thing that is wrong with a request."""

    field: str
    """Path of the field, e.g. `skus.0.sku_id`."""
    value: str
    """What the request held there, shortened."""
    message: str
    """What is wrong with it."""


class ErrorAnswer(Message):
    """The body of every refused request."""

    error: str
    """One line: what is wrong and where."""
    problems: list[Problem] = []
    """Every wrong field of a 422."""


def _check_cross(cross: Collection[str], sku_ids: Collection[str]) -> None:
    strangers = sorted(set(cross) - set(sku_ids))
    if strangers:
        raise ValueError(f"cross names SKU {strangers[0]!r}, which the request does not ask for")
