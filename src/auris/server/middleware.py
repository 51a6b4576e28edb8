"""The middleware of all requests: keys, hosts, limits of size and speed, and the log."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from auris.server.errors import ApiError, server_stopping
from auris.server.log import FIELDS, PRESENT_REQUEST
from auris.server.metrics import Metrics
from auris.server.page_routes import PATHS
from auris.server.settings import Settings, is_loopback
from auris.server.tracing import Tracing, describe

OPEN = frozenset({"/health"})
"""Paths that need no key."""

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""The beginning of a subprotocol of a WebSocket that ends with the key."""

DRAINED_SECONDS = 0.5
"""How long the body of a refused request is read, so that its client gets to the answer."""

DRAINED = 1 << 20
"""Bytes of a refused request that are read."""

SILENT_SECONDS = 30.0
"""Longest wait for more of a request."""

SLOWEST_BYTES = 4096
"""Bytes a second, on average after the first `SILENT_SECONDS`, that a client has to send."""

REQUEST_ID = "x-request-id"
"""Header with the identifier of a request, which the server returns; clients may choose it."""

SWITCHED = 101
"""Status of a request that became a WebSocket."""

STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")
"""Messages that have the headers of an answer."""

VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_LOG = logging.getLogger("auris.access")


def note_reason(scope: Scope, reason: str | None) -> None:
    """Name the reason of a failure for the log: a code of the API's errors."""
    scope.setdefault("state", {})["reason"] = reason


class _LoggedRequest:
    """A request or WebSocket that is counted and has a line in the log at its end."""

    def __init__(self, scope: Scope, metrics: Metrics) -> None:
        given = Headers(scope=scope).get(REQUEST_ID, "")
        self.id = given if VALID_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        self.status = 0
        self._scope = scope
        self._metrics = metrics
        self._code = 0  # That closed a WebSocket.
        self._began = time.perf_counter()
        scope.setdefault("state", {})["request_id"] = self.id
        PRESENT_REQUEST.set(self.id)

    def received(self, message: Message) -> Message:
        """Notice a message of the client."""
        if message["type"] == "websocket.disconnect":
            self._code = self._code or message.get("code", 0)
        return message

    def sent(self, message: Message) -> Message:
        """Notice a message to the client, and add the identifier to its headers."""
        if message["type"] == "websocket.close":
            self._code = message["code"]
        if message["type"] not in STARTS:
            return message
        self.status = message.get("status", SWITCHED)
        header = (REQUEST_ID.encode(), self.id.encode())
        return {**message, "headers": [*message.get("headers", ()), header]}

    def ended(self) -> dict[str, Any]:
        """Count the request, unless it became a WebSocket, and write its line; gives its fields."""
        seconds = time.perf_counter() - self._began
        socket = self._scope["type"] == "websocket"
        method = self._scope.get("method", "GET")
        status = self.status or (0 if socket else 500)
        # The pattern of the route: a path could contain anything.
        route = getattr(self._scope.get("route"), "path", "other")
        if status != SWITCHED:
            self._metrics.count_request(method, route, status, seconds)
        fields = {
            "method": "WEBSOCKET" if socket else method,
            "route": route,
            "status": status,
            "code": self._code if socket else None,
            "seconds": round(seconds, 3),
            "client": _address((self._scope.get("client") or ("unknown",))[0]),
            "request_id": self.id,
            "reason": self._scope["state"].get("reason"),
        }
        shown = {**fields, "seconds": f"{seconds:.3f} s"}.values()
        words = [str(value) for value in shown if value is not None]
        _LOG.info("%s", " ".join(words), extra={FIELDS: fields})
        return fields


class _RequestBody:
    """The body of a request, whose size and pauses are limited."""

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self._receive = receive
        self._most = most_bytes
        self._received = 0
        self._waited = 0.0
        self._more = True

    def check_length(self, length: str | None) -> None:
        """Refuse a body whose Content-Length is too large."""
        if length is not None and length.isdecimal():
            self._check_size(int(length))

    async def receive(self) -> Message:
        """The next part; after the last one, the end of the connection."""
        if not self._more:
            return await self._receive()
        # Only time in which the server waits for the client counts.
        left = SILENT_SECONDS + self._received / SLOWEST_BYTES - self._waited
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), min(left, SILENT_SECONDS))
        except (TimeoutError, asyncio.TimeoutError):
            fault = f"Nothing of the request came for {SILENT_SECONDS:g} s."
            if left < SILENT_SECONDS:
                fault = f"The request came more slowly than {SLOWEST_BYTES} bytes a second."
            raise ApiError(408, fault, code="timeout") from None
        self._waited += time.monotonic() - began
        if message["type"] == "http.request":
            self._count(message)
            self._check_size(self._received)
        return message

    async def drain(self) -> None:
        """Read the beginning of a body that is not used."""
        while self._more and self._received < DRAINED:
            self._count(await self._receive())

    def _count(self, message: Message) -> None:
        self._more = message.get("more_body", False)
        self._received += len(message.get("body", b""))

    def _check_size(self, size: int) -> None:
        if size > self._most:
            fault = f"The request is larger than {self._most} bytes, the most that this server"
            raise ApiError(413, f"{fault} takes.", code="request_too_large")


