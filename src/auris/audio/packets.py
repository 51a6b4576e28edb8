"""Packets of a track to decoded frames, and what is wrong with the packets that are not decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from auris.audio.declared_duration import ends_inside_frame

__all__ = ["Outcomes", "decoded_packets"]

Outcomes: TypeAlias = "Iterator[list[AudioFrame] | Exception]"
"""The frames of each packet, or what went wrong with it."""

AMR_PAUSES = {"amrnb": range(8, 16), "amrwb": range(9, 16)}
"""Types of AMR frames without speech: descriptions of the noise in a pause, and gaps."""

AMR_FRAMES_PER_SECOND = 50


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
        except Exception as error:
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
