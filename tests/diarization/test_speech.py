"""Diarization with the core install alone: speech by levels, and the encoder of the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from auris.audio import silero
from auris.audio.silero import silero_file
from auris.checkpoints.hub import bundled_models, bundled_speaker_model
from auris.diarization import load, speech
from auris.diarization.speech import SpeechSegmentation, speech_by_levels
from auris.diarization.windows import _divided_at_pauses
from auris.models.speaker_segmentation import CENTER, STEP
from auris.types import SAMPLE_RATE
from tests.diarization.voices import diarizer, music, spoken


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without the extra diarize and without silero-vad."""
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    monkeypatch.setattr(load, "silero_file", lambda: None)
    monkeypatch.setattr(speech, "silero_file", lambda: None)


def noisy(samples: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal(len(samples))
    return (samples + level * noise).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, 0.001, 0.01])
def test_speech_rises_above_the_noise(level: float) -> None:
    talk = noisy(spoken((None, 2), (1, 3), (None, 1), (0, 2), (None, 2)), level)
    frames = speech_by_levels(talk)
    expected = np.zeros(1000, bool)
    expected[200:500] = expected[600:800] = True
    assert len(frames) == 1000
    assert (frames != expected).sum() <= 20


def test_silence_and_steady_noise_have_no_speech() -> None:
    assert not speech_by_levels(np.zeros(SAMPLE_RATE, np.float32)).any()
    noise = noisy(np.zeros(10 * SAMPLE_RATE, np.float32), 0.01)
    assert speech_by_levels(noise).mean() < 0.02
    assert len(speech_by_levels(noise[:100])) == 1


def test_the_segmentation_has_the_frames_of_the_network() -> None:
    talk = spoken((None, 4), (1, 2), (None, 4))
    found = SpeechSegmentation(None).active(torch.from_numpy(talk))
    centers = np.arange(CENTER, len(talk) - CENTER, STEP)
    inside = (centers > 4 * SAMPLE_RATE) & (centers < 6 * SAMPLE_RATE)
    assert found.shape == (len(centers), 1)
    assert (found[:, 0].numpy() != inside).sum() <= 6


@pytest.mark.skipif(silero_file() is None, reason="needs silero-vad")
def test_silero_decides_where_it_is_installed() -> None:
    segmentation = SpeechSegmentation.installed()
    talk = torch.from_numpy(spoken((None, 5), (1, 5)))
    assert segmentation.active(talk).shape == SpeechSegmentation(None).active(talk).shape
    assert not segmentation.active(torch.zeros(10 * SAMPLE_RATE)).any()
    assert silero.silero_file() is not None


def test_speech_is_divided_at_its_longest_pauses() -> None:
    state = np.zeros(1000, bool)
    state[100:300] = state[310:400] = state[420:500] = state[540:700] = True
    state[703:720] = True
    # The pause of 20 frames divides; that of 10 would leave less than a part; 3 are none.
    assert _divided_at_pauses(state) == [(100, 300), (310, 400), (420, 500), (540, 720)] or (
        _divided_at_pauses(state) == [(100, 400), (420, 500), (540, 720)]
    )
    long = np.ones(900, bool)
    spans = _divided_at_pauses(long)
    assert spans[0][0] == 0
    assert spans[-1][1] == 900
    assert all(150 <= last - first <= 250 for first, last in spans)
    assert _divided_at_pauses(np.zeros(10, bool)) == []


def test_changes_at_pauses_are_exact() -> None:
    talk = noisy(
        spoken((None, 1), (0, 4), (None, 0.2), (1, 4), (None, 0.2), (0, 4), (None, 1)), 0.0005
    )
    turns = diarizer(segmentation=SpeechSegmentation(None)).diarize((talk, SAMPLE_RATE))
    assert [turn.speaker for turn in turns] == ["speaker 1", "speaker 2", "speaker 1"]
    for turn, (start, end) in zip(turns, [(1, 5), (5.2, 9.2), (9.4, 13.4)], strict=True):
        assert turn.start == pytest.approx(start, abs=0.15)
        assert turn.end == pytest.approx(end, abs=0.15)


def test_the_core_install_has_networks(core: None) -> None:
    networks = load.load_networks()
    assert networks.name == "AuT"
    assert not networks.segmentation.separates
    assert networks.settings.space is not None
    assert networks.digest == load.load_networks("speaker").digest
    assert networks.digest != ""
    assert "levels" in load.described_networks()
    assert "extra diarize" in load.described_networks()
    features = networks.encoder.features(torch.from_numpy(spoken((0, 2))))
    embedding = networks.encoder.embed(features[:150])
    assert embedding.shape == (networks.encoder.width,)
    assert float(embedding.norm()) == pytest.approx(1.0, abs=1e-5)


def test_the_bundled_encoder_is_small_and_no_recognizer(core: None) -> None:
    folder = bundled_speaker_model()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 6_000_000
    assert folder.name not in bundled_models()
    assert (folder / "README.md").is_file()
    assert load.load_networks(folder).digest == load.load_networks().digest


def test_silence_has_no_turns_with_the_core_install(core: None, tmp_path: Path) -> None:
    from auris import Diarizer

    assert Diarizer.from_pretrained().diarize((np.zeros(300_000, np.float32), SAMPLE_RATE)) == []


def test_music_is_one_voice_for_levels(core: None) -> None:
    """Levels cannot tell it from speech; the encoder of the package finds no changing voices."""
    from auris import Diarizer

    turns = Diarizer.from_pretrained().diarize((music(8), SAMPLE_RATE))
    assert {turn.speaker for turn in turns} == {"speaker 1"}
    assert turns[-1].end <= 8.0


def test_silero_finds_no_speech_in_music() -> None:
    pytest.importorskip("silero_vad")
    found = diarizer(segmentation=SpeechSegmentation.installed())
    assert found.diarize((music(8), SAMPLE_RATE)) == []
