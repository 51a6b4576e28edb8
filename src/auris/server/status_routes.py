"""What is served, and how it is doing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from auris.server.capabilities import capabilities
from auris.server.metrics import CONTENT_TYPE_LATEST
from auris.server.model_registry import ServedModel
from auris.server.schema import HEALTH, KEY, METRICS, MODEL, MODELS
from auris.server.state import Server

__all__ = ["router"]

router = APIRouter(tags=["status"])


def _model(server: Server, name: str, served: ServedModel) -> dict[str, Any]:
    if served.name not in server.capabilities:
        server.capabilities[served.name] = capabilities(served)
    return {
        "id": name,
        "object": "model",
        "created": served.since,
        "owned_by": "auris",
        "capabilities": server.capabilities[served.name],
    }


@router.get("/v1/models", dependencies=[KEY], **MODELS)
async def models(request: Request) -> dict[str, Any]:
    """The models that can be asked for."""
    server: Server = request.app.state.server
    names = list(server.serving.names())
    # The first question may load what a model keeps beside its weights.
    data = await server.look(lambda: [_model(server, name, served) for name, served in names])
    return {"object": "list", "data": data}


@router.get("/v1/models/{model:path}", dependencies=[KEY], **MODEL)
async def model(request: Request, model: str) -> dict[str, Any]:
    """One of them."""
    server: Server = request.app.state.server
    served = server.serving.pick(model)
    return await server.look(lambda: _model(server, model, served))


@router.get("/health", **HEALTH)
async def health(request: Request) -> Response:
    """Whether the engines run; needs no key."""
    server: Server = request.app.state.server
    well = all(model.engine.running for model in server.serving)
    return JSONResponse({"status": "ok" if well else "failing"}, 200 if well else 503)


@router.get("/metrics", dependencies=[KEY], **METRICS)
async def metrics(request: Request) -> Response:
    """Counters and gauges of all processes, for Prometheus."""
    server: Server = request.app.state.server

    def text() -> bytes:
        server.observe()
        return server.metrics.text(server.store.counts())

    return Response(await server.look(text), media_type=CONTENT_TYPE_LATEST)


# The description of the API does not mention these.
for path, answer in (("/health", health), ("/metrics", metrics), ("/v1/models", models)):
    keys = [] if answer is health else [KEY]
    router.add_api_route(path, answer, methods=["HEAD"], dependencies=keys, include_in_schema=False)
