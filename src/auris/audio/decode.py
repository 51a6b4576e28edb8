"""Files to blocks of samples: containers, codecs, holes in time, and what is missing."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import NamedTuple, NoReturn, TypeAlias

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from auris.audio.declared_duration import (
    MP4,
    TOLERANCE,
    WEBM,
    DeclaredDuration,
    declared_duration,
)
from auris.audio.formats import MP4_BOXES, open_options
from auris.audio.frames import (
    FrameReader,
    Outcomes,
    check_channels,
    decoded_packets,
    forget_channel_layout,
)
from auris.audio.mp4_tables import is_checked_mp4
from auris.audio.reader import Reader, open_file, reason, unreadable
from auris.audio.remote import WebLimits
from auris.audio.resample import BrokenOffError, TimedSamples, TimeSpan, check_rate, skip
from auris.audio.truncation import breaks_off
from auris.errors import AurisError, UsageError
from auris.types import SAMPLE_RATE

_BLOCKS_PER_SECOND = 4  # Decoded frames are gathered into blocks before they are processed.
_SHOWN_HOLES = 3  # Holes that have a warning of their own.
_MAX_HOLE = 600.0  # Longest hole in a container's clock that is believed, in seconds.
_TIMED = {MP4, WEBM, "mpegts", "flv", "asf"}  # A jump in time is a pause or a gap in capture.
_NUMBERED = {"ogg", "flac"}  # A jump in time is a loss.
_SEEKABLE = {"wav", "flac"}  # Landing is exact, and decoding does not depend on what came before.
_LOG = logging.getLogger(__name__)

Warn: TypeAlias = "Callable[[str], None]"
"""A function that is called with a sentence about the recording."""


class Header(NamedTuple):
    """What the header of a file says; it need not be true.

    Attributes:
        rate: in Hz.
        channels: how many there are.
        seconds: how long it is; None if unknown.
        guess: ffmpeg's estimate of that, which may be wrong; None if it has none.
    """

    rate: int
    channels: int
    seconds: float | None
    guess: float | None = None


def header(source: object, name: str, urls: WebLimits | None) -> Header:
    """Read the header of a file, without decoding it.

    Raises:
        UnreadableAudio: it is no audio file.
        InvalidSamples: its rate is impossible.
    """
    with ExitStack() as stack:
        decoder = _TrackDecoder(source, name, urls, stack)
        container, track = decoder.container, decoder.track
        try:
            declared = declared_duration(container, track, decoder.reader)
            channels: int = track.channels
        except Exception as error:  # PyAV raises many kinds; all of them mean damage here.
            unreadable(
                "The header of an audio file has to be readable",
                f"that of {name} is not ({reason(error)})",
                "get or encode the file anew",
            )
        return Header(
            check_rate(track.rate),
            check_channels(channels) if channels else 0,
            declared.seconds,
            None if container.duration is None else container.duration / av.time_base,
        )


def decoded(
    source: object,
    span: TimeSpan,
    name: str,
    urls: WebLimits | None,
    track: int | None = None,
    warn: Warn = _LOG.warning,
) -> Generator[TimedSamples, None, None]:
    """Decode a file; the blocks begin no later than the span.

    Args:
        source, name: the file, and what messages call it.
        span: the part of it that is needed.
        urls: limits of downloads.
        track: number of the sound track, from 1; None for the container's default.
        warn: called with sentences about the recording.

    Raises:
        AurisError: the file cannot be opened, or its rate or number of channels is impossible.
        BrokenOffError: it cannot be read any further.
    """
    with ExitStack() as stack:
        decoder = _TrackDecoder(source, name, urls, stack, track, warn)
        joiner = _BlockJoiner()
        try:
            for outcome in decoder.outcomes(span):
                for frame in decoder.frames(outcome):
                    for block in decoder.blocks(frame):
                        yield from joiner.add(block)
            decoder.check_end()
        except Exception as error:
            yield from joiner.rest()
            if isinstance(error, (AurisError, BrokenOffError)):
                raise
            # PyAV raises many kinds, ValueError and MemoryError among them: all mean damage here.
            raise BrokenOffError(reason(error)) from error
        finally:
            decoder.warn_of_more_holes()
        yield from joiner.rest()


class _BlockJoiner:
    """Joins small blocks, so that the cost of each step counts little."""

    def __init__(self) -> None:
        self._blocks: list[TimedSamples] = []
        self._length = 0

    def add(self, block: TimedSamples) -> list[TimedSamples]:
        """Take a block; returns what is long enough, or ends where rate or channels change."""
        joined: list[TimedSamples] = []
        if self._blocks:
            first = self._blocks[0]
            if (first.rate, len(first.samples)) != (block.rate, len(block.samples)):
                joined = self.rest()
        self._blocks.append(block)
        self._length += block.samples.shape[1]
        if self._length * _BLOCKS_PER_SECOND >= block.rate:
            joined += self.rest()
        return joined

    def rest(self) -> list[TimedSamples]:
        """What was added since, as one block or none."""
        blocks, self._blocks, self._length = self._blocks, [], 0
        if not blocks:
            return []
        samples = np.concatenate([block.samples for block in blocks], axis=1)
        return [blocks[0]._replace(samples=samples)]


class _TrackDecoder:
    """Decodes the sound track of a file, fills holes in its time and checks that it is complete.

    Args:
        source, name, urls, number, warn: see `decoded`; `number` is its `track`.
        stack: closes what is opened.

    Raises:
        UnreadableAudio: it is no audio file.
    """

    def __init__(
        self,
        source: object,
        name: str,
        urls: WebLimits | None,
        stack: ExitStack,
        number: int | None = None,
        warn: Warn = lambda text: None,
    ) -> None:
        try:
            self.reader = Reader(open_file(source, name, stack, urls), stack)
            mp4 = is_checked_mp4(self.reader, name)
            self.container = stack.enter_context(_open_container(self.reader, name, mp4))
            self.track = _track(self.container, name, number, warn)
        except AurisError:
            raise
        except Exception as error:  # Whatever a file object of the caller's, or PyAV, raises.
            unreadable(
                "An audio source has to be readable",
                f"reading {name} failed ({reason(error)})",
                "check the source",
            )
        self._kind: str = self.container.format.name
        self._name = name
        self._warn = warn
        self._frames = FrameReader()
        self._declared = DeclaredDuration()
        self._at = 0  # Where the next frame lies, in samples of the source, after a seek.
        self._clock: float | None = None  # When the next frame is due, by the container's clock.
        self._done = 0.0  # Seconds of the source that went by.
        self._holes: list[float] = []  # Seconds of each hole in the clock.
        self._error: str | None = None  # Of the last packet that could not be decoded.

    def outcomes(self, span: TimeSpan) -> Outcomes:
        """Decode from near the span's beginning to the end of the track."""
        self._declared = declared_duration(self.container, self.track, self.reader)
        outcomes = self._near(span)
        begin = self.container.start_time
        self._clock = None if begin is None or self._at else begin / av.time_base
        return outcomes

    def frames(self, outcome: list[AudioFrame] | Exception) -> list[AudioFrame]:
        """The frames of a packet.

        Raises:
            BrokenOffError: it, or one before it, is damaged.
        """
        self.reader.check_interrupted()
        if isinstance(outcome, Exception):
            # Tags and padding after the end are no loss, unless sound follows them.
            self._error = reason(outcome)
            if not self._declared.met(self._done, unknown=False):
                raise BrokenOffError(self._error, self._declared.seconds)
            return []
        if self._error is not None and outcome:
            raise BrokenOffError(self._error, self._declared.seconds)
        return outcome

    def blocks(self, frame: AudioFrame) -> list[TimedSamples]:
        """The samples of a frame, with silence before them where the clock has a hole."""
        # ffmpeg notes a change of rate one MP3 frame late, but knows it after decoding.
        rate = (self.track.codec_context if self._kind == "mp3" else frame).sample_rate
        samples = self._frames.samples(frame)
        if not samples:
            return []
        block = TimedSamples(np.concatenate(samples, axis=1), check_rate(rate), self._at)
        now = _frame_time(frame)
        blocks = []
        if now is not None and self._clock is not None and now - self._clock > TOLERANCE:
            blocks = self._silence(block, now - self._clock)
        blocks.append(block)
        for each in blocks:
            self._done += each.at / each.rate + each.samples.shape[1] / each.rate
        before = now if now is not None else self._clock
        self._clock = None if before is None else before + block.samples.shape[1] / block.rate
        self._at = 0
        return blocks

    def check_end(self) -> None:
        """Check that the track is complete.

        Raises:
            BrokenOffError: it is not.
        """
        self.reader.check_interrupted()
        declared = self._declared.seconds
        if self.reader.failure is not None:
            raise BrokenOffError(reason(self.reader.failure), declared)
        # The last samples of a WAV file of known duration are compared with that.
        if (self._kind != "wav" or declared is None) and breaks_off(self._kind, self.reader):
            raise BrokenOffError("the file breaks off")
        if not self._declared.met(self._done, unknown=True):
            raise BrokenOffError("the file breaks off", declared)

    def warn_of_more_holes(self) -> None:
        """Warn of the holes that had no warning of their own."""
        more = self._holes[_SHOWN_HOLES:]
        if more:
            self._warn(
                f"{self._name} has no sound in {len(more)} more places, {sum(more):.2f} s in all; "
                "silence takes their place"
            )

    def _near(self, span: TimeSpan) -> Outcomes:
        """Decode from near the span's beginning where going there is exact and saves work, else
        from the beginning of the track."""
        track, declared = self.track, self._declared.seconds
        if (
            self._kind in _SEEKABLE
            and track.codec_context.name.startswith(("pcm_", "flac"))
            and self.reader.seekable()
            and not track.start_time
            and track.time_base is not None
            and declared is not None
            and span.first / SAMPLE_RATE < declared
        ):
            rate = track.rate
            target = skip(span.first, check_rate(rate))[0]
            if target > 10 * rate:
                try:
                    self.container.seek(int(target / rate / track.time_base), stream=track)
                    outcomes = decoded_packets(self.container, track)
                    first = next(outcomes, None)
                    now = _frame_time(first[0]) if isinstance(first, list) and first else None
                    at = -1 if now is None else round(now * rate)
                    if 0 <= at <= target and first is not None:
                        self._at = at
                        return itertools.chain([first], outcomes)
                except av.FFmpegError as error:
                    _LOG.debug("seeking failed: %s", error)
                try:
                    self.container.seek(0, stream=track)  # It went astray.
                except Exception as error:  # PyAV raises many kinds, as in `decoded`.
                    raise BrokenOffError(reason(error), declared) from error
        return decoded_packets(self.container, track)

    def _silence(self, after: TimedSamples, seconds: float) -> list[TimedSamples]:
        """Silence for a jump in time before a block, in containers that mean such jumps."""
        if self._kind in _NUMBERED or (self._kind in _TIMED and seconds > _MAX_HOLE):
            raise BrokenOffError(f"{seconds:.2f} seconds are missing there", self._declared.seconds)
        if self._kind not in _TIMED:
            return []
        self._holes.append(seconds)
        if len(self._holes) <= _SHOWN_HOLES:
            self._warn(
                f"{self._name} has no sound for {seconds:.2f} s from {self._done:.2f} s on; "
                "silence takes its place"
            )
        second = np.zeros((len(after.samples), after.rate), np.float32)
        full, rest = divmod(round(seconds * after.rate), after.rate)
        blocks = [second] * full + ([second[:, :rest]] if rest else [])
        return [TimedSamples(block, after.rate) for block in blocks]


