"""Detectors of speech, and which one is used: our own, or the network of silero-vad.

Our own detectors need no further package. They compare levels with the noise, so they take music
and other sounds that change for speech. The network tells voices from these. There are two uses:

- A `SpeechMeter` gives the probability of speech while the audio arrives; it finds turns.
- A `BlockDetector` decides blocks with the help of later audio; it finds cuts, and silence that is
  left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from importlib.metadata import version
from typing import NamedTuple, Protocol

from auris.audio.levels import LevelMeter
from auris.audio.resample import Resampler
from auris.audio.silero import FRAME, SileroFrames, SileroNetwork, silero_file
from auris.audio.vad import AROUND_BLOCKS, BLOCK, SpeechDetector
from auris.errors import MissingExtra, UsageError
from auris.types import SAMPLE_RATE, Samples

VAD_MODELS = ("auto", "energy", "silero")
"""The names of detectors; auto is silero where it is installed, and else energy."""

VOICE = 0.5
"""Probability from which a block has a voice, so that no cut should lie there."""

SILENCE = 0.3
"""Probability below which a block counts as silence, if our own detector says so, too."""

RELEASE = 0.15
"""The probability of speech that continues may be this much lower than that of speech that
begins."""


def chosen_model(name: str) -> str:
    """The detector of a name of `VAD_MODELS`: energy or silero.

    Raises:
        UsageError: there is no such detector.
        MissingExtra: its package is not installed.
    """
    if name not in VAD_MODELS:
        raise UsageError(
            f"--vad-model has to be {', '.join(VAD_MODELS[:-1])} or {VAD_MODELS[-1]}",
            f"it is {name!r}",
            "choose one of them",
        )
    installed = silero_file() is not None
    if name == "silero" and not installed:
        raise MissingExtra(
            "--vad-model silero needs the package silero-vad",
            "it is not installed",
            "run pip install 'auris-asr[vad]', or choose energy",
        )
    if name == "auto":
        return "silero" if installed else "energy"
    return name


def described_model(name: str) -> str:
    """The detector of a name, with the version of its package."""
    model = chosen_model(name)
    return f"silero {version('silero-vad')}" if model == "silero" else model


class SpeechMeter(Protocol):
    """The probability of speech, frame by frame.

    Attributes:
        frame: samples of a frame.
    """

    frame: int

    def push(self, samples: Samples) -> list[float]:
        """Take more samples, float32 [n]; returns the probabilities of the frames that are known
        now, each once."""

    def release(self, threshold: float) -> float:
        """The probability that continues speech which begins at a threshold."""


class SileroMeter:
    """The network's probabilities for audio of any rate; a `SpeechMeter`."""

    def __init__(self, network: SileroNetwork, rate: int) -> None:
        self.frame = FRAME * rate // SAMPLE_RATE
        self._frames = SileroFrames(network)
        self._resampler = Resampler(rate)

    def push(self, samples: Samples) -> list[float]:
        """Take more samples; a frame is known some milliseconds after its end."""
        return self._frames.push(self._resampler.push(samples[None])[0])

    def release(self, threshold: float) -> float:
        return max(threshold - RELEASE, min(threshold, 0.01))


def speech_meter(name: str, rate: int) -> SpeechMeter:
    """A detector of `VAD_MODELS` for audio of 8, 16 or 24 kHz; errors as of `chosen_model`."""
    if chosen_model(name) == "energy":
        return LevelMeter(rate)
    return SileroMeter(_network(), rate)


class BlockActivity(NamedTuple):
    """What is known of a block of `auris.audio.vad.BLOCK` samples.

    Attributes:
        silent: it may be left out, if its neighbours are silent, too.
        free: nobody speaks in it, so that a cut may lie there.
    """

    silent: bool
    free: bool


class BlockDetector(Protocol):
    """Decides block by block, however the samples arrive."""

    def feed(self, samples: Samples) -> list[BlockActivity]:
        """Take more samples, float32 [n] at 16 kHz; returns the blocks that are decided now."""

    def finish(self) -> list[BlockActivity]:
        """Decide the rest."""


class EnergyBlocks:
    """The decisions of our own detector; a `BlockDetector`."""

    def __init__(self) -> None:
        self._detector = SpeechDetector()

    def feed(self, samples: Samples) -> list[BlockActivity]:
        return self._decisions(self._detector.feed(samples))

    def finish(self) -> list[BlockActivity]:
        return self._decisions(self._detector.finish())

    def _decisions(self, speech: Iterable[bool]) -> list[BlockActivity]:
        return [BlockActivity(not one, not one) for one in speech]


class AgreeingBlocks:
    """Blocks are silent where both detectors say so, and free by the network; a `BlockDetector`."""

    def __init__(self, network: SileroNetwork) -> None:
        self._detector = SpeechDetector()
        self._frames = SileroFrames(network)
        self._count = 0
        # The highest probabilities of blocks, from `AROUND_BLOCKS` before the next one on.
        self._peaks: deque[float] = deque([0.0] * AROUND_BLOCKS)
        self._first = -AROUND_BLOCKS

    def feed(self, samples: Samples) -> list[BlockActivity]:
        self._add(self._frames.push(samples))
        return self._decisions(self._detector.feed(samples))

    def finish(self) -> list[BlockActivity]:
        self._add(self._frames.finish())
        return self._decisions(self._detector.finish())

    def _add(self, probabilities: Iterable[float]) -> None:
        for probability in probabilities:
            start = self._count * FRAME
            for block in range(start // BLOCK, (start + FRAME - 1) // BLOCK + 1):
                index = block - self._first
                if index == len(self._peaks):
                    self._peaks.append(0.0)
                self._peaks[index] = max(self._peaks[index], probability)
            self._count += 1

    def _decisions(self, speech: Iterable[bool]) -> list[BlockActivity]:
        decided = []
        for one in speech:
            around = [self._peaks[n] for n in range(min(len(self._peaks), 2 * AROUND_BLOCKS + 1))]
            voice = around[AROUND_BLOCKS] if len(around) > AROUND_BLOCKS else 0.0
            decided.append(BlockActivity(not one and max(around) < SILENCE, voice < VOICE))
            self._peaks.popleft()
            self._first += 1
            if not self._peaks:
                self._peaks.append(0.0)
        return decided


def block_detector(name: str) -> BlockDetector:
    """A detector of `VAD_MODELS`; errors as of `chosen_model`."""
    return EnergyBlocks() if chosen_model(name) == "energy" else AgreeingBlocks(_network())


def frame_probabilities(name: str) -> SileroFrames | None:
    """The network's probabilities in every frame of a stream at 16 kHz; None for energy. Errors as
    of `chosen_model`."""
    return None if chosen_model(name) == "energy" else SileroFrames(_network())


def _network() -> SileroNetwork:
    file = silero_file()
    assert file is not None
    return SileroNetwork.load(file)
