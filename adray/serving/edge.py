"""The HTTP edge of a deployment: routes from one list of operations, errors in one form, key and size checked first."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adray.errors import DataError
from adray.serving.schemas import (
    MAX_BODY_BYTES,
    AdsAnswer,
    AdsRequest,
    CreativesAnswer,
    CreativesRequest,
    ErrorAnswer,
    Problem,
    UserSkuAnswer,
    UserSkuRequest,
)

KEY_HEADER = "X-API-Key"
OPEN_PATHS = ("/healthz", "/docs", "/openapi.json", "/static-offline-docs/")
"""What may be read without a key: it tells that the service lives and what it offers, nothing of users or ads."""

_VALUE_LENGTH = 80
_MAX_PROBLEMS = 20


@dataclass(frozen=True)
class Operation:
    """One call of the interface.

    Attributes:
        path: URL path, e.g. `/v1/creatives:rank`; always POST.
        request: Model of the body.
        answer: Model of a 200's body.
        summary: One line for the OpenAPI page.
    """

    path: str
    request: type
    answer: type
    summary: str


CREATIVES_RANK = Operation("/v1/creatives:rank", CreativesRequest, CreativesAnswer, "Order the creatives of SKUs for a user")
USER_SKU_SCORE = Operation("/v1/user-sku:score", UserSkuRequest, UserSkuAnswer, "Score many SKUs for a user")
ADS_RANK = Operation("/v1/ads:rank", AdsRequest, AdsAnswer, "Choose ads, each with its best creative")
OPERATIONS = (CREATIVES_RANK, USER_SKU_SCORE, ADS_RANK)

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The body is not JSON in UTF-8"},
    401: {"model": ErrorAnswer, "description": "The API key is missing or wrong"},
    413: {"model": ErrorAnswer, "description": f"The body is longer than {MAX_BODY_BYTES} bytes"},
    422: {"model": ErrorAnswer, "description": "The body is not what this operation takes; names field and value"},
    # The two below come from the proxy, before or instead of a replica, as plain text.
    408: {"description": "Not answered within the time-out", "content": {"text/plain": {}}},
    503: {"description": "Too many requests wait; retry after `Retry-After` seconds", "content": {"text/plain": {}}},
}


def hash_key(key: str) -> str:
    """SHA-256 (hex) of an API key: what replicas hold instead of the key."""
    return hashlib.sha256(key.encode()).hexdigest()


def add_operation(
    app: FastAPI, operation: Operation, handler: Callable[[Any], Awaitable[Any]], dependencies: Sequence[Depends] = ()
) -> None:
    """Route an operation's POST to a handler that takes its request model and returns its answer model.

    Args:
        app: The app to add the route to.
        operation: The operation.
        handler: Answers it.
        dependencies: FastAPI dependencies, e.g. the key that the OpenAPI page shows.
    """

    async def endpoint(request: Any) -> Any:
        return await handler(request)

    endpoint.__annotations__ = {"request": operation.request, "return": operation.answer}
    app.add_api_route(
        operation.path,
        endpoint,
        methods=["POST"],
        summary=operation.summary,
        tags=["ranking"],
        operation_id=operation.path.removeprefix("/v1/").replace(":", "_").replace("-", "_"),
        responses=_REFUSALS,
        dependencies=list(dependencies),
    )


def finish_app(app: FastAPI, key_hash: str | None) -> FastAPI:
    """Give an app the common error form and put the gate before it."""
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(DataError, _answer_data_error)
    app.add_exception_handler(Exception, _answer_unexpected)
    app.add_middleware(Gate, key_hash=key_hash)
    return app


def operation_app(operation: Operation, handler: Callable[[Any], Awaitable[Any]], key_hash: str | None) -> FastAPI:
    """The app of a deployment that answers one operation."""
    app = FastAPI(title=f"adray {operation.path}", openapi_url=None, docs_url=None, redoc_url=None)
    add_operation(app, operation, handler)
    return finish_app(app, key_hash)


class Gate:
    """ASGI middleware: refuses a wrong key and an over-long body before anything is parsed.

    Args:
        app: The app behind it.
        key_hash: SHA-256 (hex) of the API key; None lets everybody in.
        max_body_bytes: Longest body.
    """

    def __init__(self, app: ASGIApp, key_hash: str | None = None, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._key_hash = key_hash
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 413, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if not self._may_pass(scope["path"], headers.get(KEY_HEADER.lower().encode())):
            # Nothing of what was sent is repeated: it may be a key with a typing error.
            await error_response(401, f"header {KEY_HEADER} is missing or wrong")(scope, receive, send)
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_body_bytes:
            await error_response(413, self._too_long())(scope, receive, send)
            return
        await self._pass_counted(scope, receive, send)

    async def _pass_counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, counting the body: a chunked one states no length."""
        received = 0

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise HTTPException(413, self._too_long())
            return message

        # Serve mounts each application under its prefix; routes here are whole paths, so that the same app
        # answers the same URLs under any server.
        await self._app({**scope, "root_path": ""}, counting_receive, send)

    def _too_long(self) -> str:
        return f"the body is longer than {self._max_body_bytes} bytes; split the request"

    def _may_pass(self, path: str, presented: bytes | None) -> bool:
        if self._key_hash is None or any(path == p or (p.endswith("/") and path.startswith(p)) for p in OPEN_PATHS):
            return True
        digest = hashlib.sha256(presented or b"").hexdigest()
        return hmac.compare_digest(digest, self._key_hash)


