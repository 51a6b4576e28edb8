"""Forms as they arrive: files go to the disk, and a form that breaks off is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from auris.server.failures import ApiError

__all__ = ["form_of"]

MOST_FIELDS, MOST_FIELD_BYTES = 200, 1 << 20
"""What a form may hold beside its one file, whose limit is that of the request."""


class _WholeForm(MultiPartParser):
    """A parser that refuses text in another charset, and notices whether a form came to its end."""

    ended = False

    def on_headers_finished(self) -> None:
        try:
            super().on_headers_finished()
        except MultiPartException:
            if self._current_files <= self.max_files:
                raise
            raise ApiError(
                400,
                "Invalid 'file': a request has to hold one file, but there are several: send one "
                "request for each.",
                param="file",
                code="invalid_value",
            ) from None

    def on_part_end(self) -> None:
        part = self._current_part
        if part.file is None:
            try:
                part.data.decode(self._charset)
            except UnicodeDecodeError:
                name = part.field_name
                raise ApiError(
                    400,
                    f"Invalid '{name}': its bytes are no text in {self._charset}.",
                    param=name,
                    code="invalid_value",
                ) from None
        super().on_part_end()

    def on_end(self) -> None:
        self.ended = True

    async def whole(self) -> FormData:
        """The form.

        Raises:
            MultiPartException: it is none, or breaks off.
        """
        form = await self.parse()
        if not self.ended:
            for file in self._files_to_close_on_error:
                file.close()
            raise MultiPartException("The form breaks off before its end.")
        return form


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The form of a request; its files are gone when the block ends.

    Raises:
        ApiError: it is no form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        parser = _WholeForm(
            request.headers,
            request.stream(),
            max_files=1,
            max_fields=MOST_FIELDS,
            max_part_size=MOST_FIELD_BYTES,
        )
        try:
            form = await parser.whole()
        except MultiPartException as error:
            raise ApiError(400, error.message, code="invalid_form") from None
    elif kind != "application/x-www-form-urlencoded":
        found = f"its Content-Type is {kind[:100]!r}" if kind else "it has no Content-Type"
        raise ApiError(
            400,
            f"The request has to be a form, multipart/form-data, but {found}.",
            code="invalid_form",
        )
    else:
        form = await request.form(max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES)
    try:
        yield form
    finally:
        await form.close()
