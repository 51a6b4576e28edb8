"""Who may call, and how large a request may be: checked before anything reads the request."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from auris.server.errors import STOPPING, ApiError
from auris.server.metrics import Metrics
from auris.server.page_routes import PATHS
from auris.server.request_body import RequestBody
from auris.server.request_log import LoggedRequest, note_reason
from auris.server.settings import Settings, is_loopback

__all__ = ["AccessMiddleware", "owner_of"]

OPEN = frozenset({"/health"})
"""Paths that need no key."""

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""The beginning of a subprotocol of a WebSocket that ends with the key."""

DRAINED_SECONDS = 0.5
"""How long some of a refused request is read, so that its client comes to read the answer."""


def owner_of(scope: Scope) -> str:
    """A name for the key of a request, from which the key does not follow."""
    owner: str = scope["state"]["owner"]
    return owner


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class AccessMiddleware:
    """Checks keys, hosts and sizes, counts requests and logs them without their content.

    Without keys, only programs on this machine are answered, and no web page in a browser there:
    a page of another server would name that server as its origin, or as the host when a name of
    that server leads to this machine.

    Args:
        app: the application.
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
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        logged = LoggedRequest(scope, self._metrics)

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
            note_reason(scope, STOPPING)
            message = "The server is stopping: send the request again."
            await _response(ApiError(503, message, code=STOPPING))(scope, receiving, sending)
        finally:
            logged.ended()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        body = RequestBody(receive, self._settings.most_upload_bytes)
        try:
            scope["state"]["owner"] = self._owner(scope["path"], headers)
            body.check_length(headers.get("content-length"))
        except ApiError as error:
            note_reason(scope, error.code)
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(body.drain(), DRAINED_SECONDS)
            await _response(error)(scope, body.receive, send)
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
            await WebSocket(scope, receive, send).send_denial_response(_response(error))
        else:
            await self._app(scope, receive, send)

    def _is_own_page(self, headers: Headers) -> bool:
        """Whether the request is not from a page of an origin that is not allowed."""
        origin = headers.get("origin")
        if origin is None or {"*", origin} & set(self._settings.origins):
            return True
        return _split(origin).netloc == headers.get("host", "") != ""

    def _owner(self, path: str, headers: Headers) -> str:
        """The owner of a request that is allowed.

        Raises:
            ApiError: it is not.
        """
        if path in OPEN:
            return ""
        if not self._keys:
            self._check_local(headers)
            return ""
        if path in self._page:
            return ""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = _digest(key.strip())
        # All keys are compared completely, so that the time says nothing.
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
        if not is_loopback(host):
            fault = "the request names another host: give the server keys (AURIS_API_KEYS)"
        elif not self._is_own_page(headers):
            fault = "a web page of another origin sent the request: allow it with --cors-origin"
        else:
            return
        message = (
            f"Without keys, this server answers programs on its own machine only, but {fault}."
        )
        raise ApiError(403, message, code="forbidden_origin")


def _split(address: str) -> SplitResult:
    """The parts of an address, which are empty where it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), error.status, error.headers)


def _with_key(headers: Headers, subprotocols: Sequence[str]) -> Headers:
    """The headers, with the key that a browser gives in place of a header."""
    if "authorization" not in headers:
        for name in subprotocols:
            if name.startswith(KEY_SUBPROTOCOL):
                key = name.removeprefix(KEY_SUBPROTOCOL)
                return Headers({**headers, "authorization": f"Bearer {key}"})
    return headers
