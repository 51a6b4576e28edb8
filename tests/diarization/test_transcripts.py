"""Transcripts with speakers, from a tiny model and artificial voices."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from auris import AsrPipeline, Diarizer, Failure, Transcript
from auris.errors import UsageError
from auris.output.formats import WRITERS
from auris.recognition.fingerprint import call_values
from auris.types import SAMPLE_RATE, Samples, Segment, Word
from tests.diarization.voices import diarizer, spoken, units_diarizer

TALK = (spoken((0, 6), (None, 1), (1, 5), (None, 1), (0, 5)), SAMPLE_RATE)
SILENCE = (np.zeros(5 * SAMPLE_RATE, np.float32), SAMPLE_RATE)


@pytest.fixture(scope="module")
def pipeline(ctc_directory: Path) -> AsrPipeline:
    return AsrPipeline.from_pretrained(ctc_directory, device="cpu")


class EverySecond:
    """An aligner that finds a word in every second, in place of the text of a random model."""

    def check(self, language: str | None) -> None:
        """Accept every language."""

    def with_words(
        self, segment: Segment, samples: Samples, states: Tensor | None = None
    ) -> Segment:
        count = len(samples) // SAMPLE_RATE
        names = [f"w{number}" for number in range(count)]
        words = tuple(
            Word(name, segment.start + number, segment.start + number + 0.9)
            for number, name in enumerate(names)
        )
        return replace(segment, text=" ".join(names), words=words)


def transcribed(pipeline: AsrPipeline, **options: Any) -> Transcript:
    return pipeline.transcribe(TALK, diarize=diarizer(), **options)


def test_every_segment_with_text_has_a_speaker(pipeline: AsrPipeline) -> None:
    plain, labelled = pipeline.transcribe(TALK), transcribed(pipeline)
    assert labelled.text == plain.text
    assert all(segment.speaker for segment in labelled.segments if segment.text.strip())
    assert [turn.speaker for turn in labelled.turns or ()] == [
        "speaker 1",
        "speaker 2",
        "speaker 1",
    ]
    assert labelled.words is None
    assert plain.turns is None
    assert "turns" not in plain.to_dict()


@pytest.mark.parametrize("voices", [diarizer, units_diarizer])
def test_turns_do_not_depend_on_batches_chunks_or_processes(
    pipeline: AsrPipeline, tmp_path: Path, voices: Callable[[], Diarizer]
) -> None:
    path = tmp_path / "talk.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((TALK[0] * 32767).astype("<i2").tobytes())
    expected = pipeline.transcribe(path, diarize=voices())
    assert len({turn.speaker for turn in expected.turns or ()}) == 2
    for options in ({"batch_size": 4}, {"chunk_seconds": 3.0}, {"workers": 1}):
        found = pipeline.transcribe(path, diarize=voices(), **options)
        assert found.turns == expected.turns
        if "chunk_seconds" not in options:
            speakers = [segment.speaker for segment in found.segments]
            assert speakers == [segment.speaker for segment in expected.segments]
            assert found.text == expected.text


def test_segments_are_divided_between_speakers(pipeline: AsrPipeline) -> None:
    """The turns are 0 to 6, 7 to 12 and 13 to 18 s long, and a second is a word."""
    transcript = transcribed(pipeline, aligner=EverySecond(), word_timestamps=True)
    assert [segment.speaker for segment in transcript.segments] == [
        "speaker 1",
        "speaker 2",
        "speaker 1",
    ]
    for segment in transcript.segments:
        assert {word.speaker for word in segment.words or ()} == {segment.speaker}
    second = transcript.segments[1].text.split()
    assert {"w8", "w9", "w10"} <= set(second) <= {f"w{number}" for number in range(6, 14)}
    spans = [(segment.start, segment.end) for segment in transcript.segments]
    assert spans == sorted(spans)
    written = WRITERS["txt"](transcript, "talk.wav").splitlines()
    assert [line.partition(": ")[0] for line in written] == ["speaker 1", "speaker 2", "speaker 1"]
    assert WRITERS["vtt"](transcript, "talk.wav").count("<v speaker 2>") >= 1
    json_words = transcript.to_dict()["segments"][0]["words"]
    assert json_words[0]["speaker"] == "speaker 1"


def test_several_recordings_keep_their_own_speakers(pipeline: AsrPipeline) -> None:
    broken = b"no sound"
    results = dict(pipeline.results([TALK, broken, SILENCE, TALK], diarize=diarizer()))
    assert isinstance(results[1], Failure)
    first, silent, last = (results[number] for number in (0, 2, 3))
    assert isinstance(first, Transcript)
    assert isinstance(silent, Transcript)
    assert isinstance(last, Transcript)
    assert silent.turns == ()
    assert first.turns == last.turns


def test_segments_come_with_their_speakers(pipeline: AsrPipeline) -> None:
    segments = list(pipeline.segments(TALK, diarize=diarizer()))
    assert tuple(segments) == transcribed(pipeline).segments


def test_a_number_or_names_of_speakers(pipeline: AsrPipeline) -> None:
    one = transcribed(pipeline, speakers=1)
    assert {turn.speaker for turn in one.turns or ()} == {"speaker 1"}
    named = transcribed(pipeline, speakers=["Ann", "Bob"])
    assert [turn.speaker for turn in named.turns or ()] == ["Ann", "Bob", "Ann"]
    many = transcribed(pipeline, speakers=50)
    assert any("50 speakers were requested" in warning for warning in many.warnings)


def test_rttm_has_a_line_for_every_turn(pipeline: AsrPipeline) -> None:
    transcript = transcribed(pipeline)
    lines = WRITERS["rttm"](transcript, "a talk.wav").splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("SPEAKER a_talk 1 0.0")
    assert lines[1].split()[7] == "speaker_2"
    assert len({len(line.split()) for line in lines}) == 1


def test_without_times_of_words_segments_stay_whole(qwen_directory: Path) -> None:
    pipeline = AsrPipeline.from_pretrained(qwen_directory, device="cpu")
    transcript = pipeline.transcribe(TALK, diarize=diarizer(), max_new_tokens=4)
    assert any("not divided" in warning for warning in transcript.warnings)
    assert len(transcript.segments) == len(pipeline.transcribe(TALK, max_new_tokens=4).segments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"diarize": "yes"}, "True, False or a Diarizer"),
        ({"diarize": {"speakers": 2}}, "True, False or a Diarizer"),
        ({"speakers": 2}, "a number of speakers can be used"),
        ({"min_speakers": 2}, "min_speakers can be used"),
        ({"diarize": diarizer(), "channels": "split"}, "by their voices or by channels"),
        ({"diarize": diarizer(), "speakers": 2, "max_speakers": 3}, "excludes"),
        ({"diarize": diarizer(), "speakers": 0}, "whole number"),
    ],
)
def test_impossible_options_are_refused(
    pipeline: AsrPipeline, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pipeline.transcribe(TALK, **options)


def test_the_fingerprint_knows_the_speakers(pipeline: AsrPipeline) -> None:
    plain = call_values(pipeline, None, "", {})
    assert plain["diarize"] is False
    given: Diarizer = diarizer()
    two = call_values(pipeline, None, "", {"diarize": given, "speakers": 2})
    assert two["diarize"] == {"speaker_model": "tones", "words": "own"}
    assert two != call_values(pipeline, None, "", {"diarize": given, "speakers": 3})
