"""Recordings to pieces: the asked span of a source, cut at quiet places.

Where the channels of a call are kept apart, each is cut by itself, and the pieces of all of them
follow each other by their starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from itertools import chain

from auris.audio.io import WEB, Channels, Source, WebLimits, stream
from auris.audio.segmentation import CHUNK_SECONDS, Cutter
from auris.errors import UsageError
from auris.text.wrap import one_line
from auris.types import SAMPLE_RATE, Chunk, Samples

__all__ = ["AudioChunker"]


class AudioChunker:
    """How sources are read.

    Args:
        chunk_seconds: target length of the pieces, see `auris.audio.segmentation`.
        start, duration: the span of every source, in seconds.
        channels: "mix" or "split".
        speakers: one name for each split channel; by default "channel 1" and so on.
        urls: what fetching from the web may cost; None refuses addresses.
        vad: cut where nobody speaks and leave long silence out.

    Raises:
        UsageError: one of these is impossible.
    """

    def __init__(
        self,
        chunk_seconds: float = CHUNK_SECONDS,
        start: float = 0.0,
        duration: float | None = None,
        channels: Channels = "mix",
        speakers: Sequence[str] | None = None,
        urls: WebLimits | None = WEB,
        vad: bool = False,
    ) -> None:
        # Neither reads anything yet, and both refuse what is out of range.
        Cutter(chunk_seconds)
        stream(b"", start=start, duration=duration, channels=channels)
        if speakers is not None:
            _check_speakers(speakers, channels)
        self.chunk_seconds = chunk_seconds
        self.start = start
        self.duration = duration
        self.channels = channels
        self.speakers = speakers
        self.urls = urls
        self.vad = vad

    def chunks(self, source: Source) -> Iterator[Chunk]:
        """The chunks of a source, placed in the whole of it.

        Raises:
            AudioError: the source cannot be read, when the chunk that it concerns is requested.
            UsageError: it is an address and those are refused, or it has more or fewer channels
                than there are speakers.
        """
        blocks = stream(
            source,
            start=self.start,
            duration=self.duration,
            channels=self.channels,
            urls=self.urls,
        )
        if self.channels == "split":
            return self._apart(blocks)
        return self._mixed(blocks)

    def _mixed(self, blocks: Iterator[Samples]) -> Iterator[Chunk]:
        cutter = Cutter(self.chunk_seconds, self.vad)
        for block in blocks:
            for chunk in cutter.feed(block[0]):
                yield self._placed(chunk, None)
        for chunk in cutter.finish():
            yield self._placed(chunk, None)

    def _apart(self, blocks: Iterator[Samples]) -> Iterator[Chunk]:
        """Pieces of all channels by their starts; each is held until none can come before it."""
        first = next(blocks)
        names = _speakers(self.speakers, len(first))
        cutters = [Cutter(self.chunk_seconds, self.vad) for _ in names]
        held: list[tuple[int, int, Chunk]] = []
        for block in chain([first], blocks):
            for row, cutter in enumerate(cutters):
                for chunk in cutter.feed(block[row]):
                    heappush(held, (chunk.start, row, chunk))
            begun = min((cutter.start, row) for row, cutter in enumerate(cutters))
            while held and held[0][:2] < begun:
                yield self._placed(held[0][2], names[heappop(held)[1]])
        for row, cutter in enumerate(cutters):
            for chunk in cutter.finish():
                heappush(held, (chunk.start, row, chunk))
        while held:
            _, row, chunk = heappop(held)
            yield self._placed(chunk, names[row])

    def _placed(self, chunk: Chunk, speaker: str | None) -> Chunk:
        start = round(self.start * SAMPLE_RATE) + chunk.start
        return replace(chunk, start=start, speaker=speaker)


def _check_speakers(speakers: Sequence[str], channels: Channels) -> None:
    if channels != "split":
        raise UsageError(
            "Speakers can be named where channels are split",
            "they are mixed",
            "choose channels split, or leave the names out",
        )
    named = not isinstance(speakers, str) and all(
        isinstance(name, str) and one_line(name) for name in speakers
    )
    if not named or len(set(speakers)) < len(speakers):
        raise UsageError(
            "Speakers have to be names, none empty and none twice",
            f"they are {speakers!r}",
            "give one for each channel",
        )


def _speakers(given: Sequence[str] | None, channels: int) -> Sequence[str]:
    if given is None:
        return [f"channel {number}" for number in range(1, channels + 1)]
    if len(given) != channels:
        raise UsageError(
            "There has to be one speaker for each channel",
            f"{len(given)} are named for {channels}",
            "correct the names, or leave them out",
        )
    return [one_line(name) for name in given]
