"""The HTTP edge without Ray: errors in one form, the key and the size before the body, nothing of a key in any answer."""

import asyncio
import json

import httpx
import pytest

from adray.errors import DataError
from adray.serving.ads import join
from adray.serving.edge import ADS_RANK, CREATIVES_RANK, KEY_HEADER, OPERATIONS, USER_SKU_SCORE, Gate, hash_key, operation_app
from adray.serving.front import front_app, openapi_document
from adray.serving.schemas import CreativesAnswer, CreativesRequest, HalfHealth, Health, RankedCreative, RankedSku

KEY = "correct-horse-battery-staple"
BODY = {"user": {"user_id": "u1"}, "skus": [{"sku_id": "s1", "creative_ids": ["c2", "c1"]}, {"sku_id": "s2"}]}


async def rank(request: CreativesRequest) -> CreativesAnswer:
    skus = [
        RankedSku(
            sku_id=sku.sku_id,
            known=True,
            creatives=[RankedCreative(creative_id=c, score=0.25, propensity=0.5) for c in sku.creative_ids or ["c9"]],
            unknown=[],
        )
        for sku in request.skus
    ]
    return CreativesAnswer(artifact="abc", skus=skus, unknown_skus=[])


def call(app, path, method="POST", headers=None, raise_errors=True, **kwargs) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=raise_errors)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers, **kwargs)

    return asyncio.run(go())


def app(key=None):
    return operation_app(CREATIVES_RANK, rank, hash_key(key) if key else None)


def test_an_operation_answers_its_model():
    response = call(app(), CREATIVES_RANK.path, json=BODY)
    assert response.status_code == 200
    answer = CreativesAnswer.model_validate_json(response.content)
    assert [[c.creative_id for c in sku.creatives] for sku in answer.skus] == [["c2", "c1"], ["c9"]]


def test_the_same_urls_hold_where_serve_mounts_the_app():
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app(), root_path=CREATIVES_RANK.path)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(CREATIVES_RANK.path, json=BODY)

    assert asyncio.run(go()).status_code == 200


