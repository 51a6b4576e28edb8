"""The speakers of a realtime session, which are the same in all of its items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from auris.diarization.diarizer import ANY_COUNT, Diarizer
from auris.diarization.live import LiveDiarization
from auris.streaming.speakers import SpeakerText, StreamSpeakers
from auris.types import SAMPLE_RATE


class SessionSpeakers:
    """Tells the speakers of a session apart, whose items are recognized one after the other."""

    def __init__(self, diarizer: Diarizer) -> None:
        self._live = LiveDiarization(diarizer, ANY_COUNT)
        self._items: dict[str, tuple[float, StreamSpeakers]] = {}
        self._corrected: list[dict[str, Any]] | None = None

    def begin(self, start: float) -> LiveDiarization:
        """What tells the speakers of an item apart, which begins at this second of the session."""
        self._live.origin = round(start * SAMPLE_RATE)
        self._corrected = None
        return self._live

    def add(self, item: str, start: float, speakers: StreamSpeakers) -> None:
        """Add an item, whose text may have corrected speakers later."""
        self._items[item] = (start, speakers)

    def remove(self, item: str) -> None:
        """Forget an item whose audio was dropped."""
        self._items.pop(item, None)

    def corrected(self) -> list[dict[str, Any]]:
        """The items with the speakers of their texts, by all audio so far."""
        if self._corrected is None:
            turns = self._live.finish()
            self._corrected = [
                {"item_id": item, "speakers": in_milliseconds(start, speakers.corrected(turns))}
                for item, (start, speakers) in list(self._items.items())
            ]
        return self._corrected


def in_milliseconds(start: float, parts: Sequence[SpeakerText]) -> list[dict[str, Any]]:
    """Texts of speakers in an item that begins at this second, as fields of an event."""

    def time(seconds: float | None) -> int | None:
        return None if seconds is None else round(1000 * (start + seconds))

    return [
        {
            "speaker": part.speaker,
            "text": part.text,
            "start_ms": time(part.start),
            "end_ms": time(part.end),
        }
        for part in parts
    ]
