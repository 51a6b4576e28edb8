"""Cutting a recording into chunks where it is quietest.

A cut is decided from the samples around it only, and only when all of them are known, so that a
live stream and a file are cut alike, whatever the size of the blocks that they arrive in. With
voice activity detection cuts lie where nobody speaks if possible, and long silence is left out,
accounted for by chunks without samples.
"""

from __future__ import annotations

import numbers
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from auris.audio.activity import BlockActivity, block_detector, chosen_model
from auris.audio.pauses import FIRST_PAUSE_SECONDS, PauseFinder
from auris.audio.vad import BLOCK
from auris.errors import UsageError
from auris.types import SAMPLE_RATE, Chunk, Samples

CHUNK_SECONDS = 30.0
"""Usual length of a chunk: models lose words in much longer ones."""

MAX_CHUNK_SECONDS = 1200.0
"""Longest chunk that can be requested."""

SEARCH_SECONDS = 5.0
"""A cut lies at most this far from its target, or a third of a shorter chunk."""

REST_SECONDS = 1.0
"""Length that is needed behind a search window, so that the last chunk is no sliver."""

LIVE_REST = 3 * SAMPLE_RATE // 10
"""The same for live speech, whose last chunk may be short, in samples."""

SHORTEST_HALVED = 4 * SAMPLE_RATE
"""Samples of the shortest chunk that is worth cutting again."""

PAUSE = 3 * SAMPLE_RATE // 10
"""Samples over which quietness is measured first: longer than the closure of a consonant, which is
as quiet as a pause between words."""

GAP = SAMPLE_RATE // 10
"""Samples over which it is measured inside of that: no longer than most pauses between words."""

STEP = SAMPLE_RATE // 100
"""Samples between the positions that are compared."""

UTTERANCE_SECONDS = 10.0
"""Chunks with a target up to this one end with an utterance if possible: models for short chunks
were trained on single utterances, and are worse at the end of the first of several."""

SHORTEST_UTTERANCE = SAMPLE_RATE
"""Samples that such a chunk has at least."""

UTTERANCE_PAUSE = 6 * SAMPLE_RATE // 10
"""Samples of the pause that ends an utterance: longer than those between its words."""

UTTERANCE_PAUSE_DB = 30.0
"""How far such a pause lies below the samples that wait."""

SKIPPED_BLOCKS = 2 * SAMPLE_RATE // BLOCK
"""As many blocks without speech (2 s) are left out. The detector counts a second before and behind
speech as speech, so pauses under 4 s stay."""


def _quietest(samples: Samples, allowed: NDArray[np.bool_] | None = None) -> int:
    """The middle of the quietest 0.1 s in the quietest 0.3 s; of equals, the most central one.

    Args:
        samples: where to look.
        allowed: [len(samples)] where the middle should lie, if it can.
    """
    first = _quietest_span(samples, PAUSE, allowed)
    last = first + PAUSE
    inside = None if allowed is None else allowed[first:last]
    return first + _quietest_span(samples[first:last], GAP, inside) + GAP // 2


def _quietest_span(samples: Samples, length: int, allowed: NDArray[np.bool_] | None) -> int:
    """Where the quietest `length` samples begin."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, len(samples) - length + 1, STEP)
    if allowed is not None and allowed[starts + length // 2].any():
        starts = starts[allowed[starts + length // 2]]
    power = energy[starts + length] - energy[starts]
    # Sums of the same silence differ by rounding; what is inaudible at full scale is equal.
    quiet = starts[power <= power.min() + 1e-9 * length]
    return int(quiet[np.argmin(np.abs(quiet + length // 2 - len(samples) // 2))])


def _first_pause(samples: Samples) -> int | None:
    """The middle of the first pause that ends an utterance, behind the shortest chunk."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(SHORTEST_UTTERANCE, len(samples) - UTTERANCE_PAUSE + 1, STEP)
    power = (energy[starts + UTTERANCE_PAUSE] - energy[starts]) / UTTERANCE_PAUSE
    # What is inaudible at full scale is always a pause.
    limit = energy[-1] / len(samples) * 10.0 ** (-UTTERANCE_PAUSE_DB / 10.0) + 1e-9
    quiet = np.flatnonzero(power <= limit)
    if not len(quiet):
        return None
    ends = np.flatnonzero(np.diff(quiet) > 1)
    first, last = starts[quiet[0]], starts[quiet[ends[0] if len(ends) else -1]]
    return int(first + last + UTTERANCE_PAUSE) // 2


