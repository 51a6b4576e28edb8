"""Recordings at web addresses, from a local server."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from tests.audio.media import RATE, chirp, encode, pcm, wav

from auris.audio.io import load, load_channels, stream
from auris.audio.remote import WebLimits, fetched, is_public, is_url, shown_url
from auris.errors import AurisError, UnreadableAudio, UsageError

SOUND = wav(pcm(chirp(2.0, channels=2)))
MP4 = encode(chirp(1.0), RATE, "mp4", "aac")


class Handler(BaseHTTPRequestHandler):
    """Each path is one kind of valid or invalid response."""

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def _send(self, data: bytes, kind: str = "audio/wav", length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length != -1:
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def _redirect(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        if path in ("/a.wav", "/a%20b%C3%A9.wav"):
            self._send(SOUND)
        elif path == "/a.m4a":
            self._send(MP4, "audio/mp4")
        elif path == "/endless":
            self._send(SOUND, length=-1)
        elif path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (SOUND[:1000], SOUND[1000:], b""):
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        elif path == "/page":
            self._send(b"<html>", "text/html; charset=utf-8")
        elif path == "/words":
            self._send(b"these are words and no sound\n" * 99, "text/plain")
        elif path == "/empty":
            self._send(b"")
        elif path == "/broken":
            self._send(SOUND[: len(SOUND) // 2], length=len(SOUND))
        elif path == "/silent":
            self.send_response(200)
            self.end_headers()
            time.sleep(1.5)
        elif path == "/slow":
            self.send_response(200)
            self.end_headers()
            for place in range(30):
                self.wfile.write(SOUND[place : place + 1])
                time.sleep(0.1)
        elif path == "/slow-headers":
            self.send_response(200)
            for number in range(20):
                self.send_header(f"X-{number}", "x")
                self.flush_headers()
                time.sleep(0.1)
            self.end_headers()
            self.wfile.write(SOUND)
        elif path.startswith("/slow-moves/"):
            time.sleep(0.2)
            left = int(path.rpartition("/")[2])
            self._redirect(f"/slow-moves/{left - 1}" if left else "/a.wav")
        elif path == "/moved":
            self._redirect("/a.wav")
        elif path == "/to-a-file":
            self._redirect("file:///etc/passwd")
        elif path == "/to-ftp":
            self._redirect("ftp://127.0.0.1/a.wav")
        elif path == "/to-here":
            self._redirect(f"http://127.0.0.1:{self.server.server_address[1]}/a.wav")
        elif path == "/round":
            self._redirect("/round")
        elif path == "/nonsense":
            self.wfile.write(b"this is no http\r\n\r\n")
        else:
            self.send_error(503 if path == "/busy" else 404)


class Server(ThreadingHTTPServer):
    """Prints nothing when a client disconnects early."""

    def handle_error(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    yield
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/a.wav", "/a bé.wav?x=1", "/endless", "/chunked", "/moved"])
def test_a_recording_at_an_address(site: str, path: str) -> None:
    np.testing.assert_array_equal(load(site + path).samples, load(SOUND).samples)


def test_spans_channels_and_containers(site: str) -> None:
    part = load(f"{site}/a.wav", start=0.5, duration=1.0)
    np.testing.assert_array_equal(part.samples, load(SOUND, start=0.5, duration=1.0).samples)
    assert len(load_channels(f"{site}/a.wav")) == 2
    assert load(f"HTTP{site[4:]}/a.m4a").seconds == pytest.approx(1.0, abs=0.1)


def test_reading_can_stop_early(site: str) -> None:
    blocks = stream(f"{site}/a.wav")
    next(blocks)
    blocks.close()


USUAL = WebLimits()
SILENT = WebLimits(silent_seconds=0.3)
LATE = WebLimits(total_seconds=0.8)


@pytest.mark.parametrize(
    ("path", "limits", "found"),
    [
        ("/missing", USUAL, r"/missing' the server answers 404 \(Not Found\)"),
        ("/busy", USUAL, "503"),
        ("/page", USUAL, "is a web page"),
        ("/words", USUAL, "in a format that is read"),
        ("/empty", USUAL, "is empty"),
        ("/broken", USUAL, f"breaks off after {len(SOUND) // 2} of {len(SOUND)} bytes"),
        ("/silent", SILENT, r"nothing of .*/silent' came for 0.3 s"),
        ("/slow", LATE, "was not there after 0.8 s"),
        ("/slow-headers", LATE, "was not there after 0.8 s"),
        ("/slow-moves/8", LATE, "was not there after 0.8 s"),
        ("/a.wav", WebLimits(most_bytes=1000), "at most 1000 bytes"),
        ("/endless", WebLimits(most_bytes=1000), "at most 1000 bytes"),
        ("/chunked", WebLimits(most_bytes=1000), "at most 1000 bytes"),
        ("/to-a-file", USUAL, "redirects in a circle, or to something else"),
        ("/to-ftp", USUAL, "redirects in a circle, or to something else"),
        ("/round", USUAL, "redirects in a circle"),
        ("/nonsense", USUAL, "failed"),
        ("/missing?token=secret", USUAL, "/missing' the server"),
    ],
)
def test_failing_responses_are_errors(site: str, path: str, limits: WebLimits, found: str) -> None:
    with pytest.raises(UnreadableAudio, match=found) as caught:
        load(site + path, urls=limits)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://", "http://[/a.wav", "http://127.0.0.1:port/", "http://127.0.0.1:1/a", "https://a b/"],
)
def test_unreachable_addresses_are_errors(url: str) -> None:
    with pytest.raises(UnreadableAudio):
        load(url, urls=USUAL)


def test_https_needs_support_in_the_library(site: str) -> None:
    with pytest.raises(UnreadableAudio, match="failed"):
        load(f"https{site[4:]}/a.wav", urls=USUAL)


def test_remote_addresses_can_be_disabled(site: str) -> None:
    with pytest.raises(UsageError, match="switched off"):
        load(f"{site}/a.wav", urls=None)
    with pytest.raises(UsageError, match="WebLimits or None"):
        load(f"{site}/a.wav", urls=False)


def test_passwords_are_not_sent_to_other_hosts() -> None:
    with pytest.raises(UsageError, match="user name or password") as caught:
        load("http://me:secret@127.0.0.1:9/a.wav")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1", None])
def test_invalid_limits(value: Any) -> None:
    with pytest.raises(AurisError, match="most_bytes has to be a number above 0"):
        WebLimits(most_bytes=value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host:8/a/b.mp3?t=1#x", "https://host:8/a/b.mp3"),
        ("http://host?x", "http://host"),
        ("http://host/a@b", "http://host/a@b"),
    ],
)
def test_addresses_in_messages_have_no_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert is_url(url)


@pytest.mark.parametrize("name", ["http:/a", "./http://a", "ftp://a", "https.wav", "-", ""])
def test_strings_that_are_not_addresses(name: str) -> None:
    assert not is_url(name)


PUBLIC = WebLimits(public_only=True)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::10.0.0.1]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b:1::c0a8:1]",
        "[2002:a00:1::]",
        "[2002:7f00:1::1]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        "[ff02::1]",
        "224.0.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "[fec0::1]",
        "[::ffff:0:127.0.0.1]",
        "[::ffff:0:8.8.8.8]",
        "[5f00::1]",
        "2130706433",
        "0x7f.1",
    ],
)
@pytest.mark.parametrize("protocol", ["http", "https"])
def test_private_addresses_are_refused_on_request(protocol: str, host: str) -> None:
    with pytest.raises(UsageError, match="public internet"):
        load(f"{protocol}://{host}:1/a.wav", urls=PUBLIC)


def test_a_public_name_with_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    """One private address among public ones is enough, since any of them could be used."""
    port = int(site.rpartition(":")[2])

    def answers(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("93.184.216.34", port)), (*kind, ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    with pytest.raises(UsageError, match="private"):
        load(f"http://public.example:{port}/a.wav", urls=PUBLIC)


def test_a_redirection_to_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    """The first host counts as public; the target of its redirection is checked again."""
    port = int(site.rpartition(":")[2])
    look_up, connect = socket.getaddrinfo, socket.create_connection

    def answers(host: Any, *rest: Any, **options: Any) -> Any:
        if host == "public.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]
        return look_up(host, *rest, **options)

    def connected(address: tuple[str, int], *rest: Any, **options: Any) -> socket.socket:
        assert address[0] in ("93.184.216.34", "127.0.0.1")
        return connect(("127.0.0.1", address[1]), *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    monkeypatch.setattr(socket, "create_connection", connected)
    assert load(f"http://public.example:{port}/a.wav", urls=PUBLIC).seconds == 2.0
    with pytest.raises(UsageError, match="public internet"):
        load(f"http://public.example:{port}/to-here", urls=PUBLIC)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["münchen.example", "m%C3%BCnchen.example"])
def test_hosts_may_have_letters_outside_ascii(
    host: str, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    port = int(site.rpartition(":")[2])
    connect, hosts = socket.create_connection, []

    def connected(address: tuple[str, int], *rest: Any, **options: Any) -> socket.socket:
        hosts.append(address[0])
        return connect(("127.0.0.1", port), *rest, **options)

    monkeypatch.setattr(socket, "create_connection", connected)
    assert load(f"http://{host}:{port}/a.wav").seconds == 2.0
    assert hosts == ["xn--mnchen-3ya.example"]


def test_a_fetch_can_be_cancelled(site: str) -> None:
    cancelled = threading.Event()
    timer = threading.Timer(0.3, cancelled.set)
    timer.start()
    with ExitStack() as stack, pytest.raises(UnreadableAudio):
        fetched(f"{site}/slow-headers", "it", WebLimits(), stack, cancelled)
    timer.join()
