"""Recordings at http and https addresses, fetched into a temporary file.

Redirections are followed to these two protocols only. Where the system allows it, the file has no
name that others could open; it is removed when it is closed.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import string
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, Protocol

from auris.errors import UnreadableAudio, UsageError

PORTION = 1 << 16
"""Maximum number of bytes that are read at once."""

LEAST_SECONDS = 0.001
"""Shortest wait for a connection."""

CHECK_SECONDS = 0.1
"""How often a `_Watch` checks whether a fetch has to end."""

TUNNELS = tuple(map(ipaddress.IPv6Network, ("2002::/16", "2001::/32")))
"""Addresses that name an IPv4 host behind a tunnel (6to4, Teredo): no recordings are served there,
and the host may be a private one."""

TRANSLATED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48")))
"""Addresses whose last 32 bits are an IPv4 address to which a gateway leads (NAT64)."""

UNICAST = ipaddress.IPv6Network("2000::/3")
"""The only IPv6 addresses that are given to hosts of the public internet."""


class Cancelled(Protocol):
    """A flag that another thread sets to cancel work, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to give up."""


@dataclass(frozen=True)
class WebLimits:
    """What fetching a recording may cost.

    Attributes:
        most_bytes: largest file.
        silent_seconds: longest wait for the next bytes.
        total_seconds: longest time for all of it: connecting, redirections, headers and the file.
        public_only: whether to refuse hosts of this machine and its networks; proxies are not used
            then.

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
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2].partition("?")[0].partition("#")[0]
    return f"{protocol}://{host}{slash}{path.partition('?')[0].partition('#')[0]}"


def fetched(
    url: str,
    name: str,
    limits: WebLimits | None,
    stack: ExitStack,
    cancelled: Cancelled | None = None,
) -> IO[bytes]:
    """Fetch a recording.

    Args:
        url: its address.
        name: what messages call it.
        limits: None forbids it.
        stack: closes the file, which removes it.
        cancelled: when set, fetching ends.

    Returns:
        the file, at its beginning.

    Raises:
        UsageError: fetching is switched off, or the address holds a password.
        UnreadableAudio: the server does not give the recording within the limits.
    """
    if limits is None:
        raise UsageError(
            "Downloads are switched off",
            f"{name} is an address",
            "fetch the recording yourself and pass the file",
        )
    file = tempfile.TemporaryFile()  # noqa: SIM115
    stack.callback(file.close)
    watch = _Watch(limits, cancelled)
    try:
        with watch, _opened(url, limits, watch) as response:
            _refuse_page(response, name)
            _copy(response, file, name, limits)
    except (UnreadableAudio, OSError, http.client.HTTPException, ValueError) as error:
        if watch.expired or watch.left() <= LEAST_SECONDS:
            raise _late(name, limits) from None
        raise _refusal(error, name, limits) from None
    if watch.expired:
        raise _late(name, limits)
    file.seek(0)
    return file


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections to the web only, not to files or other protocols."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> Any:
        if not is_url(newurl):
            return None
        return super().redirect_request(req, fp, code, msg, headers, _ascii_url(newurl))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also by what it may be translated to."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped
        if any(ip in network for network in TRANSLATED):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip not in UNICAST or any(ip in network for network in TUNNELS):
            return False
    return ip.is_global and not ip.is_multicast


class _Watch:
    """Opens the sockets of a fetch, and shuts them when it takes too long or is cancelled.

    Args:
        limits: how long it may take, and which hosts are allowed.
        cancelled: when set, the fetch ends.
    """

    def __init__(self, limits: WebLimits, cancelled: Cancelled | None) -> None:
        self.expired = False
        self._public_only = limits.public_only
        self._until = time.monotonic() + limits.total_seconds
        self._cancelled = cancelled
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="auris-fetch", daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        for sock in self._sockets:
            sock.close()

    def left(self) -> float:
        """Seconds that are left; never 0, which would mean not to wait at all."""
        return max(self._until - time.monotonic(), LEAST_SECONDS)

    def connect(self, address: tuple[str, int], timeout: float, *_: Any) -> socket.socket:
        """Connect to a host; called in place of `socket.create_connection`.

        Raises:
            UsageError: all addresses of the host have to be public, and one is not.
        """
        if self._public_only:
            address = _public_address(*address)
        sock = socket.create_connection(address, min(timeout, self.left()))
        sock.settimeout(timeout)
        # A duplicate, since TLS takes the socket over; shutting one shuts both.
        self._sockets.append(sock.dup())
        return sock

    def _run(self) -> None:
        while not self._over.wait(CHECK_SECONDS):
            cancelled = self._cancelled is not None and self._cancelled.is_set()
            if cancelled or time.monotonic() > self._until:
                self.expired = True
                for sock in self._sockets:
                    # A thread that reads from it gets an end of file.
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)