def error_response(status: int, error: str, problems: Sequence[Problem] = (), headers: dict[str, str] | None = None) -> Response:
    """A refusal in the common form."""
    body = ErrorAnswer(error=error, problems=list(problems)).model_dump_json()
    return Response(body, status, headers=headers, media_type="application/json")


def describe_invalid(errors: Sequence[dict[str, Any]], body: Any) -> tuple[str, list[Problem]]:
    """Turn pydantic's report into one line and a bounded list of problems.

    Args:
        errors: `loc`, `msg`, `input` and `type` of each error, as `RequestValidationError.errors()` gives them.
        body: The decoded body that they are about.

    Returns:
        The line, which names the first wrong field and its value, and at most 20 problems.
    """
    problems = [
        Problem(
            field=_path(error["loc"], body) or "body",
            value=_shorten(error.get("input")),
            message="unknown field" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, "),
        )
        for error in errors[:_MAX_PROBLEMS]
    ]
    first = problems[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{first.field} is {first.value}: {first.message}{more}", problems


def _path(location: Sequence[Any], body: Any) -> str:
    """The dotted path of an error, following the body: pydantic mixes marks such as `[key]` into its locations."""
    parts = []
    for part in location[1:]:
        if isinstance(body, dict) and part in body or isinstance(body, list) and isinstance(part, int):
            body = body[part]
        elif not isinstance(body, dict) or part == "[key]":
            continue
        parts.append(str(part))
    return ".".join(parts).encode("ascii", "backslashreplace").decode()


def _shorten(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _VALUE_LENGTH else text[: _VALUE_LENGTH - 3] + "..."


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    line, problems = describe_invalid(list(error.errors()), error.body)
    return error_response(HTTPStatus.UNPROCESSABLE_ENTITY, line, problems)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    # FastAPI's 400 says no more than that the body could not be parsed: bytes that are no text, or nesting without end.
    detail = "the body is not JSON in UTF-8" if error.status_code == HTTPStatus.BAD_REQUEST else str(error.detail)
    return error_response(error.status_code, detail, headers=dict(error.headers or {}))


async def _answer_data_error(request: Request, error: Exception) -> Response:
    # The model knows the types of its own features: text where it was trained on a number, say.
    return error_response(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    # Starlette re-raises after this answer, and Serve's logger then writes the traceback with the request's id.
    return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the replica's log has it under this answer's x-request-id")
