"""Tiny models and recordings for the commands."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.audio.media import wav
from tests.cli.command import Auris
from tests.cli.microphone import Port
from tests.tiny_models import ctc_config, tone_speech, write_tiny


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the models `qwen` and `ctc`."""
    root = tmp_path_factory.mktemp("models")
    write_tiny(root / "qwen", seed=1)
    write_tiny(root / "ctc", config=ctc_config())
    return root


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a.wav, b.wav, c.wav and long.wav, call.wav of two channels, silence, and
    every kind of bad file."""
    root = tmp_path_factory.mktemp("recordings")
    for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 1.5), ("long", 5.0)):
        samples = tone_speech(seconds, ord(name[0]))[None]
        (root / f"{name}.wav").write_bytes(wav(samples))
    call = np.stack([tone_speech(2.0, seed) for seed in range(2)])
    (root / "call.wav").write_bytes(wav(call))
    whole = (root / "long.wav").read_bytes()
    (root / "silence.wav").write_bytes(wav(np.zeros((1, 16_000), np.float32)))
    (root / "empty.wav").write_bytes(b"")
    (root / "text.wav").write_text("these are words and no sound\n" * 99)
    (root / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    with wave.open(str(root / "zero.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
    (root / "nan.wav").write_bytes(wav(np.full((1, 16_000), np.nan, np.float32)))
    (root / "directory.wav").mkdir()
    return root


@pytest.fixture
def auris(
    capsys: pytest.CaptureFixture[str], models: Path, monkeypatch: pytest.MonkeyPatch
) -> Auris:
    """The command line, with the tiny Qwen model and the CPU as defaults."""
    monkeypatch.setenv("AURIS_MODEL", str(models / "qwen"))
    monkeypatch.setenv("AURIS_DEVICE", "cpu")
    return Auris(capsys)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Port:
    found = Port(["speaker", "desk microphone", "headset microphone"], tone_speech(0.8))
    monkeypatch.setitem(sys.modules, "sounddevice", found)
    return found
