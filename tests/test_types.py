"""The types of results: immutable, and plain JSON."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from auris import Chunk, Segment, Transcript, Waveform, Word
from auris.types import Retry

SEGMENT = Segment(1.00049, 2.5, "hi", "English", (5, 6), (-0.25, -0.75), "stop")


def test_results_are_immutable() -> None:
    samples = np.zeros(4, np.float32)
    word = Word("hi", 0.0, None)
    transcript = Transcript("hi", None, (SEGMENT,), None, "stop", 1.0)
    for value in (Waveform(samples), Chunk(0, samples), word, SEGMENT, transcript):
        field = dataclasses.fields(value)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, None)


def test_seconds_of_a_waveform() -> None:
    assert Waveform(np.zeros(8000, np.float32)).seconds == 0.5


def test_mean_logprob() -> None:
    assert SEGMENT.avg_logprob == -0.5
    silent = dataclasses.replace(SEGMENT, tokens=(), logprobs=())
    assert silent.avg_logprob is None


def test_segment_as_json() -> None:
    assert json.loads(json.dumps(SEGMENT.to_dict())) == {
        "start": 1.0,
        "end": 2.5,
        "text": "hi",
        "language": "English",
        "tokens": [5, 6],
        "token_confidences": [],
        "avg_logprob": -0.5,
        "confidence": None,
        "calibrated": False,
        "no_speech": False,
        "no_speech_probability": None,
        "finish_reason": "stop",
        "truncated": False,
        "skipped": 0.0,
        "word_confidences": [],
    }


def test_confidences_and_retries_as_json() -> None:
    segment = dataclasses.replace(
        SEGMENT,
        token_confidences=(0.123456, 1.0),
        word_confidences=(("hi", 0.98765), ("?", None)),
        confidence=0.98765,
        calibrated=True,
        no_speech_probability=0.1,
        retries=(Retry(1.0, 2.00001, "loop", (7, 7)),),
    )
    content = json.loads(json.dumps(segment.to_dict(), allow_nan=False))
    assert content["token_confidences"] == [0.1235, 1.0]
    assert content["word_confidences"] == [["hi", 0.9877], ["?", None]]
    assert (content["calibrated"], content["no_speech_probability"]) == (True, 0.1)
    assert content["retries"] == [{"start": 1.0, "end": 2.0, "cause": "loop", "tokens": [7, 7]}]
    whole = Transcript("hi", "English", (segment,), 0.9, "stop", 2.5)
    assert whole.calibrated
    assert not dataclasses.replace(whole, segments=(segment, SEGMENT)).calibrated
    assert not dataclasses.replace(whole, segments=()).calibrated


def test_speakers_as_json() -> None:
    named = dataclasses.replace(SEGMENT, speaker="Zoë").to_dict()
    assert named == {**SEGMENT.to_dict(), "speaker": "Zoë"}


def test_transcript_as_json() -> None:
    transcript = Transcript(
        "hi", "English", (SEGMENT,), 0.60653066, "length", 2.49999, {"mel": 0.123456}, 0.25
    )
    content = json.loads(json.dumps(transcript.to_dict(), allow_nan=False))
    assert content == {
        "text": "hi",
        "language": "English",
        "confidence": 0.606531,
        "calibrated": False,
        "finish_reason": "length",
        "truncated": False,
        "audio_seconds": 2.5,
        "skipped": 0.0,
        "peak": 0.25,
        "timings": {"mel": 0.1235},
        "segments": [SEGMENT.to_dict()],
    }
    empty = Transcript("", None, (), None, "stop", 0.0).to_dict()
    assert (empty["confidence"], empty["segments"], empty["timings"]) == (None, [], {})


def test_truncated_text_and_skipped_silence() -> None:
    cut = dataclasses.replace(SEGMENT, finish_reason="length")
    silence = Segment(2.5, 5.25, "", None, (), (), "stop", skipped=2.75)
    assert [s.truncated for s in (SEGMENT, cut, silence)] == [False, True, False]
    whole = Transcript("hi", "English", (SEGMENT, silence, silence), 0.5, "stop", 8.0)
    assert (whole.truncated, whole.skipped) == (False, 5.5)
    assert dataclasses.replace(whole, segments=(cut, silence)).to_dict()["truncated"] is True
    assert whole.to_dict()["segments"][1]["skipped"] == 2.75
    # A silence has no words.
    word = Word("hi", 1.0, 2.0)
    spoken = dataclasses.replace(SEGMENT, words=(word,))
    assert dataclasses.replace(whole, segments=(spoken, silence)).words == (word,)
    assert whole.words is None


def test_silence_is_below_one_step_of_16_bits() -> None:
    assert Transcript("", None, (), None, "stop", 1.0, {}, 0.9 / 32768).silent
    assert not Transcript("", None, (), None, "stop", 1.0, {}, 1 / 32768).silent


def test_words_as_json() -> None:
    word = Word("hi", 1.00049, 1.5, 0.25, repaired=True).moved(1.0)
    assert word.to_dict() == {
        "text": "hi",
        "start": 2.0,
        "end": 2.5,
        "confidence": 0.25,
        "repaired": True,
    }
    unknown = Word("hi", None, None).moved(1.0)
    assert (unknown.start, unknown.end, unknown.to_dict()["start"]) == (None, None, None)
    assert "words" not in SEGMENT.to_dict()
    segment = dataclasses.replace(SEGMENT, words=(word,))
    assert segment.to_dict()["words"] == [word.to_dict()]


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (0.1 + 0.2, 1.1, (0.3, 1.1)),
        (1.00001, 1.99999, (1.001, 1.999)),
        (3.3336, 3.3336, (3.333, 3.333)),
    ],
)
def test_milliseconds_are_inside_the_word(
    start: float, end: float, found: tuple[float, float]
) -> None:
    word = Word("hi", start, end).in_milliseconds()
    assert (word.start, word.end) == found
    unknown = Word("hi", None, None)
    assert unknown.in_milliseconds() == unknown


def test_words_of_a_transcript_equal_those_of_its_segments() -> None:
    hi, there = Word("hi", 0.0, 1.0), Word("there", 1.0, 2.0)
    segments = [dataclasses.replace(SEGMENT, words=words) for words in ((hi,), (), (there,))]
    transcript = Transcript("hi there", None, tuple(segments), None, "stop", 1.0)
    assert transcript.words == (hi, there)
    assert dataclasses.replace(transcript, segments=(SEGMENT,)).words is None
    assert dataclasses.replace(transcript, segments=()).words == ()


def test_representations_are_short() -> None:
    segment = Segment(0.0, 1.0, "Hello.", "English", tuple(range(500)), (-0.5,) * 500, "stop")
    whole = Transcript("Hello. " * 99, "English", (segment,) * 99, None, "stop", 99.0)
    assert str(whole) == f"{whole}" == whole.text
    assert len(repr(whole)) < 250
    assert "segments=<99>" in repr(whole)
    assert len(repr(segment)) < 300
    assert "499" not in repr(segment)
