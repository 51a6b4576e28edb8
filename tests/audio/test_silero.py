"""The network of silero-vad: the numbers of the package, however the samples arrive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audio.test_vad import hiss, in_blocks, recording, sizes, tiles

from auris.audio import activity, silero
from auris.audio.activity import chosen_model, described_model, speech_meter
from auris.audio.io import load
from auris.audio.segmentation import Cutter, split
from auris.audio.silero import FRAME, SileroFrames, SileroNetwork, silero_file
from auris.errors import AudioError, MissingExtra, UsageError

EXAMPLE = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"
RATE = 16_000

PACKAGE = """
import sys, numpy, torch
from silero_vad import load_silero_vad
model = load_silero_vad()
samples = torch.from_numpy(numpy.load(sys.argv[1]))
with torch.no_grad():
    numpy.save(sys.argv[2], [model(frame, 16000).item() for frame in samples.reshape(-1, 512)])
"""

installed = pytest.mark.skipif(silero_file() is None, reason="silero-vad is not installed")


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Speech, noise and silence, in complete frames."""
    said = load(EXAMPLE).samples
    parts = [said, hiss(1.0), 0.01 * said, np.zeros(RATE, np.float32), said + hiss(1.765, 0.05)]
    samples = np.concatenate(parts).astype(np.float32)
    return samples[: len(samples) // FRAME * FRAME]


def network() -> SileroNetwork:
    file = silero_file()
    assert file is not None
    return SileroNetwork.load(file)


@installed
def test_probabilities_are_those_of_the_package(speech: np.ndarray, tmp_path: Path) -> None:
    given, result = tmp_path / "samples.npy", tmp_path / "probabilities.npy"
    np.save(given, speech)
    subprocess.run([sys.executable, "-c", PACKAGE, given, result], check=True, timeout=100)
    expected = np.load(result)
    found = np.array(SileroFrames(network()).push(speech))
    assert expected.max() > 0.9
    assert expected.min() < 0.05
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@installed
def test_threads_of_torch_do_not_change() -> None:
    code = "import torch; torch.set_num_threads(3)\nfrom auris.audio.activity import speech_meter"
    code += "\nspeech_meter('silero', 16000)\nassert torch.get_num_threads() == 3"
    code += "\nimport sys; assert 'silero_vad' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


@installed
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=5).filter(any))
def test_probabilities_do_not_depend_on_block_sizes(block_sizes: list[int]) -> None:
    samples = load(EXAMPLE).samples
    frames = SileroFrames(network())
    found = [p for block in in_blocks(samples, block_sizes) for p in frames.push(block)]
    again = SileroFrames(network())
    assert found == again.push(samples)
    assert frames.finish() == again.finish()


@installed
@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["talk", "hiss", "none"]), st.floats(0.05, 5.0)),
        min_size=1,
        max_size=4,
    ),
    sizes,
)
def test_cuts_do_not_depend_on_block_sizes(
    plan: list[tuple[str, float]], block_sizes: list[int]
) -> None:
    samples = np.concatenate([recording(plan), load(EXAMPLE).samples])
    chunks = list(split([samples], 4.0, vad=True))
    cutter = Cutter(4.0, vad=True, vad_model="silero")
    again = [c for block in in_blocks(samples, block_sizes) for c in cutter.feed(block)]
    again += cutter.finish()
    assert [(c.start, len(c.samples), c.skipped) for c in again] == [
        (c.start, len(c.samples), c.skipped) for c in chunks
    ]
    tiles(chunks, samples)


@installed
def test_silence_is_left_out_only_where_both_detectors_agree() -> None:
    def skipped(samples: np.ndarray, name: str) -> int:
        cutter = Cutter(30.0, vad=True, vad_model=name)
        return sum(c.skipped for c in cutter.feed(samples) + cutter.finish())

    said = load(EXAMPLE).samples
    silence = np.zeros(12 * RATE, np.float32)
    pause = np.concatenate([said, silence, said])
    pause = (pause + hiss(len(pause) / RATE, 1e-3)).astype(np.float32)
    assert 0 < skipped(pause, "silero") <= skipped(pause, "energy")
    # A voice below 16 bits is silence by its level; the network hears it.
    faint = np.concatenate([np.zeros(8 * RATE, np.float32), 3e-5 * said] * 2)
    assert skipped(faint.astype(np.float32), "silero") <= skipped(faint, "energy")


@installed
@pytest.mark.parametrize("rate", [8000, 24_000])
def test_a_meter_classifies_audio_of_other_rates(rate: int) -> None:
    import soxr

    said = soxr.resample(load(EXAMPLE).samples, RATE, rate)
    meter = speech_meter("silero", rate)
    found = np.array(meter.push(np.concatenate([said, np.zeros(rate, np.float32)])))
    voiced = np.flatnonzero(found > 0.5) * meter.frame / rate
    assert 0.1 < voiced[0] < 0.4
    assert 1.5 < voiced[-1] < 1.9


def test_names_of_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_model("energy") == described_model("energy") == "energy"
    with pytest.raises(UsageError, match="'loud'"):
        chosen_model("loud")
    monkeypatch.setattr(activity, "silero_file", lambda: None)
    assert chosen_model("auto") == "energy"
    with pytest.raises(MissingExtra, match=r"auris-asr\[vad\]"):
        Cutter(vad_model="silero")
    monkeypatch.setattr(activity, "silero_file", lambda: Path("silero_vad.jit"))
    assert chosen_model("auto") == "silero"


@installed
def test_a_first_layer_that_is_no_fourier_transform_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = silero_file()
    assert file is not None
    stored = torch.jit.load(str(file)).state_dict()
    stored["_model.stft.forward_basis_buffer"][5] *= 1.01
    module = type("Module", (), {"state_dict": lambda _: stored})
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: module())
    with pytest.raises(AudioError, match="not a Fourier transform"):
        SileroNetwork.load.__wrapped__(SileroNetwork, file)


def test_a_package_with_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "silero_vad.jit"
    file.write_bytes(b"other")
    with pytest.raises(AudioError, match="cannot be used"):
        SileroNetwork.load(file)
    monkeypatch.setattr(silero, "find_spec", lambda _: None)
    assert silero_file() is None
