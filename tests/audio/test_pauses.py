"""The pauses that end chunks of live speech: how long they are, and pauses in noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.server.live import EXAMPLE

from auris.audio import pauses
from auris.audio.activity import chosen_model
from auris.audio.io import load
from auris.audio.pauses import PauseFinder
from auris.audio.segmentation import Cutter
from auris.audio.silero import FRAME, silero_file
from auris.types import SAMPLE_RATE, Samples

TARGET = 8 * SAMPLE_RATE


def noise(seconds: float, seed: int = 0) -> Samples:
    drawn = np.random.default_rng(seed).normal(0, 0.1, round(seconds * SAMPLE_RATE))
    return drawn.astype(np.float32)


def found(
    samples: Samples, block: int = 1600, vad_model: str = "energy", first: float = 0.8
) -> float | None:
    """Where a chunk ends, in seconds, fed in blocks."""
    finder = PauseFinder(TARGET, vad_model, first)
    for begin in range(0, len(samples), block):
        finder.add(samples[begin : begin + block])
        if (cut := finder.find()) is not None:
            return cut / SAMPLE_RATE
    return None


@pytest.mark.parametrize(
    ("before", "pause", "ends"),
    [
        *[(1.5, 1.2, False), (2.5, 0.65, False), (2.5, 0.75, True)],
        *[(5.0, 0.4, False), (5.0, 0.5, True), (7.5, 0.15, False), (7.5, 0.3, True)],
    ],
)
def test_a_longer_chunk_ends_at_a_shorter_pause(before: float, pause: float, ends: bool) -> None:
    samples = np.concatenate([noise(before), 1e-3 * noise(pause, 1), noise(0.3, 2)])
    cut = found(samples)
    assert (cut is not None) == ends
    if cut is not None:
        assert before < cut < before + pause


@pytest.mark.parametrize(
    ("first", "before", "pause", "ends"),
    [
        *[(0.5, 2.5, 0.4, False), (0.5, 2.5, 0.55, True), (0.5, 5.0, 0.3, False)],
        *[(0.5, 5.0, 0.4, True), (0.2, 2.1, 0.15, False), (0.2, 2.1, 0.25, True)],
        *[(1.5, 2.5, 1.0, False), (1.5, 2.5, 1.6, True)],
    ],
)
def test_the_first_pause_has_the_length_that_the_model_asks_for(
    first: float, before: float, pause: float, ends: bool
) -> None:
    samples = np.concatenate([noise(before), 1e-3 * noise(pause, 1), noise(0.3, 2)])
    cuts = {found(samples, block, "energy", first) for block in (160, 1600, len(samples))}
    assert len(cuts) == 1
    assert (cuts != {None}) == ends


@pytest.mark.parametrize(("before", "level", "ends"), [(2.5, 0.08, False), (7.5, 0.08, True)])
def test_a_longer_chunk_ends_at_a_louder_pause(before: float, level: float, ends: bool) -> None:
    samples = np.concatenate([noise(before), level * noise(0.6, 1)])
    assert (found(samples) is not None) == ends


def test_the_next_chunk_is_counted_from_the_cut() -> None:
    samples = np.concatenate([noise(3.0), 1e-3 * noise(0.7, 1), noise(2.9, 2), 1e-3 * noise(1, 3)])
    finder = PauseFinder(TARGET, "energy")
    finder.add(samples[: 4 * SAMPLE_RATE])
    cut = finder.find()
    assert cut is not None
    finder.begin(samples[cut : 4 * SAMPLE_RATE])
    finder.add(samples[4 * SAMPLE_RATE :])
    assert finder.find() == found(samples[cut:]) * SAMPLE_RATE


@pytest.mark.parametrize("pause", [5.7, 5.9, 6.1, 6.3, 6.6])
def test_a_pause_behind_the_longest_chunk_is_not_found_in_any_blocks(pause: float) -> None:
    """Chunks of 5 s are cut once 5.3 s were received."""
    samples = np.concatenate([noise(pause - 1), 1e-3 * noise(0.5, 1), noise(4.0, 2)])
    cuts = []
    for block in (1600, 16_000, len(samples)):
        cutter = Cutter(5.0, vad_model="energy", end_at_pauses=True)
        starts = range(0, len(samples), block)
        chunks = [one for first in starts for one in cutter.feed(samples[first : first + block])]
        cuts.append([chunk.start for chunk in [*chunks, *cutter.finish()]])
    assert cuts[0] == cuts[1] == cuts[2]


class ScriptedFrames:
    """A detector that finds a voice in certain spans, by seconds of the chunk."""

    def __init__(self, *spans: tuple[float, float]) -> None:
        self._spans = spans
        self._samples = 0

    def push(self, samples: Samples) -> list[float]:
        first = self._samples // FRAME
        self._samples += len(samples)
        starts = [number * FRAME / SAMPLE_RATE for number in range(first, self._samples // FRAME)]
        return [0.9 if any(a <= at < b for a, b in self._spans) else 0.1 for at in starts]


@pytest.mark.parametrize(
    ("spans", "cut"),
    [
        ([(0.2, 3.0), (3.75, 9.0)], 3.35),  # A pause between words.
        ([(0.2, 3.0), (3.6, 9.0)], None),  # One that is too short.
        ([(0.2, 1.0), (2.2, 9.0)], None),  # One that is too early.
        ([(5.0, 9.0)], None),  # Nobody spoke before.
    ],
)
@pytest.mark.parametrize("block", [160, 1600, 100_000])
def test_a_pause_in_noise_ends_a_chunk_by_the_detector(
    monkeypatch: pytest.MonkeyPatch, spans: list[tuple[float, float]], cut: float | None, block: int
) -> None:
    monkeypatch.setattr(pauses, "frame_probabilities", lambda _: ScriptedFrames(*spans))
    assert found(noise(7.0), block, "silero") == (pytest.approx(cut, abs=0.05) if cut else None)


def test_the_detector_hears_what_may_be_a_pause_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[int] = []

    class Frames(ScriptedFrames):
        def push(self, samples: Samples) -> list[float]:
            heard.append(len(samples))
            return super().push(samples)

    monkeypatch.setattr(pauses, "frame_probabilities", lambda _: Frames((0.2, 9.0)))
    samples = noise(4.0)
    finder = pauses.PauseFinder(8 * SAMPLE_RATE, "silero")
    for first in range(0, len(samples), 1600):
        finder.add(samples[first : first + 1600])
        assert finder.find() is None
        # A pause of a short chunk, behind a quarter of its target.
        assert bool(heard) == (first + 1600 >= 2.8 * SAMPLE_RATE)
    # And again where the last voice that it heard is as long ago as a pause.
    assert 2 <= len(heard) <= 3


def in_noise(decibels: float) -> Callable[[Samples], Samples]:
    """Adds noise that much weaker than the speech."""

    def add(samples: Samples) -> Samples:
        level = float(np.sqrt(np.square(samples).mean())) * 10 ** (-decibels / 20)
        return (samples + 10 * level * noise(len(samples) / SAMPLE_RATE, 7)).astype(np.float32)

    return add


@pytest.mark.skipif(silero_file() is None, reason="silero-vad is not installed")
def test_pauses_in_noise_end_chunks_of_live_speech() -> None:
    assert chosen_model("auto") == "silero"
    said = load(EXAMPLE).samples
    pause = np.zeros(SAMPLE_RATE, np.float32)
    samples = in_noise(10.0)(np.concatenate([said, pause, said, pause, said]))
    ends = {}
    for model in ("energy", "auto"):
        cutter = Cutter(5.0, vad_model=model, end_at_pauses=True)
        chunks = [*cutter.feed(samples), *cutter.finish()]
        ends[model] = [(chunk.start + len(chunk.samples)) / SAMPLE_RATE for chunk in chunks[:-1]]
    spoken, total = len(said) / SAMPLE_RATE, len(said) / SAMPLE_RATE + 1.0
    assert len(ends["auto"]) == 2
    for number, end in enumerate(ends["auto"]):
        assert number * total + spoken - 0.1 <= end <= (number + 1) * total
    assert len(ends["energy"]) < 2
