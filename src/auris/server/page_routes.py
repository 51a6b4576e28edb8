"""The page for a browser: a few files in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from another server, nothing inside another page, no code but that of the files."""

HEADERS = {
    # Browsers ask each time, and get only what has changed, so that a newer server never meets the
    # files of an older one.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _route(path: str, content: bytes, kind: str) -> Route:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": tag}

    async def answer(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if tag in (other.strip().removeprefix("W/") for other in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return Route(path, answer, methods=["GET"])


def _routes() -> Iterator[Route]:
    for file in files("auris.server").joinpath("page").iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            yield _route(path, file.read_bytes(), kind)


# Plain routes also answer HEAD, and OpenAPI does not describe them.
router = APIRouter(routes=list(_routes()))

PATHS = frozenset(route.path for route in router.routes if isinstance(route, Route))
"""What a browser gets before it can show a key."""
