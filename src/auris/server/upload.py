"""Forms as they arrive: files go to the disk, text is limited, and a form that breaks off is none.

Parts of a form are parsed while they come, so that what is too much is refused before it is held.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import unquote_to_bytes

from python_multipart import MultipartParser, QuerystringParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.requests import Request

from auris.server.errors import ApiError, busy

__all__ = ["SpoolBudget", "form_of"]

MOST_FIELDS, MOST_TEXT_BYTES = 200, 1 << 20
"""What a form may hold beside its one file: fields, and bytes of text in all of them, with their
names. The file's limit is that of the request."""

IN_MEMORY_BYTES = 1 << 20
"""Largest file that is held in memory."""

RETRY_SECONDS = 10
"""When somebody may try again whose upload found no room."""


class SpoolBudget:
    """The bytes of all uploads of this process that lie on the disk or in memory at once.

    Args:
        most_bytes: how many there may be.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._change = threading.Lock()
        self.used = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes more of the budget; all of it is given back when the block ends.

        Raises:
            ApiError: of the function: there is no room now.
        """
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            with self._change:
                if self.used + count > self._most:
                    raise busy("There is no room for more uploads now.", RETRY_SECONDS)
                self.used += count
                taken += count

        try:
            yield take
        finally:
            with self._change:
                self.used -= taken


class _Form:
    """A form that is being read: its fields so far."""

    def __init__(self, charset: str, files: ExitStack) -> None:
        self.fields: list[tuple[str, str | UploadFile]] = []
        self.ended = False
        self.to_write: list[bytes] = []
        self.upload: UploadFile | None = None
        self._charset = charset
        self._files = files
        self._text_bytes = 0
        self._name = b""
        self._data = bytearray()

    def begin_field(self, name: bytes) -> None:
        """A field of text begins."""
        self._count(len(name))
        self._name = name
        if len(self.fields) >= MOST_FIELDS:
            raise _no_form(f"A form may have {MOST_FIELDS} fields.")

    def add_text(self, data: bytes) -> None:
        """More of the field."""
        self._count(len(data))
        self._data += data

    def end_field(self) -> None:
        """The field is whole."""
        name = self._name.decode(self._charset, "replace")
        try:
            text = self._data.decode(self._charset)
        except UnicodeDecodeError:
            raise ApiError(
                400,
                f"Invalid '{name}': its bytes are no text in {self._charset}.",
                param=name,
                code="invalid_value",
            ) from None
        self.fields.append((name, text))
        self._name, self._data = b"", bytearray()

    def begin_file(self, name: bytes, filename: bytes, headers: Headers) -> None:
        """A file begins."""
        if self.upload is not None:
            raise ApiError(
                400,
                "Invalid 'file': a request has to hold one file, but there are several: send one "
                "request for each.",
                param="file",
                code="invalid_value",
            )
        spool = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        self._files.callback(spool.close)
        shown = filename.decode(self._charset, "replace")
        self.upload = UploadFile(spool, size=0, filename=shown, headers=headers)  # type: ignore[arg-type]
        self.fields.append((name.decode(self._charset, "replace"), self.upload))

    def end(self) -> None:
        """The form is whole."""
        self.ended = True

    def _count(self, count: int) -> None:
        self._text_bytes += count
        if self._text_bytes > MOST_TEXT_BYTES:
            name = self._name.decode(self._charset, "replace")[:100]
            raise ApiError(
                400,
                f"Invalid '{name}': the fields beside the file may have {MOST_TEXT_BYTES} bytes "
                "together.",
                param=name,
                code="invalid_value",
            )


