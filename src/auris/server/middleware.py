"""Who may call, and how large a request may be: before anything reads it."""

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
from auris.server.request_log import LoggedConnection, LoggedRequest, note_reason
from auris.server.settings import Settings, is_loopback

__all__ = ["AccessMiddleware", "owner_of"]

OPEN = frozenset({"/health"})
"""Paths that need no key."""

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""What stands before the key in a subprotocol of a WebSocket."""

DRAINED_SECONDS = 0.5
"""For how long some of a refused request is read, so that its sender comes to read the answer."""


def owner_of(scope: Scope) -> str:
    """Whose call this is: a name for the key, from which the key does not follow."""
    owner: str = scope["state"]["owner"]
    return owner


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class AccessMiddleware:
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
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._connect(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = LoggedRequest(scope, self._metrics)
        body = RequestBody(receive, self._settings.most_upload_bytes)

        async def sending(message: Message) -> None:
            await send(request.sent(message))

        try:
            await self._answer(scope, body, sending)
        except asyncio.CancelledError:
            # uvicorn cancels what is under way when the time for stopping is over.
            if request.status:
                raise
            note_reason(scope, STOPPING)
            await _stopping()(scope, body.receive, sending)
        finally:
            request.ended()

    async def _answer(self, scope: Scope, body: RequestBody, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            scope["state"]["owner"] = self._admitted(scope["path"], headers)
            body.announced(headers.get("content-length"))
        except ApiError as error:
            note_reason(scope, error.code)
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(body.drain(), DRAINED_SECONDS)
            await _refusal(error)(scope, body.receive, send)
            return
        await self._app(scope, body.receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a WebSocket through, or refuse it before there is one."""
        connection = LoggedConnection(scope, self._metrics)

        async def receiving() -> Message:
            return connection.received(await receive())

        async def sending(message: Message) -> None:
            await send(connection.sent(message))

        headers = Headers(scope=scope)
        try:
            self._refuse_foreign_pages(headers)
            scope["state"]["owner"] = self._admitted(
                scope["path"], _with_key(headers, scope["subprotocols"])
            )
        except ApiError as error:
            note_reason(scope, error.code)
            await WebSocket(scope, receiving, sending).send_denial_response(_refusal(error))
        else:
            await self._app(scope, receiving, sending)
        finally:
            connection.ended()

    def _refuse_foreign_pages(self, headers: Headers) -> None:
        """Browsers open WebSockets for any page without asking, so the server has to look."""
        if not self._is_own_page(headers):
            raise ApiError(
                403,
                "Web pages of other origins may not connect (--cors-origin lets one in).",
                code="forbidden_origin",
            )

    def _is_own_page(self, headers: Headers) -> bool:
        """Whether no page of an origin that has not been let in makes a request."""
        origin = headers.get("origin")
        if origin is None or {"*", origin} & set(self._settings.origins):
            return True
        # An origin that cannot be read is nobody's.
        return _parts(origin).netloc == headers.get("host", "") != ""

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
        host = _parts("//" + headers.get("host", "localhost")).hostname or ""
        if not is_loopback(host):
            raise _not_at_home(
                "the request names another host", "give the server keys (AURIS_API_KEYS)"
            )
        if not self._is_own_page(headers):
            raise _not_at_home(
                "a web page of another origin asks", "let its origin in with --cors-origin"
            )


def _parts(address: str) -> SplitResult:
    """An address taken apart; nothing where it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _refusal(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), error.status, error.headers)


def _stopping() -> JSONResponse:
    return _refusal(ApiError(503, "The server is stopping: send the request again.", code=STOPPING))


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
