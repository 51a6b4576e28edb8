"""Events of a connection: reading them with limits, and checking their fields."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from wyoming.audio import AudioFormat
from wyoming.event import Event, async_read_event

from auris.audio.resample import check_rate
from auris.errors import AurisError
from auris.text.tokenizer import check_unicode

MOST_HEADER_BYTES = 64 << 10
"""Longest header line of an event."""

MOST_PART_BYTES = 4 << 20
"""Most bytes of the data or the payload of an event: 20 s of stereo audio at 48 kHz."""

WIDTHS = (1, 2, 3, 4)
MOST_CHANNELS = 8

T = TypeVar("T")


class WyomingError(Exception):
    """An `error` event, after which the connection is closed: a sentence and a code."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def as_wyoming_error(error: AurisError) -> WyomingError:
    """The event of an error of a stream or of its options."""
    return WyomingError(str(error), "invalid_request" if error.exit_code == 2 else "failed")


class EventReader(asyncio.StreamReader):
    """A reader that refuses events that are too large before they are in memory."""

    def __init__(self) -> None:
        super().__init__(limit=MOST_HEADER_BYTES)

    async def readexactly(self, n: float) -> bytes:
        """Read the data or the payload of an event."""
        if not isinstance(n, int):
            raise TypeError
        if n > MOST_PART_BYTES:
            raise WyomingError(
                f"A part of an event may have {MOST_PART_BYTES} bytes, but this one has {n}: send "
                "the audio in smaller chunks.",
                "event_too_large",
            )
        return await super().readexactly(n)


async def read_event(reader: EventReader) -> Event | None:
    """The next event; None at the end of the connection.

    Raises:
        WyomingError: what came is no event, or it is too large.
    """
    try:
        event = await async_read_event(reader)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except (AttributeError, KeyError, TypeError, RecursionError):
        raise invalid_event("it is not one of the Wyoming protocol") from None
    if event is None and not reader.at_eof():  # The package gives None for invalid JSON, too.
        raise invalid_event("it is not one of the Wyoming protocol")
    if event is not None and not (isinstance(event.type, str) and isinstance(event.data, dict)):
        raise invalid_event("it is not one of the Wyoming protocol")
    return event


def text_field(event: Event, name: str) -> str | None:
    """A field that is a text, or left out."""
    text = _field(event, name, str)
    if text is not None:
        _check_text(name, text)
    return text


def texts_field(event: Event, name: str) -> list[str]:
    """A field that is a list of texts; the same as an empty one where it is left out."""
    texts = _field(event, name, list) or []
    if not all(isinstance(text, str) for text in texts):
        raise invalid_event(f"{name} is no list of texts")
    for text in texts:
        _check_text(name, text)
    return texts


def _check_text(name: str, text: str) -> None:
    try:
        check_unicode(text)
    except AurisError as error:
        raise invalid_event(f"{name} is {text!r:.60}, and {error.actual}") from None


def _field(event: Event, name: str, kind: type[T]) -> T | None:
    value = event.data.get(name)
    if value is not None and not isinstance(value, kind):
        raise invalid_event(f"{name} is {value!r:.60}")
    return value


def audio_format(event: Event) -> AudioFormat:
    """The format of the audio of an event, checked."""
    rate, width, channels = (event.data.get(name) for name in ("rate", "width", "channels"))
    if isinstance(width, bool) or width not in WIDTHS:
        raise _unsupported_audio(f"width has to be 1 to 4 bytes, but it is {width!r:.60}")
    counted = isinstance(channels, int) and not isinstance(channels, bool)
    if not counted or not 1 <= channels <= MOST_CHANNELS:
        rule = f"there have to be 1 to {MOST_CHANNELS} channels"
        raise _unsupported_audio(f"{rule}, but channels is {channels!r:.60}")
    try:
        return AudioFormat(check_rate(rate), width, channels)
    except AurisError as error:
        raise _unsupported_audio(f"{error.rule}, but {error.actual}") from None


def audio_bytes(event: Event, expected: AudioFormat) -> bytes:
    """The samples of an `audio-chunk`, which has the format of its stream."""
    if audio_format(event) != expected:
        raise _unsupported_audio("the format changes in the middle of the audio")
    data = event.payload or b""
    if len(data) % (expected.width * expected.channels):
        raise _unsupported_audio("a chunk ends in the middle of a sample")
    return data


def invalid_event(what: str) -> WyomingError:
    """The error of an event that is wrong in itself, or comes at a wrong time."""
    return WyomingError(f"This event cannot be used: {what}.", "invalid_event")


def _unsupported_audio(what: str) -> WyomingError:
    return WyomingError(f"This audio cannot be used: {what}.", "unsupported_audio")