@pytest.mark.parametrize(
    ("body", "line", "fields"),
    [
        ({"skus": [{"sku_id": 7}]}, "skus.0.sku_id is 7: Input should be a valid string", ["skus.0.sku_id"]),
        ({**BODY, "limit": 3}, "limit is 3: unknown field", ["limit"]),
        ({"user": {}}, "skus is {'user': {}}: Field required", ["skus"]),
        (
            {"user": {"age": 3}, "skus": [{"sku_id": "s"}]},
            "user.age is 'age': String should match pattern '^user_[A-Za-z0-9_]+$'",
            ["user.age"],
        ),
        ({"user": {"user_a": True}, "skus": [{"sku_id": "s"}]}, "user.user_a is True: must be a string of at most", ["user.user_a"]),
        ([], "body is []: ", ["body"]),
    ],
)
def test_a_422_names_field_and_value(body, line, fields):
    response = call(app(), CREATIVES_RANK.path, json=body)
    assert response.status_code == 422
    answer = response.json()
    assert answer["error"].startswith(line)
    assert sorted({p["field"] for p in answer["problems"]}) == fields


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"skus": [{"sku_id": "\xff"}]}',
        b'{"skus": [{"sku_id": "\\ud800"}]}',
        b'{"user": {"user_x": NaN}, "skus": [{"sku_id": "s"}]}',
    ]
    + [b'{"user": {"user_x": 1e999}, "skus": [{"sku_id": "s"}]}', b'{"user": {"user_x": ' + b"9" * 5000 + b'}, "skus": [{"sku_id": "s"}]}']
    + [b"[" * 100_000 + b"]" * 100_000, b'{"skus": [{"sku_id": "s", "\\ud800": 1}]}', "{}".encode("utf-16")],
)
def test_broken_bodies_get_a_4xx_in_the_common_form(body):
    response = call(app(), CREATIVES_RANK.path, content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.json()["error"]


def test_a_long_report_is_bounded():
    response = call(app(), CREATIVES_RANK.path, json={"skus": [{"sku_id": 7}] * 1000})
    assert len(response.json()["problems"]) == 20
    assert "(and 999 more)" in response.json()["error"]
    assert len(response.content) < 10_000


@pytest.mark.parametrize(
    "headers", [{}, {KEY_HEADER: "wrong-horse-battery-staple"}, {KEY_HEADER: KEY + "x"}, {KEY_HEADER: KEY[:-1]}, {KEY_HEADER: ""}]
)
def test_a_wrong_key_is_refused_before_the_body_is_read(headers):
    response = call(app(KEY), CREATIVES_RANK.path, headers=headers, content=b"not even JSON")
    assert response.status_code == 401
    assert response.json() == {"error": f"header {KEY_HEADER} is missing or wrong", "problems": []}


def test_the_right_key_passes():
    assert call(app(KEY), CREATIVES_RANK.path, headers={KEY_HEADER: KEY}, json=BODY).status_code == 200


def test_replicas_never_hold_the_key_itself():
    assert hash_key(KEY) == "87cbebfeebc05f7c54ac9336c4b4bbec831227a641951a4bde7edd56020f8590"
    gate = Gate(app(KEY), hash_key(KEY))
    assert KEY not in json.dumps({k: str(v) for k, v in vars(gate).items()})


def test_a_body_that_states_its_length_is_refused_unread():
    sent: list[dict] = []

    async def receive():
        raise AssertionError("the body is read")

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": CREATIVES_RANK.path, "headers": [(b"Content-Length", b"4194305")]}
    asyncio.run(Gate(app(), None)(scope, receive, send))
    assert sent[0]["status"] == 413
    assert b"longer than 4194304 bytes" in sent[1]["body"]


def test_a_body_of_the_greatest_length_is_read():
    body, json_type = json.dumps(BODY).encode(), {"content-type": "application/json"}
    assert call(app(), CREATIVES_RANK.path, content=body + b" " * (4 * 2**20 - len(body)), headers=json_type).status_code == 200


def test_a_chunked_body_is_counted():
    async def chunks():
        for _ in range(5):
            yield b" " * 2**20

    response = call(app(), CREATIVES_RANK.path, content=chunks(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert "longer than 4194304 bytes" in response.json()["error"]


def test_other_paths_and_methods():
    assert call(app(), CREATIVES_RANK.path + "/x").status_code == 404
    wrong = call(app(), CREATIVES_RANK.path, method="GET")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json() == {"error": "Method Not Allowed", "problems": []}


def test_an_unexpected_error_tells_the_client_nothing_of_the_inside():
    async def broken(request):
        raise RuntimeError("secret path /srv/x")

    response = call(operation_app(CREATIVES_RANK, broken, None), CREATIVES_RANK.path, json=BODY, raise_errors=False)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "internal error" in response.json()["error"]


def test_what_the_model_says_of_a_feature_is_the_users_to_mend():
    async def refusing(request):
        raise DataError("user feature 'user_age' is [1]", "give a number")

    response = call(operation_app(CREATIVES_RANK, refusing, None), CREATIVES_RANK.path, json=BODY)
    assert response.status_code == 422
    assert response.json()["error"] == "user feature 'user_age' is [1]; give a number"


def front(key=None, absent=(), status="ok"):
    async def ads(request):
        return join(request, await rank(CreativesRequest(user=request.user, skus=request.skus)), "absent")

    async def health():
        return Health(status=status, light=HalfHealth(artifact="abc", problem=None), heavy=None)

    return front_app({ADS_RANK: ads}, health, hash_key(key) if key else None, absent)


@pytest.mark.parametrize(("status", "code"), [("ok", 200), ("degraded", 200), ("down", 503)])
def test_healthz(status, code):
    response = call(front(status=status), "/healthz", method="GET")
    assert (response.status_code, response.json()["status"]) == (code, status)


def test_an_operation_without_its_artifact_says_so():
    response = call(front(absent=[USER_SKU_SCORE]), USER_SKU_SCORE.path, json={"sku_ids": ["s"]})
    assert response.status_code == 503
    assert "no heavy artifact is served" in response.json()["error"]


def test_page_and_health_are_open_but_rankings_are_not():
    guarded = front(KEY)
    for path in ("/healthz", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui-bundle.js"):
        assert call(guarded, path, method="GET").status_code == 200
    assert call(guarded, ADS_RANK.path, json={"skus": [{"sku_id": "s"}]}).status_code == 401
    assert call(guarded, "/healthz/../v1/ads:rank", json={"skus": [{"sku_id": "s"}]}).status_code == 401


def test_the_page_needs_nothing_from_outside():
    page = call(front(), "/docs", method="GET").text
    assert "http://" not in page
    assert "https://" not in page


def test_the_document_shows_every_operation_wherever_it_is_answered():
    document = call(front(), "/openapi.json", method="GET").json()
    assert document == openapi_document(key_asked=False)
    for operation in OPERATIONS:
        described = document["paths"][operation.path]["post"]
        assert {"200", "400", "401", "408", "413", "422", "503"} <= set(described["responses"])
        name = described["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/")[-1]
        assert name == operation.request.__name__
        assert document["components"]["schemas"][name]["additionalProperties"] is False
    assert "get" in document["paths"]["/healthz"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_the_document_names_the_key_header_when_one_is_asked_for():
    scheme = openapi_document(key_asked=True)["components"]["securitySchemes"]["APIKeyHeader"]
    assert (scheme["in"], scheme["name"]) == ("header", KEY_HEADER)
    assert "securitySchemes" not in openapi_document(key_asked=False)["components"]
