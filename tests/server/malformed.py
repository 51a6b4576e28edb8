"""Malformed requests and invalid uploads, generated from a seed."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator

import numpy as np

from auris.audio.io import load
from tests.audio.media import encode, pcm
from tests.server.live import EXAMPLE

BOUNDARY = "b0undary"
PATH = "/v1/audio/transcriptions"

Random = random.Random


def part(name: str, value: bytes, file: bool = False) -> bytes:
    """One field of a form."""
    named = f'form-data; name="{name}"' + ('; filename="a.wav"' if file else "")
    return f"--{BOUNDARY}\r\nContent-Disposition: {named}\r\n\r\n".encode() + value + b"\r\n"


def form(data: bytes, **fields: bytes) -> bytes:
    """A form with a recording."""
    given = {"model": b"tiny", **fields}
    parts = [part(name, value) for name, value in given.items()]
    return b"".join([*parts, part("file", data, file=True), f"--{BOUNDARY}--\r\n".encode()])


def request(
    body: bytes,
    place: str = PATH,
    kind: str = f"multipart/form-data; boundary={BOUNDARY}",
    headers: str = "",
    length: int | None = None,
) -> bytes:
    """A request as bytes; `length` may be wrong."""
    stated = len(body) if length is None else length
    head = (
        f"POST {place} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {stated}\r\n{headers}\r\n"
    )
    return head.encode("latin-1") + body


class Maker:
    """Generates wrong requests.

    Args:
        seed: of the chances.
        key: of the server.
    """

    def __init__(self, seed: int, key: str | None = None) -> None:
        self._chance = Random(seed)
        self._headers = f"Authorization: Bearer {key}\r\n" if key else ""
        samples = load(EXAMPLE).samples[None]
        self._whole = {
            "wav": encode(pcm(samples), 16_000, "wav", "pcm_s16le"),
            "flac": EXAMPLE.read_bytes(),
            "mp3": encode(samples, 16_000, "mp3", "libmp3lame"),
            "ogg": encode(samples, 48_000, "ogg", "libopus"),
        }
        # Eleven minutes of silence in a few kilobytes; the limit of this server is ten.
        self._bomb = encode(np.zeros((1, 660 * 16_000), np.int16), 16_000, "flac", "flac")
        self.kinds: dict[str, Callable[[], bytes]] = {
            name.removeprefix("_make_"): getattr(self, name)
            for name in dir(self)
            if name.startswith("_make_")
        }

    def one(self) -> tuple[str, bytes]:
        """The kind and the bytes of a request."""
        kind = self._chance.choice(sorted(self.kinds))
        return kind, self.kinds[kind]()

    def _noise(self, least: int = 0, most: int = 5000) -> bytes:
        return self._chance.randbytes(self._chance.randint(least, most))

    def _make_noise_for_a_file(self) -> bytes:
        return request(form(self._noise()), headers=self._headers)

    def _make_truncated_file(self) -> bytes:
        # MP3 frames are independent: half of a file is a shorter valid one.
        data = self._whole[self._chance.choice(["wav", "flac", "ogg"])]
        cut = self._chance.randrange(len(data) * 9 // 10)
        return request(form(data[:cut]), headers=self._headers)

    def _make_damaged_flac(self) -> bytes:
        data = bytearray(self._whole["flac"])
        for _ in range(20):
            data[self._chance.randrange(200, len(data))] ^= self._chance.randint(1, 255)
        return request(form(bytes(data)), headers=self._headers)

    def _make_other_type(self) -> bytes:
        heads = [b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x7fELF", b"{}", b"<html>"]
        data = self._chance.choice(heads) + self._noise()
        return request(form(data), headers=self._headers)

    def _make_playlist(self) -> bytes:
        text = self._chance.choice(
            [
                b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
                b"ffconcat version 1.0\nfile /etc/passwd\n",
                b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n#EXT-X-ENDLIST\n",
            ]
        )
        return request(form(text), headers=self._headers)

    def _make_bomb_of_silence(self) -> bytes:
        return request(form(self._bomb), headers=self._headers)

    def _make_empty_file(self) -> bytes:
        return request(form(b""), headers=self._headers)

    def _make_lying_wav(self) -> bytes:
        data = bytearray(self._whole["wav"])
        field = self._chance.choice([(24, b"\xff\xff\xff\x7f"), (22, b"\xff\xff"), (40, None)])
        place, value = field
        data[place : place + len(value or b"1234")] = value or b"\xf0\xff\xff\x10"
        return request(form(bytes(data[:5000])), headers=self._headers)

    def _make_truncated_form(self) -> bytes:
        body = form(self._whole["flac"])
        return request(body[: self._chance.randrange(len(body) - 40)], headers=self._headers)

    def _make_wrong_boundary(self) -> bytes:
        kind = self._chance.choice(
            [
                "multipart/form-data",
                "multipart/form-data; boundary=another",
                "multipart/form-data; boundary=",
                "application/json",
                "application/x-www-form-urlencoded",
                "text/plain",
                "nonsense",
                "",
            ]
        )
        return request(form(self._whole["flac"]), kind=kind, headers=self._headers)

    def _make_noise_for_a_form(self) -> bytes:
        return request(self._noise(), headers=self._headers)

    def _make_many_fields(self) -> bytes:
        fields = {f"x{number}": b"1" for number in range(300)}
        return request(form(self._whole["flac"], **fields), headers=self._headers)

    def _make_huge_field(self) -> bytes:
        return request(form(b"", prompt=b"x" * (2 << 20)), headers=self._headers)

    def _make_wrong_value(self) -> bytes:
        name = self._chance.choice(
            ["temperature", "language", "response_format", "stream", "model", "include[]"]
        )
        value = self._noise(1, 60) if self._chance.random() < 0.7 else b"\x00"
        return request(form(self._whole["flac"], **{name: value}), headers=self._headers)

    def _make_broken_base64(self) -> bytes:
        data = base64.b64encode(self._noise(10)).replace(b"A", b"!")
        reference = b"data:audio/wav;base64," + data
        body = form(self._whole["flac"], **{"known_speaker_references[]": reference})
        return request(body, headers=self._headers)

    def _make_huge_headers(self) -> bytes:
        headers = "X-Long: " + "x" * self._chance.choice([70_000, 200_000]) + "\r\n"
        return request(b"", headers=headers)

    def _make_no_http(self) -> bytes:
        return b"\x16\x03\x01" + self._noise(20, 500) + b"\r\n\r\n"

    def _make_wrong_length(self) -> bytes:
        length = self._chance.choice(["-1", "abc", "1e9", "99999999999999999999"])
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        return (head + self._headers + "\r\n").encode()

    def _make_unknown_place(self) -> bytes:
        place = "/v1/" + "".join(self._chance.choices("abc/%2e.", k=20))
        return request(self._noise(), place=place, headers=self._headers)

    def _make_unknown_method(self) -> bytes:
        method = self._chance.choice(["GET", "PUT", "PATCH", "TRACE", "BREW"])
        head = f"{method} {PATH} HTTP/1.1\r\nHost: localhost\r\n{self._headers}\r\n"
        return head.encode()


def requests(seed: int, count: int, key: str | None = None) -> Iterator[tuple[str, bytes]]:
    """A number of wrong requests, with their kinds."""
    maker = Maker(seed, key)
    for _ in range(count):
        yield maker.one()
