"""The front's app: the operation that needs both halves, `/healthz`, and the OpenAPI page of all operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Response, Security
from fastapi.security import APIKeyHeader
from fastapi_offline import FastAPIOffline

import adray
from adray.serving.edge import KEY_HEADER, OPERATIONS, Operation, add_operation, error_response, finish_app
from adray.serving.schemas import Health

_TITLE = "adray"
_DESCRIPTION = """Personalised ranking of ads and their creatives.

Ids that the served artifact does not know are named in the answer; everything else is ranked all the same."""

HealthCall = Callable[[], Awaitable[Health]]


def front_app(
    handlers: Mapping[Operation, Callable[[Any], Awaitable[Any]]],
    health: HealthCall,
    key_hash: str | None,
    absent: Sequence[Operation] = (),
) -> FastAPI:
    """The app behind every URL that no half answers.

    Args:
        handlers: The operations answered here.
        health: What `/healthz` calls.
        key_hash: SHA-256 (hex) of the API key; None asks for none.
        absent: Operations whose deployment is not configured; they answer 503 and say so.

    Returns:
        An app whose page and scripts need nothing from outside.
    """
    app = FastAPIOffline(title=_TITLE, version=adray.__version__, redoc_url=None)
    for operation, handler in handlers.items():
        add_operation(app, operation, handler)
    for operation in absent:
        app.add_api_route(operation.path, _absent, methods=["POST"], include_in_schema=False)
    _add_health(app, health)
    document = openapi_document(key_asked=key_hash is not None)
    app.openapi = lambda: document  # type: ignore[method-assign]
    return finish_app(app, key_hash)


def openapi_document(key_asked: bool) -> dict[str, Any]:
    """The OpenAPI document of all operations, whichever deployment answers them.

    Args:
        key_asked: Whether the operations ask for an API key.
    """
    app = FastAPI(title=_TITLE, version=adray.__version__, description=_DESCRIPTION)
    key = [Security(APIKeyHeader(name=KEY_HEADER, auto_error=False))] if key_asked else []
    for operation in OPERATIONS:
        add_operation(app, operation, _never, dependencies=key)
    _add_health(app, _never_health)
    return app.openapi()


def _add_health(app: FastAPI, health: HealthCall) -> None:
    async def healthz(response: Response) -> Health:
        answer = await health()
        response.status_code = 503 if answer.status == "down" else 200
        return answer

    app.add_api_route(
        "/healthz",
        healthz,
        methods=["GET"],
        summary="Whether requests can be answered",
        tags=["service"],
        operation_id="healthz",
        responses={503: {"model": Health, "description": "The light half is silent"}},
    )


async def _absent() -> Response:
    return error_response(503, "no heavy artifact is served; set `heavy` in the serve config")


async def _never(request: Any) -> Any:
    raise RuntimeError("this app only describes; its routes are answered by other deployments")


async def _never_health() -> Health:
    raise RuntimeError("this app only describes")
