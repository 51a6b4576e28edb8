"""The benchmark of voice activity detection on recordings with known silence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from auris.errors import UsageError
from auris.evaluation.voice_activity import score_detectors
from tests.audio.media import wav
from tests.benchmarks.conftest import Script
from tests.recordings import RATE
from tests.tiny_models import tone_speech
from voice_activity import FRAME, joined, score_vad, speech_frames, with_noise


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Eight clips, the last one silent."""
    paths = []
    for number in range(8):
        samples = tone_speech(4.0, number) if number < 7 else np.zeros(RATE, np.float32)
        path = tmp_path / f"{number}.wav"
        path.write_bytes(wav(samples[None]))
        path.with_suffix(".txt").write_text("something")
        paths.append(path)
    return paths


def test_labelled_speech() -> None:
    burst, pause = np.full(20 * FRAME, 0.1, np.float32), np.zeros
    samples = np.concatenate(
        [pause(10 * FRAME), burst, pause(20 * FRAME), burst, pause(50 * FRAME), burst]
    ).astype(np.float32)
    speech = speech_frames(samples)
    assert [int(a) for a in np.flatnonzero(np.diff(speech.astype(int)))] == [9, 69, 119]
    assert not speech_frames(np.zeros(1000, np.float32)).any()
    assert len(speech_frames(np.zeros(FRAME - 1, np.float32))) == 0


def test_concatenated_clips(clips: list[Path]) -> None:
    samples, speech = joined(clips, 1)
    assert len(samples) == len(speech) * FRAME
    assert np.array_equal(samples, joined(clips, 1)[0])
    assert 0.0 < speech.mean() < 1.0
    loud = np.square(samples.reshape(-1, FRAME)[speech]).mean()
    noisy = with_noise(samples, speech, "pink", 10.0, 1) - samples
    assert 10 * np.log10(loud / np.square(noisy).mean()) == pytest.approx(10.0, abs=0.1)
    with pytest.raises(UsageError, match="none has any"):
        joined(clips[-1:], 1)


def test_scores(clips: list[Path]) -> None:
    scores = list(score_vad(clips, ["white"], [20.0, 5.0], chunk_seconds=5.0))
    assert [(score.noise, score.snr) for score in scores] == [
        (None, None),
        ("white", 20.0),
        ("white", 5.0),
    ]
    for score in scores:
        assert score.seconds == pytest.approx(score.speech + score.pauses)
        assert score.missed <= 0.01
        assert 0.1 < score.skipped < 1.0
        assert 0 <= score.cuts_in_speech <= score.cuts
    with pytest.raises(UsageError, match="'blue'"):
        list(score_vad(clips, ["blue"], [20.0]))


def test_audio_below_16_bits_is_missed(clips: list[Path]) -> None:
    usual, quiet, lost = score_vad(clips, [], [], levels=[-26.0, -60.0, -110.0])
    assert (usual.level, quiet.level, lost.level) == (-26.0, -60.0, -110.0)
    assert usual.missed <= 0.01
    assert quiet.missed <= 0.01
    assert lost.missed > 0.9


def test_detectors_are_compared(clips: list[Path]) -> None:
    scores = list(score_detectors(clips, ["energy"], ["hum", "music", "white"], [10.0]))
    assert [score.background for score in scores] == [None, "hum", "music", "white"]
    alone, *_, noisy = scores
    assert alone.missed < 0.3
    assert alone.false < 0.5
    assert noisy.false < 0.5
    assert all(score.cost > 0 for score in scores)
    with pytest.raises(UsageError, match="'blue'"):
        list(score_detectors(clips, ["energy"], ["blue"], [10.0]))
    for level in (math.nan, math.inf, 1e9):
        with pytest.raises(UsageError, match="dB: correct snr"):
            list(score_detectors(clips, ["energy"], ["white"], [10.0, level]))


def test_the_script(script: Script, clips: list[Path]) -> None:
    options = ("--snr", "10", "--noise", "pink", "--level", "-40")
    done = script("voice_activity", "--test-set", clips[0].parent, *options)
    assert (done.code, done.err) == (0, "")
    (scored,) = json.loads(done.out.splitlines()[-1])["sets"]
    assert [score["snr"] for score in scored["scores"]] == [None, 10.0]
    assert {score["level"] for score in scored["scores"]} == {-40.0}
