"""What is served, and how it is doing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from auris.server.capabilities import capabilities
from auris.server.schema import HEALTH, KEY, METRICS, MODEL, MODELS
from auris.server.serving import Served
from auris.server.state import Server

__all__ = ["router"]

router = APIRouter(tags=["status"])


def _model(name: str, served: Served) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": served.since,
        "owned_by": "auris",
        "capabilities": capabilities(served),
    }


@router.get("/v1/models", dependencies=[KEY], **MODELS)
async def models(request: Request) -> dict[str, Any]:
    """The models that can be asked for."""
    server: Server = request.app.state.server
    names = list(server.serving.names())
    # The first question may load what a model keeps beside its weights.
    data = await server.look(lambda: [_model(name, served) for name, served in names])
    return {"object": "list", "data": data}


@router.get("/v1/models/{model:path}", dependencies=[KEY], **MODEL)
async def model(request: Request, model: str) -> dict[str, Any]:
    """One of them."""
    server: Server = request.app.state.server
    served = server.serving.pick(model)
    return await server.look(lambda: _model(model, served))


@router.get("/health", **HEALTH)
async def health(request: Request) -> Response:
    """Whether the engines run; needs no key."""
    server: Server = request.app.state.server
    well = all(model.engine.running for model in server.serving)
    return JSONResponse({"status": "ok" if well else "failing"}, 200 if well else 503)


@router.get("/metrics", dependencies=[KEY], **METRICS)
async def metrics(request: Request) -> Response:
    """Counters of this process, for Prometheus."""
    server: Server = request.app.state.server
    gauges = await server.look(server.gauges)
    return PlainTextResponse(
        server.metrics.text(gauges), media_type="text/plain; version=0.0.4; charset=utf-8"
    )
