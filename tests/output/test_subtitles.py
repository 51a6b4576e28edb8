"""Cues: where they end, and their times."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.errors import UsageError
from auris.output.subtitles import CueStream, CueStyle, cues
from auris.text.wrap import columns, one_line
from auris.types import Segment, Transcript, Word

STYLE = CueStyle()


def segment(
    text: str, start: float = 0.0, end: float = 30.0, words: tuple[Word, ...] | None = None
) -> Segment:
    return Segment(start, end, text, "English", (), (), "stop", words)


def transcript(*segments: Segment) -> Transcript:
    text = " ".join(one.text for one in segments)
    return Transcript(text, "English", segments, None, "stop", 30.0)


def spoken_words(text: str, at: float = 0.0, each: float = 0.4) -> tuple[Word, ...]:
    """Words without punctuation, in a row."""
    return tuple(
        Word(word.strip(".,"), at + place * each, at + (place + 1) * each)
        for place, word in enumerate(text.split())
    )


def test_every_sentence_is_a_cue() -> None:
    shown = cues(transcript(segment("This is the first. This is the other one.")), STYLE)
    assert [cue.lines for cue in shown] == [
        ("This is the first.",),
        ("This is the other one.",),
    ]
    assert (shown[0].start, shown[-1].end) == (0, 30_000)
    assert shown[0].end == shown[1].start


def test_cues_of_a_text_in_written_form_have_the_times_of_its_words() -> None:
    said = "I paid twenty five dollars. They came on may third. So we went."
    shown = cues(
        transcript(
            segment("I paid $25. They came on May 3. So we went.", words=spoken_words(said))
        ),
        STYLE,
    )
    assert [cue.lines for cue in shown] == [
        ("I paid $25.",),
        ("They came on May 3.",),
        ("So we went.",),
    ]
    assert [cue.start for cue in shown] == [0, 2000, 4000]


def test_time_is_divided_by_the_number_of_letters() -> None:
    shown = cues(transcript(segment("aaaa. bbbbbbbbbbbbbb.", 10.0, 20.0)), STYLE)
    assert [(cue.start, cue.end) for cue in shown] == [(10_000, 12_500), (12_500, 20_000)]


def test_a_long_sentence_ends_cues_at_clauses() -> None:
    text = "When the rain had stopped at last, everybody went out to see what had happened there"
    shown = cues(transcript(segment(text, 0.0, 5.0)), CueStyle(30, 2))
    assert shown[0].lines == ("When the rain had", "stopped at last,")
    assert len(shown) == 2


def test_cues_without_clauses_are_balanced() -> None:
    text = " ".join(["word"] * 20)
    shown = cues(transcript(segment(text, 0.0, 6.0)), CueStyle(40, 2))
    assert [sum(line.count("word") for line in cue.lines) for cue in shown] == [10, 10]


def test_a_cue_over_the_longest_duration_is_divided() -> None:
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    shown = cues(transcript(segment(text, 0.0, 20.0)), CueStyle(20, 4))
    assert len(shown) > 2
    assert all(cue.end - cue.start <= 7500 for cue in shown)


def test_times_follow_the_words() -> None:
    text = "Hello there. How are you?"
    words = (*spoken_words("Hello there.", 1.0, 0.6), *spoken_words("How are you", 2.5))
    shown = cues(transcript(segment(text, words=words)), STYLE)
    assert [(cue.start, cue.end) for cue in shown] == [(1000, 2200), (2500, 3700)]


def test_a_pause_ends_a_cue() -> None:
    words = (*spoken_words("so well", 0.0), *spoken_words("yes", 9.0))
    shown = cues(transcript(segment("so well yes", words=words)), STYLE)
    assert [cue.lines for cue in shown] == [("so well",), ("yes",)]
    assert [(cue.start, cue.end) for cue in shown] == [(0, 1000), (9000, 10_000)]


def test_the_duration_of_a_long_word_is_limited() -> None:
    (shown,) = cues(transcript(segment("well", words=(Word("well", 1.0, 25.0),))), STYLE)
    assert (shown.start, shown.end) == (1000, 8000)
    (spread,) = cues(transcript(segment("well", 1.0, 25.0)), STYLE)
    assert (spread.start, spread.end) == (1000, 25_000)


def test_words_without_times_divide_the_time_between_timed_words() -> None:
    text = "one two three four"
    words = (Word("one", 0.0, 1.0), Word("two", None, None), Word("3", 2.0, 3.0))
    words += (Word("", 3.0, 3.0), Word("four", 5.0, 6.0))
    (shown,) = cues(transcript(segment(text, words=words)), STYLE)
    assert (shown.start, shown.end) == (0, 6000)


def test_short_neighbouring_cues_are_merged() -> None:
    text = "Yes. No. OK. That is what everybody said."
    shown = cues(transcript(segment(text, 0.0, 4.1)), STYLE)
    assert shown[0].lines == ("Yes. No. OK.",)
    words = (*spoken_words("Yes.", 0.0), *spoken_words("No.", 5.0))
    apart = cues(transcript(segment("Yes. No.", words=words)), STYLE)
    assert [cue.lines for cue in apart] == [("Yes.",), ("No.",)]


def test_overlapping_speakers_have_consecutive_cues() -> None:
    both = transcript(segment("One side.", 0.0, 3.0), segment("Other side.", 0.0, 4.0))
    assert [(cue.start, cue.end) for cue in cues(both, STYLE)] == [(0, 1000), (1000, 4000)]


def test_a_stream_of_cues_accepts_a_segment_without_text_first() -> None:
    stream = CueStream(STYLE)
    assert stream.add(segment("", 0.0, 5.0)) == []
    assert [cue.lines for cue in stream.add(segment("Text.", 5.0, 9.0)) + stream.end()] == [
        ("Text.",)
    ]


@pytest.mark.parametrize("text", ["", " \n", "\x00\t"])
def test_segments_without_text_have_no_cue(text: str) -> None:
    assert cues(transcript(segment(text)), STYLE) == []
    assert cues(transcript(), STYLE) == []


@pytest.mark.parametrize("value", [9, 1001, 42.0, True, None])
def test_invalid_styles(value: object) -> None:
    with pytest.raises(UsageError, match="max_line_width has to be a whole number from 10"):
        CueStyle(value)
    with pytest.raises(UsageError, match="max_line_count"):
        CueStyle(42, 11)


TEXTS = st.text(
    st.one_of(st.sampled_from("ab cd  .,!?。，「」好한の\u0301\t\n"), st.characters()), max_size=120
)
TIMES = st.floats(0, 100)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    segments = []
    for _ in range(draw(st.integers(0, 4))):
        text, start, length = draw(TEXTS), draw(TIMES), draw(TIMES)
        times = st.tuples(st.none() | TIMES, st.none() | TIMES)
        words = None
        if draw(st.booleans()):
            pieces = [*text.split(), "else", ""]
            words = tuple(Word(piece, *draw(times)) for piece in pieces)
        segments.append(segment(text, start, start + length, words))
    segments.sort(key=lambda one: one.start)
    return transcript(*segments)


@given(transcripts(), st.integers(10, 50), st.integers(1, 3))
def test_cues_of_any_words_are_valid(given: Transcript, width: int, count: int) -> None:
    shown = cues(given, CueStyle(width, count))
    for cue in shown:
        assert cue.end > cue.start >= 0
        assert 1 <= len(cue.lines) <= count
        assert all(line and columns(line) <= width for line in cue.lines)
    for before, after in pairwise(shown):
        assert before.end <= after.start
    letters = sorted("".join(line for cue in shown for line in cue.lines).replace(" ", ""))
    wanted = "".join(one_line(one.text) for one in given.segments)
    assert letters == sorted(wanted.replace(" ", ""))
