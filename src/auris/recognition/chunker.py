"""Cuts recordings into chunks at quiet places.

If channels are transcribed separately, each is cut by itself, and the chunks of all channels are
ordered by their starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np

from auris.audio.io import WEB, Channels, Source, stream
from auris.audio.pauses import FIRST_PAUSE_SECONDS
from auris.audio.remote import WebLimits
from auris.audio.segmentation import CHUNK_SECONDS, Cutter
from auris.errors import AudioError, UsageError
from auris.text.wrap import one_line
from auris.types import SAMPLE_RATE, Chunk, Samples


@dataclass(frozen=True)
class AudioChunker:
    """Reads and cuts sources; its attributes are options of `auris.recognition.options`, and the
    `pause_seconds` of the model's inference defaults.

    Raises:
        UsageError: an option is impossible.
    """

    chunk_seconds: float = CHUNK_SECONDS
    start: float = 0.0
    duration: float | None = None
    channels: Channels = "mix"
    speakers: Sequence[str] | None = None
    urls: WebLimits | None = WEB
    vad: bool = False
    vad_model: str = "auto"
    end_at_pauses: bool = False
    pause_seconds: float = FIRST_PAUSE_SECONDS
    track: int | None = None
    allow_damaged: bool = False

    def __post_init__(self) -> None:
        # Both check their arguments without reading anything.
        Cutter(self.chunk_seconds, vad_model=self.vad_model)
        self._stream(b"", [])
        if self.speakers is not None:
            _check_speakers(self.speakers, self.channels)

    def chunks(self, source: Source) -> Iterator[Chunk]:
        """The chunks of a source, with their positions in all of it.

        What lies before a damaged place is cut into chunks as if the source ended there.

        Raises:
            AudioError: the source cannot be read; raised after the chunks that can be read.
            UsageError: addresses are refused, or there is not one speaker for each channel.
        """
        warnings: list[str] = []
        end = 0
        for chunk in self._cut(self._stream(source, warnings)):
            end = chunk.start + len(chunk.samples) + chunk.skipped
            yield replace(chunk, warnings=tuple(warnings)) if warnings else chunk
            warnings.clear()
        if warnings:
            yield Chunk(end, np.zeros(0, np.float32), warnings=tuple(warnings))

    def _stream(self, source: Source, warnings: list[str]) -> Iterator[Samples]:
        return stream(
            source,
            start=self.start,
            duration=self.duration,
            channels=self.channels,
            urls=self.urls,
            track=self.track,
            allow_damaged=self.allow_damaged,
            warn=warnings.append,
        )

    def _cut(self, blocks: Iterator[Samples]) -> Iterator[Chunk]:
        """Chunks of all channels by their starts; each waits until none can come before it."""
        names: Sequence[str | None] = ()
        cutters: list[Cutter] = []
        waiting: list[tuple[int, int, Chunk]] = []
        failure: AudioError | None = None
        try:
            for block in blocks:
                if not cutters:
                    split = self.channels == "split"
                    names = _speakers(self.speakers, len(block)) if split else [None]
                    cutters = [self._cutter() for _ in names]
                for row, cutter in enumerate(cutters):
                    for chunk in cutter.feed(block[row]):
                        heappush(waiting, (chunk.start, row, chunk))
                begun = min((cutter.start, row) for row, cutter in enumerate(cutters))
                while waiting and waiting[0][:2] < begun:
                    _, row, chunk = heappop(waiting)
                    yield self._positioned(chunk, names[row])
        except AudioError as error:
            failure = error  # The samples before the error are cut into chunks first.
        for row, cutter in enumerate(cutters):
            for chunk in cutter.finish():
                heappush(waiting, (chunk.start, row, chunk))
        while waiting:
            _, row, chunk = heappop(waiting)
            yield self._positioned(chunk, names[row])
        if failure is not None:
            raise failure

    def _cutter(self) -> Cutter:
        pauses = self.end_at_pauses, self.pause_seconds
        return Cutter(self.chunk_seconds, self.vad, self.vad_model, *pauses)

    def _positioned(self, chunk: Chunk, speaker: str | None) -> Chunk:
        start = round(self.start * SAMPLE_RATE) + chunk.start
        return replace(chunk, start=start, speaker=speaker)


def _check_speakers(speakers: Sequence[str], channels: Channels) -> None:
    if channels != "split":
        raise UsageError(
            "Names of speakers need separate channels",
            "the channels are mixed",
            "choose channels split, or leave the names out",
        )
    named = not isinstance(speakers, str) and all(
        isinstance(name, str) and one_line(name) for name in speakers
    )
    if not named or len(set(speakers)) < len(speakers):
        raise UsageError(
            "The names of speakers have to differ, and none may be empty",
            f"they are {speakers!r}",
            "give one for each channel",
        )


def _speakers(given: Sequence[str] | None, channels: int) -> Sequence[str]:
    if given is None:
        return [f"channel {number}" for number in range(1, channels + 1)]
    if len(given) != channels:
        raise UsageError(
            "There has to be one speaker for each channel",
            f"{len(given)} speakers are named for {channels} channels",
            "correct the names, or leave them out",
        )
    return [one_line(name) for name in given]
