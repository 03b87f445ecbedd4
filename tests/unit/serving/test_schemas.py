"""What a request may hold: types, sizes, and the interval that every integer of a table fits."""

import json

import pytest
from pydantic import ValidationError

from adray.serving import schemas
from adray.serving.schemas import AdsRequest, CreativesRequest, UserSkuRequest

ASK = {"skus": [{"sku_id": "s1"}]}


def problem(cls, values) -> dict:
    with pytest.raises(ValidationError) as error:
        cls.model_validate(values)
    return error.value.errors()[0]


def test_features_keep_their_types():
    user = {"user_id": "u1", "user_age": 31, "user_price": 2.5, "user_history": ["s1", "s2"], "user_city": None, "user_items": []}
    request = CreativesRequest.model_validate_json(json.dumps({"user": user, **ASK}))
    assert dict(request.user) == user
    assert isinstance(request.user["user_age"], int)


def test_a_user_may_be_unknown():
    assert CreativesRequest.model_validate(ASK).user == {}


@pytest.mark.parametrize("value", [True, {"a": 1}, [1], [["x"]], [None], float("nan"), float("inf"), 2**63, "x" * 257])
def test_other_feature_values_are_refused(value):
    assert problem(CreativesRequest, {"user": {"user_x": value}, **ASK})["loc"][:2] == ("user", "user_x")


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), "", "x" * 256, [""]])
def test_values_at_the_edge_are_taken(value):
    assert CreativesRequest.model_validate({"user": {"user_x": value}, **ASK}).user["user_x"] == value


@pytest.mark.parametrize("name", ["id", "sku_id", "cross_x", "user_", "user_é", "user_a b", "user_a\n", "user_" + "a" * 60])
def test_user_features_are_named_as_columns(name):
    assert problem(CreativesRequest, {"user": {name: "x"}, **ASK})["loc"][:2] == ("user", name)


@pytest.mark.parametrize(
    ("cls", "values", "location"),
    [
        (CreativesRequest, {}, ("skus",)),
        (CreativesRequest, {"skus": []}, ("skus",)),
        (CreativesRequest, {"skus": [{"sku_id": ""}]}, ("skus", 0, "sku_id")),
        (CreativesRequest, {"skus": [{"sku_id": 7}]}, ("skus", 0, "sku_id")),
        (CreativesRequest, {"skus": [{"sku_id": "s", "creative_ids": []}]}, ("skus", 0, "creative_ids")),
        (CreativesRequest, {"skus": [{"sku_id": "s", "creatives": ["c"]}]}, ("skus", 0, "creatives")),
        (CreativesRequest, {**ASK, "top": 1}, ("top",)),
        (CreativesRequest, {"skus": [{"sku_id": "s"}] * (schemas.MAX_SKUS + 1)}, ("skus",)),
        (UserSkuRequest, {"sku_ids": ["s"] * (schemas.MAX_SKUS + 1)}, ("sku_ids",)),
        (UserSkuRequest, {"sku_ids": ["s"], "cross": {"s": {"user_x": 1.0}}}, ("cross", "s", "user_x", "[key]")),
        (AdsRequest, {**ASK, "top": 0}, ("top",)),
        (AdsRequest, {**ASK, "top": 1.0}, ("top",)),
        (AdsRequest, {**ASK, "top": True}, ("top",)),
    ],
)
def test_wrong_requests_are_refused_at_the_field(cls, values, location):
    assert problem(cls, values)["loc"] == location


@pytest.mark.parametrize(("cls", "ask"), [(UserSkuRequest, {"sku_ids": ["s1"]}), (AdsRequest, ASK)])
def test_cross_features_of_a_sku_not_asked_for_are_refused(cls, ask):
    cls.model_validate({**ask, "cross": {"s1": {"cross_clicks": 2.0}}})
    assert "names SKU 's2'" in problem(cls, {**ask, "cross": {"s2": {"cross_clicks": 2.0}}})["msg"]
