"""Who speaks when, from samples to turns, with artificial voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auris import Diarizer
from auris.diarization.diarizer import DiarizationSession, SpeakerCount
from auris.errors import CheckpointError, ModelNotFound, UsageError
from auris.types import SAMPLE_RATE, Samples, SpeakerTurn
from tests.diarization.voices import diarizer, spoken

TALK = spoken((0, 6), (None, 1), (1, 5), (None, 1), (0, 5), (None, 1), (2, 6), (1, 6))
BORDERS = [(0, 6), (7, 12), (13, 18), (19, 25), (25, 31)]
NAMES = ["speaker 1", "speaker 2", "speaker 1", "speaker 3", "speaker 2"]


def rounded(turns: list[SpeakerTurn]) -> list[tuple[str, float, float]]:
    return [(turn.speaker, turn.start, turn.end) for turn in turns]


def in_blocks(samples: Samples, size: int) -> list[SpeakerTurn]:
    session = diarizer().session()
    for start in range(0, len(samples), size):
        session.feed(start, samples[start : start + size])
    return session.finish()


def test_turns_of_a_talk() -> None:
    turns = diarizer().diarize((TALK, SAMPLE_RATE))
    assert [turn.speaker for turn in turns] == NAMES
    for turn, (start, end) in zip(turns, BORDERS, strict=True):
        # A change that the segmentation misses lies at the border of a stretch of two seconds.
        assert turn.start == pytest.approx(start, abs=1.5)
        assert turn.end == pytest.approx(end, abs=1.5)


def test_turns_do_not_depend_on_the_sizes_of_blocks() -> None:
    whole = rounded(in_blocks(TALK, len(TALK)))
    for size in (3333, 16_000, 100_001):
        assert rounded(in_blocks(TALK, size)) == whole


def test_spans_and_silence_keep_the_times_of_the_recording() -> None:
    turns = diarizer().diarize((TALK, SAMPLE_RATE), start=7.0, duration=11.0)
    assert [turn.speaker for turn in turns] == ["speaker 1", "speaker 2"]
    assert turns[0].start == pytest.approx(7.0, abs=0.1)
    assert turns[-1].end == pytest.approx(18.0, abs=0.1)
    session = diarizer().session()
    session.feed(0, TALK[: 6 * SAMPLE_RATE])
    session.feed(1000 * SAMPLE_RATE, TALK[7 * SAMPLE_RATE : 12 * SAMPLE_RATE])  # A skipped silence.
    turns = session.finish()
    assert [turn.speaker for turn in turns] == ["speaker 1", "speaker 2"]
    assert turns[1].start == pytest.approx(1000.0, abs=0.1)


@pytest.mark.parametrize("seconds", [0.01, 0.3, 3.0, 9.99, 10.0, 10.01, 15.0, 25.0])
def test_every_length_is_covered_to_its_end(seconds: float) -> None:
    samples = spoken((0, seconds))
    turns = diarizer().diarize((samples, SAMPLE_RATE))
    if seconds < 0.5:
        assert len(turns) <= 1
        return
    assert rounded(turns) == [("speaker 1", 0.0, pytest.approx(seconds, abs=0.1))]


def test_silence_has_no_turns() -> None:
    assert diarizer().diarize((np.zeros(400_000, np.float32), SAMPLE_RATE)) == []
    assert DiarizationSession(diarizer().networks, SpeakerCount()).finish() == []


def test_one_speaker_is_one() -> None:
    turns = diarizer().diarize((spoken((1, 4), (None, 2), (1, 30)), SAMPLE_RATE))
    assert {turn.speaker for turn in turns} == {"speaker 1"}


def test_the_number_of_speakers_and_their_names() -> None:
    two = diarizer().diarize((TALK, SAMPLE_RATE), 2)
    assert len({turn.speaker for turn in two}) == 2
    named = diarizer().diarize((TALK, SAMPLE_RATE), ["Ann", "Bob", "Cleo"])
    assert [turn.speaker for turn in named] == ["Ann", "Bob", "Ann", "Cleo", "Bob"]
    most = diarizer().diarize((TALK, SAMPLE_RATE), max_speakers=1)
    assert {turn.speaker for turn in most} == {"speaker 1"}


def test_more_speakers_than_voices_are_reported() -> None:
    session = diarizer().session(SpeakerCount.of(9))
    session.feed(0, spoken((0, 4), (1, 4)))
    found = len({turn.speaker for turn in session.finish()})
    assert found < 9
    assert session.warnings == (f"9 speakers were requested, and {found} could be told apart",)


@pytest.mark.parametrize(
    ("speakers", "least", "most", "message"),
    [
        (0, None, None, "speakers has to be"),
        (None, 0, None, "min_speakers"),
        (2, 1, None, "excludes"),
        (None, 5, 2, "at least min_speakers"),
        (None, None, 1000, "max_speakers"),
        (["Ann", "Ann"], None, None, "differ"),
        (["Ann", " "], None, None, "differ"),
    ],
)
def test_impossible_numbers_are_refused(
    speakers: int | list[str] | None, least: int | None, most: int | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        SpeakerCount.of(speakers, least, most)


def test_a_wrong_speaker_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path
    with pytest.raises(ModelNotFound, match="no such speaker model"):
        Diarizer.from_pretrained(folder / "missing.pt")
    (folder / "bad.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="readable"):
        Diarizer.from_pretrained(folder / "bad.safetensors")
    from safetensors.torch import save_file
    from torch import zeros

    save_file({"a": zeros(2)}, folder / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"CAM\+\+"):
        Diarizer.from_pretrained(folder / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Diarizer.from_pretrained(folder)