def _public_address(host: str, port: int) -> tuple[str, int]:
    """An address of a host whose addresses are all public.

    The caller connects to this address, so a name that is looked up twice cannot lead elsewhere.
    """
    results = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in results]
    if not all(map(is_public, addresses)):
        raise UsageError(
            "A recording on the web has to be on the public internet",
            "its address is a private one",
            "send the file itself",
        )
    return addresses[0], port


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens both protocols, and every redirection, through sockets of a `_Watch`."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self._open(http.client.HTTPConnection, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self._open(http.client.HTTPSConnection, req)

    def _open(
        self, kind: type[http.client.HTTPConnection], request: urllib.request.Request
    ) -> http.client.HTTPResponse:
        def connection(*args: Any, **options: Any) -> http.client.HTTPConnection:
            made = kind(*args, **options)
            made._create_connection = self._watch.connect  # type: ignore[attr-defined]
            return made

        return self.do_open(connection, request)


def _opened(url: str, limits: WebLimits, watch: _Watch) -> http.client.HTTPResponse:
    address = _ascii_url(url)
    if "@" in urllib.parse.urlsplit(address).netloc:
        raise UsageError(
            "An address may not contain a user name or password",
            "",
            "fetch the recording yourself and pass the file",
        )
    request = urllib.request.Request(address, headers={"User-Agent": "auris"})
    proxies = [urllib.request.ProxyHandler({})] if limits.public_only else []
    opener = urllib.request.build_opener(_WebOnly, _Handler(watch), *proxies)
    response: http.client.HTTPResponse = opener.open(request, timeout=limits.silent_seconds)
    return response


def _ascii_url(url: str) -> str:
    """An address without spaces and letters outside ASCII, which people copy from a browser."""
    parts = urllib.parse.urlsplit(url)
    host = urllib.parse.unquote(parts.netloc)
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    address = urllib.parse.urlunsplit(parts._replace(netloc=host))
    return urllib.parse.quote(address, safe=string.punctuation)


def _refuse_page(response: http.client.HTTPResponse, name: str) -> None:
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _unfetched(f"{name} is a web page", "give the address of the audio file itself")


def _copy(
    response: http.client.HTTPResponse, file: IO[bytes], name: str, limits: WebLimits
) -> None:
    announced = response.length
    if announced is not None and announced > limits.most_bytes:
        raise _too_large(name, limits)
    done = 0
    # read1 returns what is there, so that a slow server cannot hold a long read open.
    while portion := response.read1(PORTION):
        done += len(portion)
        if done > limits.most_bytes:
            raise _too_large(name, limits)
        file.write(portion)
    if announced is not None and done < announced:
        raise _unfetched(f"{name} breaks off after {done} of {announced} bytes", "try again")


def _late(name: str, limits: WebLimits) -> UnreadableAudio:
    return _unfetched(f"{name} was not there after {limits.total_seconds:g} s", "fetch it yourself")


def _too_large(name: str, limits: WebLimits) -> UnreadableAudio:
    return UnreadableAudio(
        f"A recording on the web has to be at most {limits.most_bytes} bytes",
        f"{name} is larger",
        "fetch it yourself and pass the file",
    )


def _refusal(error: Exception, name: str, limits: WebLimits) -> UnreadableAudio:
    if isinstance(error, UnreadableAudio):
        return error
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        actual = f"for {name} the server answers {error.code} ({_in_short(error.reason)})"
        if error.code // 100 == 3:
            actual = f"{name} redirects in a circle, or to something else than the web"
        return _unfetched(actual, "check the address")
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
    text = getattr(reason, "strerror", None) or _in_short(reason) or type(reason).__name__
    return _unfetched(f"fetching {name} failed ({text})", "check the address and the network")


def _in_short(text: object) -> str:
    """A message of a server or another package on one line."""
    return " ".join(str(text).split())[:200]


def _unfetched(actual: str, remedy: str) -> UnreadableAudio:
    return UnreadableAudio(f"The recording could not be downloaded, since {actual}", "", remedy)
