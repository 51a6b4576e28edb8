"""The page for a person with a browser: a few files, held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["PATHS", "router"]

KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

INDEX = "index.html"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing from another place, nothing inside another page, no code but the files'."""

HEADERS = {
    # Asked for anew each time, and not sent again while unchanged: a newer server never meets the
    # files of an older one.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class _File:
    """A file of the page."""

    content: bytes
    kind: str
    tag: str

    async def answer(self, request: Request) -> Response:
        """The file, or that the browser's copy is still right."""
        headers = {**HEADERS, "ETag": self.tag}
        known = request.headers.get("if-none-match", "")
        if self.tag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.kind, headers=headers)


def _files() -> Iterator[tuple[str, _File]]:
    """Every file by its path; the one that begins lies at the root."""
    for found in files("auris.server").joinpath("page").iterdir():
        ending = found.name.rpartition(".")[2]
        if ending not in KINDS:
            continue
        content = found.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        path = "/" if found.name == INDEX else f"/page/{found.name}"
        yield path, _File(content, KINDS[ending], tag)


_FILES = dict(_files())

PATHS = frozenset(_FILES)
"""What a browser gets before it can show a key."""

# Plain routes answer HEAD, too, and stay out of the description of the API.
router = APIRouter(
    routes=[Route(path, file.answer, methods=["GET"]) for path, file in sorted(_FILES.items())]
)
