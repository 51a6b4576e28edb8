"""Where turns begin and end, in samples of the audio, with both detectors."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from auris.audio.io import load
from auris.audio.silero import silero_file
from auris.evaluation.voice_activity import FRAME, speech_frames
from auris.server.realtime.config import TurnDetection
from auris.server.realtime.turns import SpeechStarted, SpeechStopped, TurnCutter
from auris.types import SAMPLE_RATE, Samples
from tests.server.live import EXAMPLE, EXAMPLE_TEXT, Live
from tests.server.talk import DONE, PATH, talk

LATEST = 0.25
"""Seconds of audio after the silence that ends a turn, within which the turn is over."""

BLOCK_MS = 10
SHARED = Path(__file__).parents[3] / "shared" / "speech"
SETS = ("librispeech", "barista", "keywords", "fsdd")

installed = pytest.mark.skipif(silero_file() is None, reason="silero-vad is not installed")
DETECTORS = ["energy", pytest.param("silero", marks=installed)]


def _said(path: Path) -> Samples:
    """A clip from its first to its last frame of speech."""
    samples = load(path).samples
    frames = np.flatnonzero(speech_frames(samples))
    return samples[frames[0] * FRAME : (frames[-1] + 1) * FRAME]


def _silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def _at(rate: int, parts: list[Samples], noise: float = 0.0) -> np.ndarray:
    """Parts in a row as 16-bit samples of a rate."""
    import soxr

    audio = np.concatenate(parts)
    audio = audio + noise * np.random.default_rng(1).standard_normal(len(audio))
    return (np.clip(soxr.resample(audio, SAMPLE_RATE, rate), -1, 1) * 32767).astype("<i2")


def _events(
    audio: np.ndarray, rate: int, model: str, silence_ms: int
) -> Iterator[tuple[float, SpeechStarted | SpeechStopped]]:
    """Begins and ends of turns, and how many seconds of audio the cutter had when it gave them."""
    cutter = TurnCutter(TurnDetection(silence_duration_ms=silence_ms), rate, 0, model)
    size = rate * BLOCK_MS // 1000
    for first in range(0, len(audio), size):
        for event in cutter.push(audio[first : first + size]):
            if isinstance(event, SpeechStarted | SpeechStopped):
                yield (first + size) / rate, event


def _check_last_end(path: Path, rate: int, model: str, silence_ms: int, noise: float) -> None:
    lead, said = _silence(1.0), _said(path)
    audio = _at(rate, [lead, said, _silence(silence_ms / 1000 + 1.0)], noise)
    quiet = (len(lead) + len(said)) / SAMPLE_RATE
    ends = [
        (noticed, event.sample / rate)
        for noticed, event in _events(audio, rate, model, silence_ms)
        if isinstance(event, SpeechStopped)
    ]
    noticed, end = ends[-1]
    assert noticed - quiet <= silence_ms / 1000 + LATEST, path
    assert end <= noticed


@pytest.mark.parametrize("model", DETECTORS)
@pytest.mark.parametrize("rate", [24_000, 8_000])
@pytest.mark.parametrize("silence_ms", [100, 200, 500, 1200])
@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_a_turn_ends_at_most_a_quarter_second_after_its_silence(
    model: str, rate: int, silence_ms: int, noise: float
) -> None:
    _check_last_end(EXAMPLE, rate, model, silence_ms, noise)


@pytest.mark.skipif(not SHARED.exists(), reason="real speech is not at hand")
@pytest.mark.parametrize("model", DETECTORS)
@pytest.mark.parametrize("name", SETS)
def test_turns_of_real_speech_end_at_most_a_quarter_second_after_their_silence(
    model: str, name: str
) -> None:
    with open(SHARED / f"{name}_dev.csv", encoding="utf-8") as file:
        clips = [SHARED / row["wav"] for row in csv.DictReader(file)]
    for clip in clips[:: max(1, len(clips) // 8)][:8]:
        _check_last_end(clip, 24_000, model, 500, 0.0003)


@pytest.mark.parametrize("model", DETECTORS)
@pytest.mark.parametrize("silence_ms", [300, 500, 1000])
def test_a_pause_ends_a_turn_only_if_it_is_as_long_as_the_silence(
    model: str, silence_ms: int
) -> None:
    said = _said(EXAMPLE)
    for pause, turns in ((silence_ms / 1000 - 0.2, 1), (silence_ms / 1000 + LATEST, 2)):
        parts = [_silence(1.0), said, _silence(pause), said, _silence(2.0)]
        audio = _at(24_000, parts)
        found = [event for _, event in _events(audio, 24_000, model, silence_ms)]
        assert [type(event) for event in found] == [SpeechStarted, SpeechStopped] * turns, pause


def test_the_events_of_a_session_have_these_ends(live: Live) -> None:
    lead, said = _silence(1.0), _said(EXAMPLE)
    quiet = 1000 * (len(lead) + len(said)) / SAMPLE_RATE
    with talk(live.url, manual=False) as session:
        session.update(turn_detection={"type": "server_vad", "silence_duration_ms": 400})
        session.append(_at(24_000, [lead, said, _silence(0.4 + LATEST)]), 480)
        session.until("input_audio_buffer.speech_started")
        stopped = session.until("input_audio_buffer.speech_stopped")[-1]
        assert stopped["audio_end_ms"] <= quiet + 400 + 1000 * LATEST
        assert session.until(DONE)[-1]["transcript"] == EXAMPLE_TEXT


def test_turn_detection_of_an_open_item_changes_at_once(live: Live) -> None:
    """A client may have sent audio before its settings arrive."""
    said = _at(24_000, [_silence(0.3), _said(EXAMPLE), _silence(1.0)])
    half = len(said) // 2
    with talk(live.url, PATH + "&model=tiny-ctc", manual=False) as session:
        # From the server's turns to those of the client: the item remains open through a pause.
        session.append(said[:half])
        started = session.until("input_audio_buffer.speech_started")[-1]
        assert session.update(turn_detection=None)["type"] == "session.updated"
        session.append(said[half:])
        session.send("input_audio_buffer.commit")
        done = session.until(DONE)
        assert done[-1]["item_id"] == started["item_id"]
        assert done[-1]["transcript"] == EXAMPLE_TEXT
        seconds = len(said) / 24_000 - started["audio_start_ms"] / 1000
        assert done[-1]["usage"]["seconds"] == pytest.approx(seconds, abs=0.002)
        assert "input_audio_buffer.speech_stopped" not in [event["type"] for event in done]
        # Back to turns of the server: what was appended is part of a turn, which ends in silence.
        session.append(said[:half])
        for silence_ms in (5000, 300):
            turns = {"type": "server_vad", "silence_duration_ms": silence_ms}
            assert session.update(turn_detection=turns)["type"] == "session.updated"
        session.append(said[half:])
        done = session.until(DONE)
        kinds = [event["type"] for event in done]
        assert "input_audio_buffer.speech_started" not in kinds
        assert "input_audio_buffer.speech_stopped" in kinds
        assert done[-1]["transcript"] == EXAMPLE_TEXT