class _Parts:
    """Hands the parts of a multipart form to a `_Form`, as python-multipart finds them."""

    def __init__(self, boundary: bytes, form: _Form) -> None:
        self._form = form
        self._headers: list[tuple[bytes, bytes]] = []
        self._header = [b"", b""]
        self._is_file = False
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_header_field": self._add_header_name,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_end": form.end,
            },
        )

    def _begin_part(self) -> None:
        self._headers = []

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _end_header(self) -> None:
        name, value = self._header
        self._headers.append((name.lower(), value))
        self._header = [b"", b""]

    def _end_headers(self) -> None:
        headers = Headers(raw=self._headers)
        _, options = parse_options_header(headers.get("content-disposition"))
        if b"name" not in options:
            raise _no_form("A part of the form has no name.")
        self._is_file = b"filename" in options
        if self._is_file:
            self._form.begin_file(options[b"name"], options[b"filename"], headers)
        else:
            self._form.begin_field(options[b"name"])

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._form.to_write.append(data[start:end])
        else:
            self._form.add_text(data[start:end])

    def _end_part(self) -> None:
        if not self._is_file:
            self._form.end_field()


class _QueryFields:
    """Hands the fields of an urlencoded form to a `_Form`; it has no files."""

    def __init__(self, form: _Form) -> None:
        self._form = form
        self._name = bytearray()
        self._value = bytearray()
        self.parser = QuerystringParser(
            {
                "on_field_name": self._add_name,
                "on_field_data": self._add_value,
                "on_field_end": self._end_field,
                "on_end": form.end,
            },
            max_size=MOST_TEXT_BYTES,
        )

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_field(self) -> None:
        self._form.begin_field(_unquoted(self._name))
        self._form.add_text(_unquoted(self._value))
        self._form.end_field()
        self._name.clear()
        self._value.clear()


def _unquoted(text: bytearray) -> bytes:
    return unquote_to_bytes(bytes(text.replace(b"+", b" ")))


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The form of a request; its files are gone when the block ends.

    Raises:
        ApiError: it is no form, or there is no room for it.
    """
    budget: SpoolBudget = request.app.state.server.spool
    with ExitStack() as files:
        take = files.enter_context(budget.share())
        form = _Form(_charset_of(request), files)
        parser = _parser_of(request, form)
        await _read(request, form, parser, take)
        yield FormData(form.fields)


async def _read(request: Request, form: _Form, parser: Any, take: Callable[[int], None]) -> None:
    try:
        async for data in request.stream():
            if not data:
                continue
            if parser.write(data) < len(data):
                raise _no_form(f"A form without a file may have {MOST_TEXT_BYTES} bytes.")
            if form.to_write:
                take(sum(map(len, form.to_write)))
                await _write(form)
        parser.finalize()
    except FormParserError as error:
        raise _no_form(f"The form cannot be read ({error}).") from None
    if not form.ended:
        raise _no_form("The form breaks off before its end.")
    if form.upload is not None:
        form.upload.file.seek(0)


async def _write(form: _Form) -> None:
    """Write what has come of the file."""
    assert form.upload is not None
    data = b"".join(form.to_write)
    form.to_write.clear()
    size = form.upload.size or 0
    form.upload.size = size + len(data)
    if form.upload.size > IN_MEMORY_BYTES:
        await asyncio.to_thread(form.upload.file.write, data)
    else:
        form.upload.file.write(data)


def _charset_of(request: Request) -> str:
    _, options = parse_options_header(request.headers.get("content-type"))
    charset = options.get(b"charset", b"utf-8").decode("latin-1")
    try:
        b"x".decode(charset)
    except (LookupError, ValueError):
        raise _no_form(f"The charset {charset[:40]!r} is none: use utf-8.") from None
    return charset


def _parser_of(request: Request, form: _Form) -> Any:
    kind, options = parse_options_header(request.headers.get("content-type"))
    shown = kind.decode("latin-1")
    if kind == b"multipart/form-data":
        if not options.get(b"boundary"):
            raise _no_form("The Content-Type of the form has no boundary.")
        try:
            return _Parts(options[b"boundary"], form).parser
        except FormParserError as error:
            raise _no_form(f"The boundary of the form is wrong ({error}).") from None
    if kind == b"application/x-www-form-urlencoded":
        return _QueryFields(form).parser
    found = f"its Content-Type is {shown[:100]!r}" if shown else "it has no Content-Type"
    raise _no_form(f"The request has to be a form, multipart/form-data, but {found}.")


def _no_form(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_form")
