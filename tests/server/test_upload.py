"""Forms are parsed while they arrive, and limits apply before data is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.datastructures import UploadFile
from starlette.requests import Request

from auris.server.errors import ApiError
from auris.server.upload import MOST_TEXT_BYTES, SpoolBudget, form_of
from tests.server.malformed import BOUNDARY, form, part

MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
CHUNK = 1 << 16


class _Sent:
    """A request whose body arrives in chunks, and the number of chunks that were read."""

    def __init__(self, chunks: Iterable[bytes], kind: str, budget: SpoolBudget) -> None:
        self.taken = 0
        self._chunks = iter(chunks)
        app = SimpleNamespace(state=SimpleNamespace(server=SimpleNamespace(spool=budget)))
        scope = {
            "type": "http",
            "method": "POST",
            "headers": [(b"content-type", kind.encode())],
            "app": app,
        }
        self.request = Request(scope, self._receive)

    async def _receive(self) -> dict[str, Any]:
        self.taken += 1
        chunk = next(self._chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}


def cut(body: bytes, size: int = CHUNK) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def read(sent: _Sent) -> list[tuple[str, str | bytes]]:
    async def fields() -> list[tuple[str, str | bytes]]:
        async with form_of(sent.request) as found:
            return [
                (name, value.file.read() if isinstance(value, UploadFile) else value)
                for name, value in found.multi_items()
            ]

    return asyncio.run(fields())


def refused(chunks: Iterable[bytes], kind: str = MULTIPART, budget: int = 1 << 40) -> _Sent:
    sent = _Sent(chunks, kind, SpoolBudget(budget))
    with pytest.raises(ApiError) as caught:
        read(sent)
    sent.error = caught.value
    return sent


@pytest.mark.parametrize("size", [1, 7, 1000, CHUNK])
def test_fields_do_not_depend_on_how_the_body_is_split(size: int) -> None:
    data = bytes(range(256)) * (1 if size == 1 else 20)
    body = form(data, prompt="Grüße".encode())
    sent = _Sent(cut(body, size), MULTIPART, SpoolBudget(1 << 40))
    assert read(sent) == [("model", "tiny"), ("prompt", "Grüße"), ("file", data)]


def test_urlencoded_fields_are_read() -> None:
    kind = "application/x-www-form-urlencoded"
    body = b"model=tiny&prompt=a+b%20c%26&url=https%3A%2F%2Fhost%2Fa.wav&x="
    for size in (1, 5, 1000):
        sent = _Sent(cut(body, size), kind, SpoolBudget(1))
        wanted = [("model", "tiny"), ("prompt", "a b c&"), ("url", "https://host/a.wav"), ("x", "")]
        assert read(sent) == wanted
    endless = (b"x=" + bytes(CHUNK) for _ in range(1000))
    assert refused(endless, kind).taken < 40


def test_text_fields_over_the_limit_are_refused_during_the_upload() -> None:
    head = part("prompt", b"").removesuffix(b"\r\n")
    sent = refused([head, *([b"x" * CHUNK] * 1000)])
    assert sent.taken <= MOST_TEXT_BYTES // CHUNK + 3
    assert sent.error.param == "prompt"


def test_text_fields_share_one_limit() -> None:
    field = part("keywords[]", b"x" * CHUNK)
    sent = refused([field] * 1000)
    assert sent.taken <= MOST_TEXT_BYTES // CHUNK + 3


def test_part_headers_are_limited() -> None:
    sent = refused([f"--{BOUNDARY}\r\nX-Long: ".encode(), *([b"x" * CHUNK] * 1000)])
    assert sent.taken < 5


def test_uploads_share_the_budget() -> None:
    budget = SpoolBudget(3 * CHUNK)
    body = form(b"x" * (2 * CHUNK))

    async def two() -> None:
        async with form_of(_Sent(cut(body), MULTIPART, budget).request):
            assert budget.used == len(body)
            with pytest.raises(ApiError) as caught:
                async with form_of(_Sent(cut(body), MULTIPART, budget).request):
                    raise AssertionError
            assert caught.value.status == 429
            assert int(caught.value.headers["Retry-After"]) > 0
            assert budget.used == len(body)
        assert budget.used == 0
        async with form_of(_Sent(cut(body), MULTIPART, budget).request):
            assert budget.used == len(body)

    asyncio.run(two())


@pytest.mark.parametrize("charset", ["rot13", "nonsense", "hex", "idna", "utf-7", "utf-16"])
def test_an_unknown_charset_is_refused(charset: str) -> None:
    sent = refused(cut(form(b"x")), f"{MULTIPART}; charset={charset}")
    assert sent.error.status == 400


@pytest.mark.parametrize("length", [0, 10, 100, 300])
def test_a_truncated_form_is_refused(length: int) -> None:
    refused(cut(form(b"x" * 1000)[:length]))