class Cutter:
    """Cuts samples into chunks as they come.

    Args:
        chunk_seconds: target length of a chunk, 1 to 1200; up to 10, chunks of a second and more
            end sooner with an utterance, at a pause of 0.6 s, with vad or without. What ends less
            than a second behind the search window stays one chunk, with its pauses.
        vad: otherwise cut where nobody speaks, if possible near the target, and leave long silence
            out: a chunk without samples says how much it is, at least one for every
            `chunk_seconds`.
        vad_model: the detector, of `auris.audio.activity.VAD_MODELS`.
        end_at_pauses: end a chunk as soon as there is a pause behind a quarter of the target, of
            `pause_seconds` at first and a shorter one in a longer chunk, see `auris.audio.pauses`;
            or else cut it in the second half of the target. With vad it has no effect.
        pause_seconds: see `end_at_pauses`.

    Chunks and silences follow each other without gap or overlap.

    Raises:
        UsageError: the target is out of range, or there is no such detector.
        MissingExtra: the detector is not installed.
    """

    def __init__(
        self,
        chunk_seconds: float = CHUNK_SECONDS,
        vad: bool = False,
        vad_model: str = "auto",
        end_at_pauses: bool = False,
        pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        chosen_model(vad_model)
        real = isinstance(chunk_seconds, numbers.Real)
        if not real or not 1.0 <= chunk_seconds <= MAX_CHUNK_SECONDS:
            raise UsageError(
                f"A chunk has to be 1 to {MAX_CHUNK_SECONDS:.0f} seconds long",
                f"it is {chunk_seconds!r}",
                "choose --chunk-seconds in this range",
            )
        self._target = round(chunk_seconds * SAMPLE_RATE)
        search = round(min(SEARCH_SECONDS, chunk_seconds / 3) * SAMPLE_RATE)
        self._window = self._target - search, self._target + search
        self._utterances = chunk_seconds <= UTTERANCE_SECONDS
        rest = round(REST_SECONDS * SAMPLE_RATE)
        self._pauses = None
        if end_at_pauses and not vad:
            self._pauses = PauseFinder(self._target, vad_model, pause_seconds)
            search = round(min(2 * SEARCH_SECONDS, chunk_seconds / 2) * SAMPLE_RATE)
            self._window = self._target - search, self._target
            self._utterances, rest = False, LIVE_REST  # The finder ends utterances.
        self._needed = self._window[1] + rest
        self._start = 0
        self._waiting: list[Samples] = []
        self._length = 0
        self._detector = block_detector(vad_model) if vad else None
        self._activities: deque[BlockActivity] = deque()  # Of the blocks that wait.
        self._decided = 0
        self._quiet = 0
        self._skipping = False

    @property
    def start(self) -> int:
        """Where the open chunk begins: every chunk still to come starts here or later."""
        return self._start

    def feed(self, samples: Samples) -> list[Chunk]:
        """Take more samples, float32 [n] at 16 kHz; returns the chunks that are complete now."""
        chunks: list[Chunk] = []
        # A second at a time, so that little more than a chunk is in memory.
        for first in range(0, len(samples), SAMPLE_RATE):
            block = samples[first : first + SAMPLE_RATE]
            self._waiting.append(block)
            self._length += len(block)
            if self._pauses is not None:
                self._pauses.add(block)
            if self._detector is not None:
                chunks += self._take(self._detector.feed(block))
            else:
                chunks += self._cut_complete()
        return chunks

    def finish(self) -> list[Chunk]:
        """Return what is left; nothing may be fed afterwards."""
        chunks = self._take(self._detector.finish()) if self._detector is not None else []
        if self._length:
            chunks.append(self._leave_out() if self._skipping else self._first_chunk(self._length))
        return chunks

    def unfixed(self) -> Chunk | None:
        """The open chunk as far as it is known; None in a silence that is left out."""
        if not self._length or self._skipping:
            return None
        self._waiting = [np.concatenate(self._waiting)]
        return Chunk(self._start, self._waiting[0])

    def _cut_complete(self) -> list[Chunk]:
        """The chunks whose end is certain, without vad."""
        chunks = []
        while True:
            pause = None if self._pauses is None else self._pauses.find()
            if pause is not None:
                chunks.append(self._first_chunk(pause))
            elif self._length >= self._needed:
                chunks.append(self._cut())
            else:
                return chunks

    def _cut(self) -> Chunk:
        """The chunk that ends with an utterance, or in the search window."""
        first, last = self._window
        samples = np.concatenate(self._waiting)[:last]
        pause = _first_pause(samples) if self._utterances else None
        if pause is None:
            pause = first + _quietest(samples[first:], self._free(first, last))
        return self._first_chunk(pause)

    def _free(self, first: int, last: int) -> NDArray[np.bool_] | None:
        """Where nobody speaks in a span of the samples that wait: by all detectors, if possible."""
        if self._detector is None:
            return None
        before = self._decided - len(self._activities)
        blocks = (self._start + np.arange(first, last)) // BLOCK - before
        silent = np.array([activity.silent for activity in self._activities])[blocks]
        free = np.array([activity.free for activity in self._activities])[blocks]
        return silent if silent.any() else free

    def _first_chunk(self, length: int) -> Chunk:
        """The first `length` samples that wait."""
        samples = np.concatenate(self._waiting)
        chunk = Chunk(self._start, samples[:length])
        self._forget(samples, length)
        return chunk

    def _leave_out(self, end: int | None = None) -> Chunk:
        """The silence that waits, all of it or up to sample `end` of the recording."""
        samples = np.concatenate(self._waiting)
        length = len(samples) if end is None else end - self._start
        peak = float(np.abs(samples[:length]).max(initial=0.0))
        chunk = Chunk(self._start, samples[:0].copy(), skipped=length, peak=peak)
        self._forget(samples, length)
        return chunk

    def _forget(self, samples: Samples, length: int) -> None:
        self._start += length
        # A copy, so that the chunk that was returned can be freed.
        self._waiting = [samples[length:].copy()]
        self._length = len(self._waiting[0])
        if self._pauses is not None:
            self._pauses.begin(self._waiting[0])
        waiting = self._activities
        while waiting and (self._decided - len(waiting) + 1) * BLOCK <= self._start:
            waiting.popleft()

    def _take(self, decisions: Iterable[BlockActivity]) -> list[Chunk]:
        """Go on by blocks of which it is known whether they could be speech."""
        chunks: list[Chunk] = []
        for activity in decisions:
            begin = self._decided * BLOCK
            self._decided += 1
            self._activities.append(activity)
            self._quiet = self._quiet + 1 if activity.silent else 0
            if self._skipping and not activity.silent:
                chunks.append(self._leave_out(begin))
                self._skipping = False
            elif self._skipping and begin - self._start >= self._target:
                chunks.append(self._leave_out(begin))
            elif not self._skipping and self._quiet >= SKIPPED_BLOCKS:
                self._skipping = True
                silence = (self._decided - self._quiet) * BLOCK
                if silence > self._start:
                    chunks.append(self._first_chunk(silence - self._start))
            elif not self._skipping and self._decided * BLOCK - self._start >= self._needed:
                chunks.append(self._cut())
        return chunks


def split(
    blocks: Iterable[Samples],
    chunk_seconds: float = CHUNK_SECONDS,
    vad: bool = False,
    end_at_pauses: bool = False,
) -> Iterator[Chunk]:
    """Cut a stream of samples into chunks.

    Args:
        blocks: float32 [n] at 16 kHz, of any sizes.
        chunk_seconds, vad, end_at_pauses: see `Cutter`.

    Yields:
        chunks, each as soon as it is complete.

    Raises:
        UsageError: the target is out of range.
    """
    return _chunks(blocks, Cutter(chunk_seconds, vad, end_at_pauses=end_at_pauses))


def _chunks(blocks: Iterable[Samples], cutter: Cutter) -> Iterator[Chunk]:
    for block in blocks:
        yield from cutter.feed(block)
    yield from cutter.finish()


def halves(chunk: Chunk) -> tuple[Chunk, Chunk] | None:
    """A chunk cut once more, where it is quietest near its middle.

    The cut lies at most a third of a half away from the middle, and at most five seconds.

    Returns:
        both parts, without gap or overlap; None for a chunk of less than four seconds.
    """
    samples = chunk.samples
    if len(samples) < SHORTEST_HALVED:
        return None
    middle = len(samples) // 2
    search = min(round(SEARCH_SECONDS * SAMPLE_RATE), middle // 3)
    cut = middle - search + _quietest(samples[middle - search : middle + search])
    left, right = replace(chunk, samples=samples[:cut]), replace(chunk, samples=samples[cut:])
    return left, replace(right, start=chunk.start + cut)
