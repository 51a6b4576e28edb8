"""Forms are parsed while they arrive: files go to the disk, text is limited, and a form that breaks
off is an error."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from urllib.parse import parse_qsl

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from auris.server.errors import ApiError, busy, invalid

MOST_FIELDS, MOST_TEXT_BYTES = 200, 1 << 20
"""Limits of a form besides its file: fields, and bytes of text in all of them with their names. The
limit of the file is that of the request."""

AUDIO_FIELDS = frozenset({"known_speaker_references", "known_speaker_references[]"})
"""Fields whose text is audio; they have a limit of their own."""

MOST_AUDIO_BYTES = 16 << 20
"""Largest text of such fields together."""

IN_MEMORY_BYTES = 1 << 20
"""Largest file that stays in memory."""

CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "windows-1252"})
"""Encodings of the text of a form. Others of Python's raise errors of many kinds."""

Fields = list[tuple[str, str | UploadFile]]

RETRY_SECONDS = 10
"""When a client may send an upload again for which there was no room."""


class SpoolBudget:
    """The bytes of all uploads of this process and of samples decoded from them, on the disk and in
    memory."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self.used = 0

    def change(self, count: int) -> None:
        """Take bytes, or give them back where `count` is negative; an `ApiError` where there is no
        room now."""
        with self._lock:
            if self.used + count > self.most_bytes:
                raise busy("There is no room for more uploads now.", RETRY_SECONDS)
            self.used += count


class _MultipartForm:
    """A multipart form that is being read."""

    def __init__(self, charset: str, budget: SpoolBudget) -> None:
        self.fields: Fields = []
        self._upload: UploadFile | None = None
        self._ended = False
        self._charset = charset
        self._budget = budget
        self._bytes, self._text_bytes, self._audio_bytes = 0, 0, 0
        self._header, self._value, self._disposition = b"", b"", b""
        self._name = ""
        self._text: bytearray | None = None  # Of the present part, which is a file without.

    async def read(self, request: Request, boundary: bytes) -> None:
        """Read the form to its end; an `ApiError` where it is wrong, incomplete or too large."""
        try:
            parser = MultipartParser(
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
            async for data in request.stream():
                self._budget.change(len(data))
                self._bytes += len(data)
                if self._bytes > IN_MEMORY_BYTES:
                    await asyncio.to_thread(parser.write, data)
                else:
                    parser.write(data)
            parser.finalize()
        except FormParserError as error:
            raise _form_error(f"The form cannot be read ({error}).") from None
        if not self._ended:
            raise _form_error("The form breaks off before its end.")

    def close(self) -> None:
        """Close the file."""
        self._budget.change(-self._bytes)
        if self._upload is not None:
            self._upload.file.close()

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
        if self._upload is not None:
            reason = "a request has to hold one file, but there are several"
            raise invalid("file", f"{reason}: send one request for each")
        spool = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        self._upload = UploadFile(spool, filename=filename)  # type: ignore[arg-type]
        self.fields.append((self._name, self._upload))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is not None:
            if self._name in AUDIO_FIELDS:
                self._count_audio(end - start)
            else:
                self._count_text(end - start)
            self._text += data[start:end]
            return
        assert self._upload is not None
        self._upload.file.write(data[start:end])

    def _end_part(self) -> None:
        if self._text is not None:
            try:
                self.fields.append((self._name, self._text.decode(self._charset)))
            except UnicodeDecodeError:
                raise invalid(self._name, f"its bytes are no text in {self._charset}") from None

    def _end(self) -> None:
        self._ended = True
        if self._upload is not None:
            self._upload.file.seek(0)

    def _count_text(self, count: int) -> None:
        self._text_bytes += count
        if self._text_bytes > MOST_TEXT_BYTES:
            reason = f"the fields besides the file may have {MOST_TEXT_BYTES} bytes together"
            raise invalid(self._name[:100], reason)

    def _count_audio(self, count: int) -> None:
        self._audio_bytes += count
        if self._audio_bytes > MOST_AUDIO_BYTES:
            reason = f"all of them may have {MOST_AUDIO_BYTES >> 20} MB together"
            raise invalid(self._name, f"{reason}: send them compressed, or with one channel")


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The form of a request; its file is closed when the block ends.

    Raises:
        ApiError: the body is not a form, or there is no room for it.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    charset = options.get(b"charset", b"utf-8").decode("latin-1").lower()
    if charset not in CHARSETS:
        raise _form_error(f"The charset {charset[:40]!r} is not supported: use utf-8.")
    if kind == b"application/x-www-form-urlencoded":
        yield FormData(await _urlencoded(request, charset))
    elif kind != b"multipart/form-data":
        shown = kind.decode("latin-1")[:100]
        actual = f"its Content-Type is {shown!r}" if shown else "it has no Content-Type"
        raise _form_error(f"The request has to be a form, multipart/form-data, but {actual}.")
    elif not options.get(b"boundary"):
        raise _form_error("The Content-Type of the form has no boundary.")
    else:
        with closing(_MultipartForm(charset, request.app.state.server.spool)) as form:
            await form.read(request, options[b"boundary"])
            yield FormData(form.fields)


async def _urlencoded(request: Request, charset: str) -> Fields:
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
