"""Any sample rate to 16 kHz, block by block, with the requested span cut out exactly.

The result does not depend on how the input is cut into blocks: sample k of the output lies at
k / 16000 seconds of the input, and S input samples make S * 16000 / rate output samples, rounded
to the nearest whole number.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from auris.errors import AurisError, EmptyAudio, InvalidSamples, UnreadableAudio
from auris.types import SAMPLE_RATE, Samples

MIN_RATE = 1_000
"""Lowest source rate in Hz: below it there is no speech, only a wrong header."""

MAX_RATE = 768_000
"""Highest source rate in Hz, that of the fastest converters on the market."""

LOUDEST = 1e15
"""Samples beyond this are nonsense, and the power of their spectrum could overflow float32."""

_WARM_UP = SAMPLE_RATE // 2
"""Output samples before the first one that is used. Its impulse response is
some 200 samples of the lower rate long, 0.2 s at the lowest rate."""


def check_rate(rate: object) -> int:
    """Return `rate` as whole Hz.

    Raises:
        InvalidSamples: it is not a whole number from 1000 to 768000.
    """
    if isinstance(rate, numbers.Real):
        hertz = float(rate)  # True counts as 1 Hz, which is too low anyway.
        if MIN_RATE <= hertz <= MAX_RATE and hertz.is_integer():
            return int(hertz)
    raise InvalidSamples(
        f"A sample rate has to be a whole number of Hz from {MIN_RATE} to {MAX_RATE}",
        f"it is {rate!r}",
        "give the rate at which the audio was recorded",
    )


def output_length(samples: int, rate: int) -> int:
    """Number of samples at 16 kHz for `samples` at `rate` Hz: the nearest, halves up."""
    return (2 * samples * SAMPLE_RATE + rate) // (2 * rate)


def skip(outputs: int, rate: int) -> tuple[int, int]:
    """How much of a source can be left out when its first `outputs` results are not needed.

    Returns:
        (input samples, output samples) that end at exactly the same time, with enough left
        before the first needed result for the filter to settle. Resampling from there on gives
        the same results as resampling everything, up to float32 rounding (1e-6).
    """
    if rate == SAMPLE_RATE:
        return outputs, outputs
    common = math.gcd(rate, SAMPLE_RATE)
    periods = max(0, outputs - _WARM_UP) // (SAMPLE_RATE // common)
    return periods * (rate // common), periods * (SAMPLE_RATE // common)


class Resampler:
    """Turns blocks at `rate` Hz into blocks at 16 kHz.

    At 16 kHz the samples pass through untouched.

    Args:
        rate: of the input, in Hz.
        channels: rows of every block; they are resampled together and never mixed.

    Raises:
        InvalidSamples: the rate is impossible.
    """

    def __init__(self, rate: int, channels: int = 1) -> None:
        self.rate = check_rate(rate)
        self.channels = channels
        self._soxr: Any = None
        if self.rate != SAMPLE_RATE:
            self._soxr = soxr.ResampleStream(
                self.rate, SAMPLE_RATE, channels, dtype="float32", quality="HQ"
            )

    def push(self, block: Samples) -> Samples:
        """Take float32 [C, n], return the float32 [C, m] that can be computed by now."""
        return self._process(block, last=False)

    def finish(self) -> Samples:
        """Return the rest, float32 [C, m]. Nothing may be pushed afterwards."""
        return self._process(np.empty((self.channels, 0), np.float32), last=True)

    def _process(self, block: Samples, last: bool) -> Samples:
        if self._soxr is None:
            return block
        made: Samples = self._soxr.resample_chunk(np.ascontiguousarray(block.T), last=last)
        return np.ascontiguousarray(made.T)


def resample(samples: NDArray[np.float32], rate: int) -> Samples:
    """Resample float32 [S] or [C, S] at `rate` Hz to 16 kHz in one go; the rank is kept."""
    rows = np.atleast_2d(samples).astype(np.float32, copy=False)
    resampler = Resampler(rate, len(rows))
    made = np.concatenate((resampler.push(rows), resampler.finish()), axis=1)
    return made[0] if np.ndim(samples) == 1 else made


class TimeSpan(NamedTuple):
    """The requested samples at 16 kHz: from `first` up to `end`, or to the end of the source."""

    first: int
    end: int | None


class TimedSamples(NamedTuple):
    """Decoded audio: float32 [C, n] at `rate` Hz.

    `at` is where it lies, in samples of the source; it counts only for the first block, which
    comes late after a seek.
    """

    samples: Samples
    rate: int
    at: int = 0


class BrokenOffError(Exception):
    """Raised by an iterator of blocks: the source cannot be read any further.

    Attributes:
        reason: half a sentence that says why.
        declared: how many seconds the source should have, if known.
    """

    def __init__(self, reason: str, declared: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.declared = declared


class SpanRenderer:
    """Turns the blocks of a source into those of a span: mixes, resamples and trims them.

    Args:
        span: the requested part of the source.
        name: what messages call it.
        mix: whether channels are averaged.
    """

    def __init__(self, span: TimeSpan, name: str, mix: bool) -> None:
        self._span = span
        self._name = name
        self._mix = mix
        self._section: _Section | None = None
        self._failure: AurisError | None = None
        self._reached = 0  # Where, at 16 kHz, the source was left.
        self._empty = True

    @property
    def done(self) -> bool:
        """Whether the span is complete, or no further block can be used."""
        end, section = self._span.end, self._section
        past_end = end is not None and section is not None and section.position >= end
        return past_end or self._failure is not None

    def push(self, block: TimedSamples) -> list[Samples]:
        """Take the next block; returns float32 blocks [C, n] at 16 kHz with n > 0.

        Raises:
            UnreadableAudio: the number of channels changed while they are read separately.
            InvalidSamples: the rate is impossible.
        """
        blocks: list[Samples] = []
        channels = 1 if self._mix else len(block.samples)
        section = self._section
        if section is None:
            section = _Section(block.rate, channels, 0, self._span.first, block.at)
        elif channels != section.resampler.channels:
            raise _channels_changed(section.resampler.channels, channels, self._name)
        elif block.rate != section.resampler.rate:
            blocks += self._trimmed(*section.finish())
            section = _Section(block.rate, channels, section.end, self._span.first, 0)
        self._section = section
        usable, self._failure = _usable(block.samples, section, self._name)
        return blocks + self._trimmed(*section.push(mixed(usable) if self._mix else usable))

    def break_off(self, error: BrokenOffError) -> None:
        """Note that the source cannot be read any further."""
        end = self._section.end if self._section else 0
        self._failure = _damaged(error, end, self._span, self._name)

    def finish(self, damage: Callable[[str], None] | None) -> list[Samples]:
        """Return the last blocks.

        Args:
            damage: called where a part of the source is readable and the rest is not, instead of
                an error.

        Raises:
            UnreadableAudio: the source broke off inside the span.
            InvalidSamples: a sample of the span is NaN, infinite or beyond 1e15.
            EmptyAudio: the span holds no sample.
        """
        section, end = self._section, self._span.end
        if self._failure is not None and not (section and end and section.end >= end):
            if damage is None or section is None or not section.end:
                raise self._failure
            damage(f"The recording is damaged: {self._failure.actual}; the rest is left out")
        blocks = self._trimmed(*section.finish()) if section else []
        if self._empty:
            raise _no_samples(self._reached, self._span, self._name)
        return blocks

    def _trimmed(self, position: int, block: Samples) -> list[Samples]:
        """What lies inside the span of a block at a position at 16 kHz."""
        self._reached = position + block.shape[1]
        end = self._reached if self._span.end is None else min(self._span.end, self._reached)
        inside = block[:, max(self._span.first - position, 0) : max(end - position, 0)]
        if not inside.shape[1]:
            return []
        self._empty = False
        return [np.ascontiguousarray(inside)]


class _Section:
    """A stretch of a source with one rate and one number of channels."""

    def __init__(self, rate: int, channels: int, base: int, first: int, at: int) -> None:
        self.resampler = Resampler(rate, channels)
        self.base = base  # Samples at 16 kHz before the section.
        self.at = at  # Samples of the section that went by.
        # `drop` samples are not even resampled; they stand for `lead` samples at 16 kHz.
        self.drop, self.lead = skip(max(first - base, 0), rate)
        self.made = 0

    @property
    def end(self) -> int:
        """Where, at 16 kHz, the last sample that went by ends."""
        return self.base + output_length(self.at, self.resampler.rate)

    @property
    def position(self) -> int:
        """Where, at 16 kHz, the next result lies."""
        return min(self.base + self.lead + self.made, self.end)

    def push(self, samples: Samples) -> tuple[int, Samples]:
        fresh = samples[:, max(self.drop - self.at, 0) :]
        self.at += samples.shape[1]
        return self._placed(self.resampler.push(fresh) if fresh.shape[1] else fresh)

    def finish(self) -> tuple[int, Samples]:
        return self._placed(self.resampler.finish())

    def _placed(self, block: Samples) -> tuple[int, Samples]:
        position = self.position
        self.made += block.shape[1]
        return position, block


def mixed(samples: Samples) -> Samples:
    """The mean of the channels, float32 [1, n]; weighted first, so that it cannot overflow."""
    if len(samples) == 1:
        return samples
    weighted = samples * np.float32(1 / len(samples))
    mean: Samples = weighted.sum(axis=0, keepdims=True, dtype=np.float32)
    return mean


def _usable(
    samples: Samples, section: _Section, name: str
) -> tuple[Samples, InvalidSamples | None]:
    """The samples before the first bad one among those that count, and the error about it."""
    counted = samples[:, max(section.drop - section.at, 0) :]
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(counted) <= LOUDEST)  # This way round NaN is bad, too.
    if not bad.any():
        return samples, None
    first = int(bad.any(axis=0).argmax())
    value = float(counted[bad[:, first], first][0])
    index = samples.shape[1] - counted.shape[1] + first
    seconds = section.base / SAMPLE_RATE + (section.at + index) / section.resampler.rate
    return samples[:, :index], InvalidSamples(
        f"Samples have to be finite numbers of at most {LOUDEST:.0e}",
        f"{name} has {value} at {seconds:.3f} s",
        "repair the recording",
        "choose a span without such samples by start and duration",
    )


def _damaged(broken: BrokenOffError, end: int, span: TimeSpan, name: str) -> UnreadableAudio:
    # Rounded down, so that the advice is one that works.
    readable = end * 100 // SAMPLE_RATE / 100
    rest = max(end - span.first, 0) * 100 // SAMPLE_RATE / 100
    more = broken.declared is not None and broken.declared > readable
    of = f" of {broken.declared:.2f}" if more else ""
    return UnreadableAudio(
        "A recording has to be readable up to the end of the requested span",
        f"only {readable:.2f}{of} seconds of {name} can be read ({broken.reason})",
        "get or encode the file anew",
        f"request the part that can be read, with --duration {rest:.2f}" if rest else "",
    )


def _channels_changed(before: int, after: int, name: str) -> UnreadableAudio:
    return UnreadableAudio(
        "Channels can be read separately only if their number stays the same",
        f"{name} changes from {before} to {after} channels midway",
        "mix the channels, or split the file where they change",
    )


def _no_samples(reached: int, span: TimeSpan, name: str) -> EmptyAudio:
    if reached == 0:
        return EmptyAudio(
            f"{name} holds no samples",
            "",
            "check that the recording worked",
        )
    if span.first >= reached:
        return EmptyAudio(
            "start has to lie inside the recording",
            f"start is {span.first / SAMPLE_RATE:.2f} s and {name} ends at "
            f"{reached / SAMPLE_RATE:.2f} s",
            "choose an earlier start",
        )
    return EmptyAudio(
        "The requested span has to hold at least one sample at 16 kHz",
        "its duration is shorter than that",
        "choose a longer duration",
    )
