"""Audio files of every format, encoded on demand."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np

RATE = 16_000


def chirp(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A tone that rises from 300 to some thousand Hz, float32 [C, n]; later channels softer."""
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.5 * np.sin(2 * np.pi * (300 * time + 200 * time * time))
    return np.stack([tone / (1 + index) for index in range(channels)]).astype(np.float32)


def pcm(samples: np.ndarray) -> np.ndarray:
    """Float [C, n] as int16 [C, n]."""
    return np.round(samples * 32767).astype(np.int16)


def encode(
    samples: np.ndarray,
    rate: int,
    container: str,
    codec: str,
    options: dict[str, str] | None = None,
    jumps: dict[int, float] | None = None,
    layout: str | None = None,
    codec_options: dict[str, str] | None = None,
    title: str = "",
) -> bytes:
    """Encode float32 or int16 [C, n].

    Args:
        options: of the container.
        jumps: seconds by which the clock jumps ahead before the frame of that index.
        layout: ffmpeg's name of the channels, by default a usual one of their number.
        codec_options: of the codec.
        title: of the file.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as output:
        if title:
            output.metadata["title"] = title
        layout = layout or {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(samples)]
        stream = output.add_stream(codec, rate=rate, layout=layout)
        stream.codec_context.options = codec_options or {}
        form = "s16" if samples.dtype == np.int16 else "flt"
        packed = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format=form, layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            stream.codec_context.format, layout, rate, stream.codec_context.frame_size or 1024
        )
        at = 0
        for index, piece in enumerate(resampler.resample(frame) + resampler.resample(None)):
            at += round((jumps or {}).get(index, 0.0) * rate)
            piece.pts, at = at, at + piece.samples
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    """[C, n] as WAV: int16, or float32 as it is."""
    codec = "pcm_s16le" if samples.dtype == np.int16 else "pcm_f32le"
    return encode(samples, rate, "wav", codec)


def picture() -> bytes:
    """A small PNG."""
    return _video("image2pipe", "png", with_sound=False)


def film(with_sound: bool) -> bytes:
    """One second of video, with a chirp in AAC or without sound."""
    return _video("matroska", "mpeg4", with_sound)


def _video(container: str, codec: str, with_sound: bool) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        video = output.add_stream(codec, rate=25)
        video.width = video.height = 32
        video.pix_fmt = "rgb24" if codec == "png" else "yuv420p"
        sound: Any = output.add_stream("aac", rate=44_100, layout="mono") if with_sound else None
        for _ in range(1 if codec == "png" else 25):
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            output.mux(video.encode(image))
        output.mux(video.encode(None))
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(chirp(1.0, 44_100), format="fltp", layout="mono")
            frame.sample_rate = 44_100
            for piece in av.AudioResampler("fltp", "mono", 44_100, 1024).resample(frame):
                output.mux(sound.encode(piece))
            output.mux(sound.encode(None))
    return buffer.getvalue()


class Pipe(io.RawIOBase):
    """Bytes that can be read once, in small portions, like a pipe."""

    def __init__(self, data: bytes, portion: int = 5000) -> None:
        self._data = io.BytesIO(data)
        self._portion = portion

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return self._data.read()
        return self._data.read(min(size, self._portion))
