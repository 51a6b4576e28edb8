"""Times of words that could not be aligned lie between those of their neighbours."""

from __future__ import annotations

from auris.server.responses import segment_with_words
from auris.server.transcription_request import TranscriptionRequest
from auris.types import Segment, Word

REQUEST = TranscriptionRequest(
    model="tiny", response_format="verbose_json", timestamp_granularities=("word",)
)


def times(*words: Word) -> list[tuple[float, float]]:
    segment = Segment(10.0, 20.0, "text", None, (), (), "stop", words)
    shown = segment_with_words(0, segment, REQUEST)["words"]
    assert [one["word"] for one in shown] == [word.text for word in words]
    return [(one["start"], one["end"]) for one in shown]


def test_words_without_times_divide_the_time_between_timed_words() -> None:
    first, last = Word("a", 11.0, 12.0), Word("d", 14.0, 15.0)
    lost = [Word("b", None, None), Word("c", None, None)]
    assert times(first, *lost, last) == [(11.0, 12.0), (12.0, 13.0), (13.0, 14.0), (14.0, 15.0)]
    assert times(*lost) == [(10.0, 15.0), (15.0, 20.0)]
    assert times(lost[0], first) == [(10.0, 11.0), (11.0, 12.0)]
    assert times(last, lost[0]) == [(14.0, 15.0), (15.0, 20.0)]
