"""Cutting a recording into pieces at its quietest places.

A cut is decided from the samples around one place only, and only when all of them have been
heard, so that a live stream and a file are cut alike, whatever the size of the blocks that they
arrive in.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from auris.errors import UsageError
from auris.types import SAMPLE_RATE, Chunk, Samples

__all__ = ["CHUNK_SECONDS", "MAX_CHUNK_SECONDS", "Cutter", "halves", "split"]

CHUNK_SECONDS = 30.0
"""Usual length of a piece: models lose words in much longer ones."""

MAX_CHUNK_SECONDS = 1200.0
"""Longest piece that can be asked for."""

SEARCH_SECONDS = 5.0
"""A cut lies at most this far from its target, or a third of a shorter piece."""

REST_SECONDS = 1.0
"""What has to be heard behind a search window, so that no sliver is left as the last piece."""

SHORTEST_HALVED = 4 * SAMPLE_RATE
"""Samples of the shortest piece that is worth cutting again."""

PAUSE = SAMPLE_RATE // 10
"""Samples over which quietness is measured."""

STEP = SAMPLE_RATE // 100
"""Samples between the places that are compared."""


def _quietest(samples: Samples) -> int:
    """The middle of the quietest tenth of a second; of equals, the one nearest to the middle."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, len(samples) - PAUSE + 1, STEP)
    power = energy[starts + PAUSE] - energy[starts]
    # Sums of the same silence differ by rounding; what is inaudible beside full scale is equal.
    quiet = starts[power <= power.min() + 1e-9 * PAUSE]
    middles = quiet + PAUSE // 2
    return int(middles[np.argmin(np.abs(middles - len(samples) // 2))])


class Cutter:
    """Cuts a recording that arrives bit by bit.

    Args:
        chunk_seconds: target length of a piece, 1 to 1200. A recording that ends less than a
            second behind its first search window stays one piece.

    Raises:
        UsageError: the target is out of range.
    """

    def __init__(self, chunk_seconds: float = CHUNK_SECONDS) -> None:
        real = isinstance(chunk_seconds, numbers.Real)
        if not real or not 1.0 <= chunk_seconds <= MAX_CHUNK_SECONDS:
            raise UsageError(
                f"A piece has to be 1 to {MAX_CHUNK_SECONDS:.0f} seconds long",
                f"{chunk_seconds!r} was asked",
                "choose --chunk-seconds in this range",
            )
        self._target = round(chunk_seconds * SAMPLE_RATE)
        self._reach = round(min(SEARCH_SECONDS, chunk_seconds / 3) * SAMPLE_RATE)
        self._needed = self._target + self._reach + round(REST_SECONDS * SAMPLE_RATE)
        self._start = 0
        self._waiting: list[Samples] = []
        self._heard = 0

    def feed(self, samples: Samples) -> list[Chunk]:
        """Hear more, float32 [n] at 16 kHz, and return the pieces whose ends are now certain."""
        self._waiting.append(samples)
        self._heard += len(samples)
        pieces = []
        while self._heard >= self._needed:
            whole = np.concatenate(self._waiting)
            low = self._target - self._reach
            cut = low + _quietest(whole[low : self._target + self._reach])
            pieces.append(Chunk(self._start, whole[:cut]))
            self._start += cut
            # A copy, so that the piece that was given away can be freed.
            self._waiting = [whole[cut:].copy()]
            self._heard = len(self._waiting[0])
        return pieces

    def finish(self) -> list[Chunk]:
        """There is no more: what is left, if anything."""
        rest = self.unfixed()
        self._waiting, self._heard = [], 0
        return [] if rest is None else [rest]

    def unfixed(self) -> Chunk | None:
        """What was heard behind the last certain cut, if anything."""
        if not self._heard:
            return None
        if len(self._waiting) > 1:
            self._waiting = [np.concatenate(self._waiting)]
        return Chunk(self._start, self._waiting[0])


def split(blocks: Iterable[Samples], chunk_seconds: float = CHUNK_SECONDS) -> Iterator[Chunk]:
    """Cut a stream of samples into pieces.

    Args:
        blocks: float32 [n] at 16 kHz, of any sizes.
        chunk_seconds: as of `Cutter`.

    Yields:
        pieces that follow each other without gap or overlap.

    Raises:
        UsageError: the target is out of range.
    """
    return _pieces(blocks, Cutter(chunk_seconds))


def _pieces(blocks: Iterable[Samples], cutter: Cutter) -> Iterator[Chunk]:
    for block in blocks:
        yield from cutter.feed(block)
    yield from cutter.finish()


def halves(chunk: Chunk) -> tuple[Chunk, Chunk] | None:
    """A piece cut once more, at the quietest place near its middle.

    The place lies at most a third of a half away from the middle, and at most five seconds.

    Returns:
        both parts, without gap or overlap; None for a piece of less than four seconds.
    """
    samples = chunk.samples
    if len(samples) < SHORTEST_HALVED:
        return None
    middle = len(samples) // 2
    reach = min(round(SEARCH_SECONDS * SAMPLE_RATE), middle // 3)
    cut = middle - reach + _quietest(samples[middle - reach : middle + reach])
    left, right = replace(chunk, samples=samples[:cut]), replace(chunk, samples=samples[cut:])
    return left, replace(right, start=chunk.start + cut)
