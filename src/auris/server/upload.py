"""Forms are parsed while they arrive: files go to the disk, text is limited, and a form that breaks
off is an error."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from urllib.parse import parse_qsl

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from auris.server.errors import ApiError, busy, invalid

__all__ = ["SpoolBudget", "form_of"]

MOST_FIELDS, MOST_TEXT_BYTES = 200, 1 << 20
"""Limits of a form besides its file: fields, and bytes of text in all of them with their names. The
limit of the file is that of the request."""

IN_MEMORY_BYTES = 1 << 20
"""Largest file that stays in memory."""

RETRY_SECONDS = 10
"""When a client may send an upload again for which there was no room."""


class SpoolBudget:
    """The bytes of all uploads of this process that are on the disk or in memory at once.

    Args:
        most_bytes: how many there may be.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
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
            with self._lock:
                if self.used + count > self._most:
                    raise busy("There is no room for more uploads now.", RETRY_SECONDS)
                self.used += count
                taken += count

        try:
            yield take
        finally:
            with self._lock:
                self.used -= taken


class _MultipartForm:
    """A multipart form that is being parsed.

    Args:
        boundary: between its parts.
        charset: of its text.
        files: closes the file.
        take: takes bytes of the budget.
    """

    def __init__(
        self, boundary: bytes, charset: str, files: ExitStack, take: Callable[[int], None]
    ) -> None:
        self.fields: list[tuple[str, str | UploadFile]] = []
        self.upload: UploadFile | None = None
        self.ended = False
        self._charset = charset
        self._files = files
        self._take = take
        self._text_bytes = 0
        self._header, self._value, self._disposition = b"", b"", b""
        self._name = ""
        self._text: bytearray | None = None  # Of the present part, which is a file without.
        self.parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._add_header_name,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_part,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _begin_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._disposition = b""
        if b"name" not in options:
            raise _form_error("A part of the form has no name.")
        if len(self.fields) >= MOST_FIELDS:
            raise _form_error(f"A form may have {MOST_FIELDS} fields.")
        self._name = options[b"name"].decode(self._charset, "replace")
        self._count_text(len(options[b"name"]))
        self._text = None if b"filename" in options else bytearray()
        if self._text is None:
            self._begin_file(options[b"filename"].decode(self._charset, "replace"))

    def _begin_file(self, filename: str) -> None:
        if self.upload is not None:
            raise invalid(
                "file",
                "a request has to hold one file, but there are several: send one request for each",
            )
        spool = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        self._files.callback(spool.close)
        self.upload = UploadFile(spool, size=0, filename=filename)  # type: ignore[arg-type]
        self.fields.append((self._name, self.upload))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is not None:
            self._count_text(end - start)
            self._text += data[start:end]
            return
        assert self.upload is not None
        self._take(end - start)
        self.upload.size = (self.upload.size or 0) + end - start
        self.upload.file.write(data[start:end])

    def _end_part(self) -> None:
        if self._text is not None:
            try:
                self.fields.append((self._name, self._text.decode(self._charset)))
            except UnicodeDecodeError:
                raise invalid(self._name, f"its bytes are no text in {self._charset}") from None

    def _end(self) -> None:
        self.ended = True
        if self.upload is not None:
            self.upload.file.seek(0)

    def _count_text(self, count: int) -> None:
        self._text_bytes += count
        if self._text_bytes > MOST_TEXT_BYTES:
            reason = f"the fields besides the file may have {MOST_TEXT_BYTES} bytes together"
            raise invalid(self._name[:100], reason)


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The form of a request; its file is closed when the block ends.

    Raises:
        ApiError: the body is not a form, or there is no room for it.
    """
    budget: SpoolBudget = request.app.state.server.spool
    kind, options = parse_options_header(request.headers.get("content-type"))
    charset = options.get(b"charset", b"utf-8").decode("latin-1")
    try:
        b"x".decode(charset)
    except (LookupError, ValueError):
        raise _form_error(f"The charset {charset[:40]!r} is unknown: use utf-8.") from None
    with ExitStack() as files:
        if kind == b"multipart/form-data":
            if not options.get(b"boundary"):
                raise _form_error("The Content-Type of the form has no boundary.")
            take = files.enter_context(budget.share())
            try:
                form = _MultipartForm(options[b"boundary"], charset, files, take)
                await _parse(request, form)
            except FormParserError as error:
                raise _form_error(f"The form cannot be read ({error}).") from None
            yield FormData(form.fields)
        elif kind == b"application/x-www-form-urlencoded":
            yield FormData(await _urlencoded(request, charset))
        else:
            shown = kind.decode("latin-1")[:100]
            found = f"its Content-Type is {shown!r}" if shown else "it has no Content-Type"
            raise _form_error(f"The request has to be a form, multipart/form-data, but {found}.")


async def _parse(request: Request, form: _MultipartForm) -> None:
    async for data in request.stream():
        if form.upload is not None and (form.upload.size or 0) + len(data) > IN_MEMORY_BYTES:
            await asyncio.to_thread(form.parser.write, data)
        else:
            form.parser.write(data)
    form.parser.finalize()
    if not form.ended:
        raise _form_error("The form breaks off before its end.")


async def _urlencoded(request: Request, charset: str) -> list[tuple[str, str | UploadFile]]:
    body = b""
    async for data in request.stream():
        body += data
        if len(body) > MOST_TEXT_BYTES:
            raise _form_error(f"A form without a file may have {MOST_TEXT_BYTES} bytes.")
    try:
        text = body.decode(charset)
        return list(
            parse_qsl(text, True, False, charset, errors="strict", max_num_fields=MOST_FIELDS)
        )
    except ValueError as error:
        raise _form_error(f"The form cannot be read ({error}).") from None


def _form_error(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_form")
