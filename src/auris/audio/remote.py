"""Recordings at http and https addresses, fetched into a temporary file.

Nothing but these two protocols is ever followed, also not by a redirection. The file has no name
that others could open where the system allows that, and is gone as soon as it was read.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import string
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

from auris.errors import UnreadableAudio, UsageError

__all__ = ["WebLimits", "fetched", "is_url", "shown_url"]

PORTION = 1 << 16
"""Most bytes that are read at once."""


@dataclass(frozen=True)
class WebLimits:
    """What fetching a recording may cost.

    Attributes:
        most_bytes: largest file.
        silent_seconds: longest wait for the next bytes.
        total_seconds: longest time for the whole file.
        public_only: whether only hosts of the public internet are asked, and not those of this
            machine or its networks; proxies are not used then.

    Raises:
        UsageError: a limit is not above 0.
    """

    most_bytes: int = 1 << 31
    silent_seconds: float = 30.0
    total_seconds: float = 3600.0
    public_only: bool = False

    def __post_init__(self) -> None:
        for name in ("most_bytes", "silent_seconds", "total_seconds"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 < value < 1e15:
                raise UsageError(
                    f"{name} has to be a number above 0", f"it is {value!r}", "correct it"
                )


def is_url(source: str) -> bool:
    """Whether a source is an address that can be fetched."""
    return source.lower().startswith(("http://", "https://"))


def shown_url(url: str) -> str:
    """An address for messages: without its query and user, which may hold secrets."""
    protocol, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    host = place.rpartition("@")[2].partition("?")[0].partition("#")[0]
    return f"{protocol}://{host}{slash}{path.partition('?')[0].partition('#')[0]}"


def fetched(url: str, name: str, limits: WebLimits | None, stack: ExitStack) -> IO[bytes]:
    """Fetch a recording.

    Args:
        url: its address.
        name: what messages call it.
        limits: None forbids it.
        stack: closes the file, which removes it.

    Returns:
        the file, at its beginning.

    Raises:
        UsageError: fetching is switched off, or the address holds a password.
        UnreadableAudio: the server does not give the recording within the limits.
    """
    if limits is None:
        raise UsageError(
            "Addresses have to be allowed before they are fetched",
            f"{name} was given, and they are switched off",
            "fetch the recording yourself and pass the file",
        )
    file = tempfile.TemporaryFile()  # noqa: SIM115
    stack.callback(file.close)
    try:
        with _opened(url, limits) as response:
            _refuse_page(response, name)
            _copy(response, file, name, limits)
    except urllib.error.HTTPError as error:
        error.close()
        raise _answered(error, name) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failed(error, name, limits) from None
    file.seek(0)
    return file


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections to the web only, not to files or other protocols."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> Any:
        if not is_url(newurl):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _public_socket(host: str, port: int, timeout: float | None) -> socket.socket:
    """Connect to a host of the public internet.

    The address that is judged is the one that is connected to, so a name cannot lead elsewhere the
    second time it is looked up.

    Raises:
        UsageError: one of its addresses is not public.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        if not ipaddress.ip_address(str(place[0]).partition("%")[0]).is_global:
            raise UsageError(
                "A recording on the web has to be on the public internet",
                "its address is a private one",
                "send the file itself",
            )
    return socket.create_connection((str(found[0][4][0]), port), timeout)


class _PublicHttp(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = _public_socket(self.host, self.port, self.timeout)


class _PublicHttps(http.client.HTTPSConnection):
    def connect(self) -> None:
        plain = _public_socket(self.host, self.port, self.timeout)
        self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)


class _PublicHandler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens both protocols, and every redirection, through connections that look where they go."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PublicHttp, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PublicHttps, req)


_PUBLIC: list[urllib.request.BaseHandler | type[urllib.request.BaseHandler]] = [
    _PublicHandler,
    urllib.request.ProxyHandler({}),
]


def _opened(url: str, limits: WebLimits) -> http.client.HTTPResponse:
    if "@" in urllib.parse.urlsplit(url).netloc:
        raise UsageError(
            "An address has to be without user name and password",
            "one is there",
            "fetch the recording yourself and pass the file",
        )
    # Spaces and letters outside ASCII, as people copy them from a browser.
    address = urllib.parse.quote(url, safe=string.punctuation)
    request = urllib.request.Request(address, headers={"User-Agent": "auris"})
    handlers = _PUBLIC if limits.public_only else []
    opener = urllib.request.build_opener(_WebOnly, *handlers)
    response: http.client.HTTPResponse = opener.open(request, timeout=limits.silent_seconds)
    return response


def _refuse_page(response: http.client.HTTPResponse, name: str) -> None:
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _unfetched(f"{name} is a web page", "give the address of the audio file itself")


def _copy(
    response: http.client.HTTPResponse, file: IO[bytes], name: str, limits: WebLimits
) -> None:
    announced = response.length
    if announced is not None and announced > limits.most_bytes:
        raise _too_large(name, limits)
    until = time.monotonic() + limits.total_seconds
    done = 0
    # read1 returns what is there, so that a slow server cannot hold a long read open.
    while portion := response.read1(PORTION):
        done += len(portion)
        if done > limits.most_bytes:
            raise _too_large(name, limits)
        if time.monotonic() > until:
            raise _unfetched(
                f"{name} was not there after {limits.total_seconds:g} s", "fetch it yourself"
            )
        file.write(portion)
    if announced is not None and done < announced:
        raise _unfetched(f"{name} breaks off after {done} of {announced} bytes", "try again")


def _too_large(name: str, limits: WebLimits) -> UnreadableAudio:
    return UnreadableAudio(
        f"A recording on the web has to be at most {limits.most_bytes} bytes",
        f"{name} is larger",
        "fetch it yourself and pass the file",
    )


def _failed(error: Exception, name: str, limits: WebLimits) -> UnreadableAudio:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return _unfetched(
            f"nothing of {name} came for {limits.silent_seconds:g} s", "try again later"
        )
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _unfetched(
            f"{name} is at a server that cannot prove who it is ({reason.verify_message})",
            "fetch it yourself if you trust it",
        )
    told = getattr(reason, "strerror", None) or _in_short(reason) or type(reason).__name__
    return _unfetched(f"fetching {name} failed ({told})", "check the address and the network")


def _answered(error: urllib.error.HTTPError, name: str) -> UnreadableAudio:
    if error.code // 100 == 3:
        return _unfetched(
            f"{name} redirects in a circle, or to something else than the web", "check the address"
        )
    return _unfetched(
        f"for {name} the server answers {error.code} ({_in_short(error.reason)})",
        "check the address",
    )


def _in_short(told: object) -> str:
    """What a server or another package says, on one line."""
    return " ".join(str(told).split())[:200]


def _unfetched(found: str, remedy: str) -> UnreadableAudio:
    return UnreadableAudio("A recording on the web has to be there to be fetched", found, remedy)