def _frame_time(frame: AudioFrame) -> float | None:
    if frame.pts is None or frame.time_base is None:
        return None
    return float(frame.pts * frame.time_base)


def _open_container(reader: Reader, name: str, mp4: bool) -> InputContainer:
    try:
        container: InputContainer = av.open(
            *(reader, "r"),
            container_options=open_options(mp4),
            metadata_errors="replace",
            io_open=_refuse,
        )
        return container
    except Exception as error:  # PyAV raises many kinds; all of them mean the same here.
        reader.check_interrupted()
        if reader.failure is not None:
            raise reader.failure from None
        if isinstance(error, AurisError):
            raise
        headless = not mp4 and reader.peek(4, 4) in MP4_BOXES
        why = "an MP4 file without its header" if headless else reason(error)
        problem = "is empty" if reader.peek(0, 1) == b"" else f"is not ({why})"
        unreadable(
            "A recording has to be an audio or video file in a format that is read",
            f"{name} {problem}",
            "check that it is complete, and neither a playlist nor a text",
        )


def _refuse(*_: object) -> NoReturn:
    unreadable(
        "An audio source has to contain its audio",
        "it is a playlist that points elsewhere",
        "pass the audio file itself",
    )


def _track(container: InputContainer, name: str, requested: int | None, warn: Warn) -> AudioStream:
    """The sound track that is read, the first being number 1."""
    tracks = list(container.streams.audio)
    if not tracks:
        kinds = sorted({stream.type for stream in container.streams})
        unreadable(
            "An audio file has to contain sound",
            f"{name} has none (only {' and '.join(kinds) or 'an empty container'})",
            "pass a file with a sound track",
        )
    best = container.streams.best("audio")
    number = requested or (tracks.index(best) + 1 if best in tracks else 1)
    if number > len(tracks):
        raise UsageError(
            f"--track has to be one of the {len(tracks)} sound tracks of {name}",
            f"it is {number}",
            f"choose one of: {_listed(tracks)}",
        )
    if requested is None and len(tracks) > 1:
        warn(
            f"{name} has {len(tracks)} sound tracks ({_listed(tracks)}); number {number} is read: "
            "choose another with --track"
        )
    track = tracks[number - 1]
    if track.codec_context is None:
        unreadable(
            "The sound has to be in a codec that ffmpeg can decode",
            f"that of {name} is unknown or encrypted",
            "convert the file, for instance to FLAC",
        )
    forget_channel_layout(track)
    if track.codec_context.name == "flac":
        track.codec_context.options = {
            "err_detect": "crccheck+explode"
        }  # Else a flipped bit is noise.
    return track


def _listed(tracks: list[AudioStream]) -> str:
    """The tracks with their titles and languages."""
    shown = []
    for number, track in enumerate(tracks, 1):
        labels = (track.metadata.get("title"), track.metadata.get("language"))
        about = " ".join(" ".join(str(text).split())[:60] for text in labels if text)
        shown.append(f"{number} {about}".strip())
    return ", ".join(shown)
