"""Packets to frames, and frames to samples, with the layout of every frame checked before its data
are read.

A file may change its channels, its rate and its sample format with any frame. PyAV finds the planes
of a frame by reading pointers up to a null, and finds too many of them where there are eight planes
or more, so such frames are first packed into one plane by ffmpeg.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from auris.audio.arrays import MAX_CHANNELS, as_float
from auris.audio.truncation import ends_inside_frame
from auris.errors import InvalidSamples
from auris.types import Samples

MOST_PLANES = 7
"""Maximum number of planes of a frame that PyAV counts correctly."""

SAMPLE_FORMATS = frozenset({"u8", "s16", "s32", "flt", "u8p", "s16p", "s32p", "fltp"})
"""Sample formats that become float32 directly. ffmpeg converts the others: 64-bit ones."""

Outcomes: TypeAlias = "Iterator[list[AudioFrame] | Exception]"
"""The frames of each packet, or what went wrong with it."""

AMR_PAUSES = {"amrnb": range(8, 16), "amrwb": range(9, 16)}
"""Types of AMR frames without speech: descriptions of the noise in a pause, and gaps."""

AMR_FRAMES_PER_SECOND = 50


def check_channels(channels: int) -> int:
    """Return a number of channels.

    Raises:
        InvalidSamples: it is not from 1 to `MAX_CHANNELS`.
    """
    if 1 <= channels <= MAX_CHANNELS:
        return channels
    raise InvalidSamples(
        f"A recording has to have 1 to {MAX_CHANNELS} channels",
        f"it has {channels}",
        "convert it to fewer channels",
    )


def forget_channel_layout(track: AudioStream) -> None:
    """Forget which speaker each channel of a track is for, before anything else reads it.

    A container can have a table of speakers. PyAV shares such a table between objects and frees it
    with each of them, which corrupts memory. Nothing here needs the table.
    """
    context = track.codec_context
    # The only one that frees the table, once the context no longer holds it.
    shared = context.layout
    if shared.nb_channels:
        context.layout = f"{check_channels(shared.nb_channels)}C"


class FrameReader:
    """Reads the samples of frames. A new conversion is set up whenever their layout changes."""

    def __init__(self) -> None:
        self._layout: tuple[str, str, int, int] | None = None
        self._packer: av.AudioResampler | None = None

    def samples(self, frame: AudioFrame) -> list[Samples]:
        """The samples of a frame as float32 arrays [C, n].

        Raises:
            InvalidSamples: the number of channels is impossible.
        """
        channels = check_channels(frame.layout.nb_channels)
        planar = frame.format.is_planar
        if frame.format.name in SAMPLE_FORMATS and not (planar and channels > MOST_PLANES):
            return [_samples(frame, channels)]
        layout = (frame.format.name, frame.layout.name, channels, frame.sample_rate)
        if layout != self._layout or self._packer is None:
            self._packer = av.AudioResampler("flt", frame.layout, frame.sample_rate)
            self._layout = layout
        return [_samples(packed, channels) for packed in self._packer.resample(frame)]


def _samples(frame: AudioFrame, channels: int) -> Samples:
    if frame.layout.nb_channels != channels:
        raise ValueError(f"a frame of {channels} channels has {frame.layout.nb_channels}")
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(frame.samples, channels).T
    return as_float(samples)


def decoded_packets(container: InputContainer, track: AudioStream) -> Outcomes:
    """Decode a track from the present position to its end."""
    packets = container.demux(track)
    codec = track.codec_context.name.removeprefix("libopencore_")
    last = b""
    while True:
        try:
            packet = next(packets, None)
        except Exception as error:  # PyAV raises many kinds; all of them mean damage here.
            yield error
            return
        if packet is None:
            break
        if codec == "mp2" and packet.size:
            last = bytes(packet)
        try:
            frames = [frame for frame in packet.decode() if isinstance(frame, AudioFrame)]
        except Exception as error:  # As above.
            if packet.size == 0 and isinstance(error, ValueError):
                continue  # An index at the end of a file, as NUT has it.
            pause = _pause(track, codec, packet)
            yield error if pause is None else [pause]
        else:
            yield [frame for frame in frames if frame.samples > 0]
    if ends_inside_frame(last):
        yield ValueError("the file breaks off inside a frame")


def _pause(track: AudioStream, codec: str, packet: Packet[AudioStream]) -> AudioFrame | None:
    """Silence for a packet of AMR that holds no speech, which ffmpeg cannot decode."""
    types = AMR_PAUSES.get(codec)
    if types is None or not packet.size or bytes(packet)[0] >> 3 & 15 not in types:
        return None
    silence = np.zeros((1, track.rate // AMR_FRAMES_PER_SECOND), np.float32)
    frame = AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
    frame.sample_rate = track.rate
    frame.pts, frame.time_base = packet.pts, packet.time_base
    return frame
