"""Recordings that are hard to diarize: one word, many speakers, music, an hour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from auris import Diarizer
from auris.diarization import load
from auris.diarization.clustering import ClusterSettings, clustered
from auris.diarization.known import mean_embeddings
from auris.diarization.windows import (
    FRAME,
    STEP_FRAMES,
    WINDOW_FRAMES,
    SegmentedWindows,
    VoiceWindow,
)
from auris.types import SAMPLE_RATE, Samples
from tests.diarization.test_clustering import windows
from tests.diarization.voices import ToneEncoder, ToneSegmentation, diarizer, music, spoken


def speakers(samples: Samples, **counts: int) -> set[str]:
    return {turn.speaker for turn in diarizer().diarize((samples, SAMPLE_RATE), **counts)}


def test_a_speaker_with_one_word_joins_the_most_similar_one_unless_two_are_requested() -> None:
    talk = spoken((0, 20), (None, 1), (1, 0.5), (None, 1), (0, 20))
    assert speakers(talk) == {"speaker 1"}
    assert speakers(talk, speakers=2) <= {"speaker 1", "speaker 2"}


def test_thirty_speakers_can_be_limited() -> None:
    """That they are told apart without a limit is a test of clustering."""
    order = [number % 30 for number in range(600)]
    labels, centers = clustered(windows(order), ClusterSettings(threshold=0.5), most=4)
    assert len({int(label[0]) for label in labels}) == len(centers) == 4
    means = mean_embeddings(windows(order), labels, 4)
    assert np.isfinite(means).all()


def test_more_speakers_than_voices_are_as_many_as_there_are() -> None:
    one = spoken((0, 12))
    session = diarizer().session()
    session.feed(0, one)
    assert len({turn.speaker for turn in session.finish()}) == 1
    assert 1 <= len(speakers(one, speakers=6)) <= 6


def an_hour() -> Iterator[Samples]:
    """Blocks of a second: each tenth minute of an hour is spoken, the others are silent."""
    voice, silence = spoken((0, 1)), np.zeros(SAMPLE_RATE, np.float32)
    return (voice if second // 60 % 10 == 0 else silence for second in range(3600))


def test_an_hour_takes_little_memory() -> None:
    """Samples of at most two windows are stored, and a few kilobytes for each window."""
    reader = SegmentedWindows(ToneSegmentation(), ToneEncoder())
    made: list[VoiceWindow] = []
    for block in an_hour():
        made += reader.feed(block)
        assert len(reader._buffer) <= 2 * WINDOW_FRAMES * FRAME
    made += reader.finish()
    assert len(made) == pytest.approx(3600 * 100 / STEP_FRAMES, abs=2)
    arrays = [
        array
        for window in made
        for array in (window.active, window.voices, window.embeddings, window.frames)
    ]
    assert max(array.nbytes for array in arrays) <= 8 * WINDOW_FRAMES
    labels, centers = clustered(made, ClusterSettings(threshold=0.7))
    assert len(centers) == 1
    spoken_windows = sum(bool((label >= 0).any()) for label in labels)
    assert spoken_windows == pytest.approx(360 * 100 / STEP_FRAMES, abs=12)


@pytest.mark.skipif(load.installed_networks() is None, reason="needs the extra diarize")
def test_music_and_noise_have_no_speakers() -> None:
    networks = Diarizer.from_pretrained()
    noise = np.random.default_rng(1).normal(0, 0.05, 20 * SAMPLE_RATE).astype(np.float32)
    for samples in (music(20), noise):
        assert networks.diarize((samples, SAMPLE_RATE)) == []
