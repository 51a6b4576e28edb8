"""Recordings to pieces: the asked span of a source, cut at quiet places.

Where the channels of a call are kept apart, each is cut by itself, and the pieces of all of them
follow each other by their starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain, tee

from auris.audio.io import WEB, Channels, Source, WebLimits, stream
from auris.audio.split import CHUNK_SECONDS, split
from auris.errors import UsageError
from auris.text.wrap import one_line
from auris.types import SAMPLE_RATE, Chunk, Samples

__all__ = ["Reading"]


class Reading:
    """How sources are read.

    Args:
        chunk_seconds: target length of the pieces, see `auris.audio.split`.
        start, duration: the span of every source, in seconds.
        channels: "mix" or "split".
        speakers: one name for each split channel; by default "channel 1" and so on.
        urls: what fetching from the web may cost; None refuses addresses.

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
    ) -> None:
        # Neither reads anything yet, and both refuse what is out of range.
        split([], chunk_seconds)
        stream(b"", start=start, duration=duration, channels=channels)
        if speakers is not None:
            _check_speakers(speakers, channels)
        self.chunk_seconds = chunk_seconds
        self.start = start
        self.duration = duration
        self.channels = channels
        self.speakers = speakers
        self.urls = urls

    def pieces(self, source: Source) -> Iterator[Chunk]:
        """The pieces of a source, placed in the whole of it.

        Raises:
            AudioError: the source cannot be read, when the piece that it concerns is asked for.
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
        if self.channels == "mix":
            return self._cut(blocks, 0, None)
        return self._apart(blocks)

    def _apart(self, blocks: Iterator[Samples]) -> Iterator[Chunk]:
        first = next(blocks)
        names = _speakers(self.speakers, len(first))
        # Pieces are taken in the order of time, so the copies never drift far apart.
        copies = tee(chain([first], blocks), len(first))
        voices = (self._cut(copy, row, names[row]) for row, copy in enumerate(copies))
        yield from merge(*voices, key=lambda chunk: chunk.start)

    def _cut(self, blocks: Iterable[Samples], row: int, speaker: str | None) -> Iterator[Chunk]:
        offset = round(self.start * SAMPLE_RATE)
        for chunk in split((block[row] for block in blocks), self.chunk_seconds):
            yield Chunk(offset + chunk.start, chunk.samples, speaker)


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
