"""Who may call, and how large a request may be: before anything reads it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from auris.server.failures import ApiError
from auris.server.metrics import Metrics
from auris.server.page_routes import PATHS
from auris.server.settings import Settings, is_loopback

__all__ = ["Access", "owner_of"]

OPEN = frozenset({"/health"})
"""Paths that need no key."""

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""What stands before the key in a subprotocol of a WebSocket."""

DRAINED, DRAINED_SECONDS = 1 << 20, 0.5
"""Bytes of a refused request that are read, and for how long, so that its sender comes to read the
answer."""

SILENT_SECONDS = 30.0
"""Longest wait for more of a request."""

_LOG = logging.getLogger("auris.access")


def owner_of(scope: Scope) -> str:
    """Whose call this is: a name for the key, from which the key does not follow."""
    owner: str = scope["state"]["owner"]
    return owner


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class Access:
    """Checks keys, hosts and sizes, counts requests and logs them without their content.

    Without keys, only programs on this machine are answered, and no web page that a browser shows
    there: a page of another place would name that place as its origin, or as the host when a name
    of its own leads to this machine.

    Args:
        app: what is guarded.
        settings: keys and limits.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._keys = [_digest(key) for key in settings.keys]
        self._page = PATHS if settings.page else frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""
        if scope["type"] == "websocket":
            await self._connect(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        body = _Body(receive, self._settings.most_upload_bytes)
        try:
            await self._answer(scope, body, sending)
        finally:
            seconds = time.perf_counter() - began
            # The route's pattern: a path itself could name anything.
            place = getattr(scope.get("route"), "path", "other")
            self._metrics.count_request(scope["method"], place, status, seconds)
            _LOG.info("%s %s %d %.3f s", scope["method"], place, status, seconds)

    async def _answer(self, scope: Scope, body: _Body, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            scope.setdefault("state", {})["owner"] = self._admitted(scope["path"], headers)
            body.announced(headers.get("content-length"))
        except ApiError as error:
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(body.drain(), DRAINED_SECONDS)
            response = JSONResponse(error.body(), error.status, error.headers)
            await response(scope, body.receive, send)
            return
        await self._app(scope, body.receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a WebSocket through, or refuse it before there is one."""
        began = time.perf_counter()
        status = code = 0

        async def receiving() -> Message:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = code or message.get("code", 0)
            return message

        async def sending(message: Message) -> None:
            nonlocal status, code
            if message["type"] == "websocket.accept":
                status = 101
            elif message["type"] == "websocket.http.response.start":
                status = message["status"]
            elif message["type"] == "websocket.close":
                code = message["code"]
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._refuse_foreign_pages(headers)
            scope.setdefault("state", {})["owner"] = self._admitted(
                scope["path"], _with_key(headers, scope["subprotocols"])
            )
        except ApiError as error:
            socket = WebSocket(scope, receiving, sending)
            await socket.send_denial_response(
                JSONResponse(error.body(), error.status, error.headers)
            )
        else:
            await self._app(scope, receiving, sending)
        seconds = time.perf_counter() - began
        place = getattr(scope.get("route"), "path", "other")
        if status != 101:
            self._metrics.count_request("GET", place, status, seconds)
        _LOG.info("WEBSOCKET %s %d %d %.3f s", place, status, code, seconds)

    def _refuse_foreign_pages(self, headers: Headers) -> None:
        """Browsers open WebSockets for any page without asking, so the server has to look."""
        origin = headers.get("origin")
        own = origin is None or urlsplit(origin).netloc == headers.get("host", "")
        if not own and not {"*", origin} & set(self._settings.origins):
            raise ApiError(
                403,
                "Web pages of other origins may not connect (--cors-origin lets one in).",
                code="forbidden_origin",
            )

    def _admitted(self, path: str, headers: Headers) -> str:
        if path in OPEN:
            return ""
        if not self._keys:
            self._refuse_pages(headers)
            return ""
        if path in self._page:
            return ""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = _digest(key.strip())
        # Every key is compared, whole: how long it takes says nothing.
        matches = [hmac.compare_digest(given, known) for known in self._keys]
        if scheme.lower() != "bearer" or not any(matches):
            wrong = "Incorrect API key provided" if key else "An API key is missing"
            raise ApiError(
                401,
                f"{wrong}: send it as 'Authorization: Bearer KEY'.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return given.hex()[:32]

    def _refuse_pages(self, headers: Headers) -> None:
        host = urlsplit("//" + headers.get("host", "localhost")).hostname or ""
        origin = headers.get("origin")
        at_home = origin is None or is_loopback(urlsplit(origin).hostname or "")
        allowed = {"*", origin} & set(self._settings.origins)
        if not is_loopback(host):
            raise _not_at_home(
                "the request names another host", "give the server keys (AURIS_API_KEYS)"
            )
        if not (at_home or allowed):
            raise _not_at_home(
                "a web page of another origin asks", "let its origin in with --cors-origin"
            )


def _not_at_home(found: str, remedy: str) -> ApiError:
    return ApiError(
        403,
        f"Without keys, this server answers programs on its own machine only, but {found}: "
        f"{remedy}.",
        code="forbidden_origin",
    )


def _with_key(headers: Headers, subprotocols: Sequence[str]) -> Headers:
    """The headers, with the key that a browser gives in place of a header."""
    if "authorization" not in headers:
        for name in subprotocols:
            if name.startswith(KEY_SUBPROTOCOL):
                key = name.removeprefix(KEY_SUBPROTOCOL)
                return Headers({**headers, "authorization": f"Bearer {key}"})
    return headers


class _Body:
    """The body of a request, up to a limit."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._taken = 0
        self._more = True

    def announced(self, length: str | None) -> None:
        """Refuse what says that it is too long."""
        if length is not None and length.isdecimal() and int(length) > self._most:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part; behind the last one, the end of the connection."""
        if not self._more:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), SILENT_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            raise ApiError(
                408, f"Nothing of the request came for {SILENT_SECONDS:g} s.", code="timeout"
            ) from None
        if message["type"] == "http.request":
            self._more = message.get("more_body", False)
            self._taken += len(message.get("body", b""))
            if self._taken > self._most:
                raise self._too_large()
        return message

    async def drain(self) -> None:
        """Read a little of what is not wanted."""
        while self._more and self._taken < DRAINED:
            message = await self._receive()
            self._more = message.get("more_body", False)
            self._taken += len(message.get("body", b""))

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            f"The request is larger than {self._most} bytes, the most that this server takes.",
            code="request_too_large",
        )
