"""Known speakers: who gets which name, with artificial voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auris import AsrPipeline
from auris.audio.io import Source
from auris.diarization.diarizer import SpeakerCount
from auris.diarization.known import KnownVoice, names_of
from auris.errors import AudioError, UnreadableAudio, UsageError
from auris.recognition.fingerprint import call_values
from auris.types import SAMPLE_RATE
from tests.diarization.voices import diarizer, spoken

TALK = (spoken((0, 6), (None, 1), (1, 5), (None, 1), (0, 5), (None, 1), (2, 6)), SAMPLE_RATE)


def voice(number: int, seconds: float = 4.0) -> Source:
    return spoken((number, seconds)), SAMPLE_RATE


def names(known: dict[str, Source], **counts: int) -> list[str]:
    turns = diarizer().with_known(known).diarize(TALK, **counts)
    return [turn.speaker for turn in turns]


def test_known_voices_have_their_names_and_others_are_numbered() -> None:
    assert names({"Ann": voice(1)}) == ["speaker 1", "Ann", "speaker 1", "speaker 2"]
    assert names({"Cleo": voice(2), "Ann": voice(0)}) == ["Ann", "speaker 1", "Ann", "Cleo"]
    assert names({}) == ["speaker 1", "speaker 2", "speaker 1", "speaker 3"]


def test_a_known_speaker_who_does_not_speak_is_nowhere() -> None:
    assert "Dan" not in names({"Dan": voice(3), "Ann": voice(0)})


def test_a_known_name_is_not_given_twice() -> None:
    found = names({"speaker 1": voice(2)})
    assert found == ["speaker 2", "speaker 3", "speaker 2", "speaker 1"]


def test_the_number_of_speakers_can_be_given_with_known_ones() -> None:
    assert set(names({"Ann": voice(0)}, max_speakers=1)) <= {"Ann", "speaker 1"}
    assert set(names({"Ann": voice(0)}, speakers=3)) == {"Ann", "speaker 1", "speaker 2"}


def test_the_most_similar_speaker_gets_the_name() -> None:
    voices = [KnownVoice("a", np.array([1, 0], np.float32))]
    voices.append(KnownVoice("b", np.array([0.8, 0.6], np.float32)))
    speakers = np.array([[0.9, 0.1], [0.99, 0.0], [0.0, 1.0]], np.float32)
    assert names_of(speakers, voices, 0.5) == {1: "a", 0: "b"}
    assert names_of(speakers, voices, 0.98) == {1: "a"}
    assert names_of(np.zeros((0, 0), np.float32), voices, 0.5) == {}


def test_references_without_speech_or_name_are_refused(tmp_path: Path) -> None:
    silence = np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE
    with pytest.raises(AudioError, match="'Ann' nobody speaks"):
        diarizer().with_known({"Ann": silence})
    with pytest.raises(UnreadableAudio):
        diarizer().with_known({"Ann": tmp_path / "missing.wav"})
    with pytest.raises(UsageError, match="may not be empty"):
        diarizer().with_known({" ": voice(0)})


def test_names_by_voice_and_by_order_exclude_each_other(ctc_directory: Path) -> None:
    known = diarizer().with_known({"Ann": voice(0)})
    with pytest.raises(UsageError, match="voices or from their order"):
        known.session(SpeakerCount.of(["Ann", "Bob"]))
    pipeline = AsrPipeline.from_pretrained(ctc_directory, device="cpu")
    with pytest.raises(UsageError, match="voices or from their order"):
        pipeline.transcribe(TALK, diarize=known, speakers=["Ann", "Bob"])


def test_known_voices_are_part_of_the_fingerprint(ctc_directory: Path) -> None:
    pipeline = AsrPipeline.from_pretrained(ctc_directory, device="cpu")
    digests = [
        call_values(pipeline, None, "", {"diarize": one})["diarize"]
        for one in (
            diarizer(),
            diarizer().with_known({"Ann": voice(0)}),
            diarizer().with_known({"Ann": voice(1)}),
        )
    ]
    assert digests[0] != digests[1] != digests[2] != digests[0]