def owner_of(scope: Scope) -> str:
    """The owner of jobs: a digest of the key of a request."""
    owner: str = scope["state"]["owner"]
    return owner


def client_of(request: Request) -> str:
    """The client for taking turns: the key of a request, or the address if there are no keys."""
    return owner_of(request.scope) or (request.client.host if request.client else "")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class AccessMiddleware:
    """Checks keys, hosts and sizes, counts requests and logs them without their content.

    Without keys, only programs on this machine are answered, and no web page in a browser there:
    a page of another server would name that server as its origin, or as the host when a name of
    that server leads to this machine.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, metrics: Metrics, tracing: Tracing
    ) -> None:
        self._app = app
        self._tracing = tracing
        self._settings = settings
        self._metrics = metrics
        self._keys = [_digest(key) for key in settings.keys]
        self._page = PATHS if settings.page else frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse a request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        with self._tracing.request(Headers(scope=scope)) as span:
            await self._logged(scope, receive, send, span)

    async def _logged(self, scope: Scope, receive: Receive, send: Send, span: Any) -> None:
        logged = _LoggedRequest(scope, self._metrics)

        async def receiving() -> Message:
            return logged.received(await receive())

        async def sending(message: Message) -> None:
            await send(logged.sent(message))

        try:
            if scope["type"] == "websocket":
                await self._connect(scope, receiving, sending)
            else:
                await self._answer(scope, receiving, sending)
        except asyncio.CancelledError:
            # uvicorn cancels requests in progress when the time for stopping is over.
            if logged.status or scope["type"] == "websocket":
                raise
            error = server_stopping()
            note_reason(scope, error.code)
            await error.response()(scope, receiving, sending)
        finally:
            describe(span, logged.ended())

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        body = _RequestBody(receive, self._settings.most_upload_bytes)
        try:
            scope["state"]["owner"] = self._owner(scope["path"], headers)
            body.check_length(headers.get("content-length"))
        except ApiError as error:
            note_reason(scope, error.code)
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(body.drain(), DRAINED_SECONDS)
            await error.response()(scope, body.receive, send)
            return
        await self._app(scope, body.receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            # Browsers let any page open a WebSocket, so the server has to check.
            if not self._is_own_page(headers):
                raise ApiError(
                    403,
                    "Web pages of other origins may not connect (--cors-origin allows one).",
                    code="forbidden_origin",
                )
            headers = _with_key(headers, scope["subprotocols"])
            scope["state"]["owner"] = self._owner(scope["path"], headers)
        except ApiError as error:
            note_reason(scope, error.code)
            await WebSocket(scope, receive, send).send_denial_response(error.response())
        else:
            await self._app(scope, receive, send)

    def _is_own_page(self, headers: Headers) -> bool:
        """Whether the request is from no web page, or from one whose origin is allowed."""
        origin = headers.get("origin")
        if origin is None or {"*", origin} & set(self._settings.origins):
            return True
        return _split(origin).netloc == headers.get("host", "") != ""

    def _owner(self, path: str, headers: Headers) -> str:
        """The owner of a request; an `ApiError` where it is not allowed."""
        if path in OPEN:
            return ""
        if not self._keys:
            self._check_local(headers)
            return ""
        if path in self._page:
            return ""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = _digest(key.strip())
        # All keys are compared completely, so that the time reveals nothing.
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

    def _check_local(self, headers: Headers) -> None:
        host = _split("//" + headers.get("host", "localhost")).hostname or ""
        if is_loopback(host) and self._is_own_page(headers):
            return
        fault = "a web page of another origin sent the request: allow it with --cors-origin"
        if not is_loopback(host):
            fault = "the request names another host: give the server keys (AURIS_API_KEYS)"
        message = "Without keys, this server answers programs on its own machine only"
        raise ApiError(403, f"{message}, but {fault}.", code="forbidden_origin")


def _split(address: str) -> SplitResult:
    """The parts of an address; empty parts if it is not valid."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _with_key(headers: Headers, subprotocols: Sequence[str]) -> Headers:
    """The headers, with the key that a browser gives in place of a header."""
    if "authorization" not in headers:
        for name in subprotocols:
            if name.startswith(KEY_SUBPROTOCOL):
                key = name.removeprefix(KEY_SUBPROTOCOL)
                return Headers({**headers, "authorization": f"Bearer {key}"})
    return headers


def _address(host: str) -> str:
    """The address of a caller. Behind a proxy it is from a header, which could contain anything."""
    try:
        return str(ip_address(host))
    except ValueError:
        return "unknown"
