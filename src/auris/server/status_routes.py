"""The served models, and the state of the server."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, PlainTextResponse, Response

from auris.server.calls import capabilities
from auris.server.model_registry import ServedModel
from auris.server.schema import KEY, ModelObject, ObjectList, route
from auris.server.state import Server, ServerDep

router = APIRouter(tags=["status"])

Health = dict[Literal["status"], Literal["ok", "failing"]]


def _model(server: Server, name: str, served: ServedModel) -> ModelObject:
    if served.name not in server.capabilities:
        server.capabilities[served.name] = capabilities(served)
    return {
        "id": name,
        "object": "model",
        "created": served.since,
        "owned_by": "auris",
        "capabilities": server.capabilities[served.name],
    }


@router.head("/v1/models", dependencies=[KEY], include_in_schema=False)
@router.get("/v1/models", dependencies=[KEY], **route(ObjectList[ModelObject], "The models."))
async def models(server: ServerDep) -> ObjectList[ModelObject]:
    """All models."""
    names = server.models.by_name.items()
    # The first request may load files that lie next to the weights.
    data = await server.pools.quick.run(
        lambda: [_model(server, name, served) for name, served in names]
    )
    return {"object": "list", "data": data}


@router.get("/v1/models/{model:path}", dependencies=[KEY], **route(ModelObject, "The model.", 404))
async def model(server: ServerDep, model: str) -> ModelObject:
    """One model."""
    served = server.models.pick(model)
    return await server.pools.quick.run(lambda: _model(server, model, served))


@router.head("/health", include_in_schema=False)
@router.get("/health", **route(Health, "It works.", 503))
async def health(server: ServerDep) -> Response:
    """Whether the engines run; needs no key."""
    running = all(model.engine.running for model in server.models)
    return JSONResponse({"status": "ok" if running else "failing"}, 200 if running else 503)


@router.head("/metrics", dependencies=[KEY], include_in_schema=False)
@router.get(
    "/metrics",
    dependencies=[KEY],
    response_class=PlainTextResponse,
    **route(str, "Counters.", 507),
)
async def metrics(server: ServerDep) -> Response:
    """Counters and gauges of all processes, for Prometheus."""

    def text() -> bytes:
        server.observe()
        return server.metrics.text(server.store.counts())

    return Response(await server.pools.quick.run(text), media_type=CONTENT_TYPE_LATEST)
