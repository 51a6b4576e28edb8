"""Truncated files of older containers, files with several tracks, and reading up to the damage."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest
from tests.audio.media import chirp, encode, pcm

from auris.audio.io import load, stream
from auris.errors import UnreadableAudio, UsageError
from auris.recognition.chunker import AudioChunker
from auris.types import SAMPLE_RATE

KINDS = {
    "avi": ("avi", "pcm_s16le", 16_000),
    "avi with mp3": ("avi", "libmp3lame", 48_000),
    "flv": ("flv", "libmp3lame", 44_100),
    "voc": ("voc", "pcm_s16le", 16_000),
    "mp2": ("mp2", "mp2", 48_000),
    "mp2 of MPEG-2": ("mp2", "mp2", 22_050),
    "mpeg": ("mpeg", "mp2", 48_000),
    "rm": ("rm", "ac3", 48_000),
    "asf": ("asf", "libmp3lame", 44_100),
}
PACKET_SAMPLES = 1024
"""Samples of a packet of the WAV files here."""

SIZES = {0: 12, 1: 13, 2: 15, 3: 17, 4: 19, 5: 20, 6: 26, 7: 31}
"""Bytes of AMR frames behind their headers, by type."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_damaged(kind: str) -> None:
    container, codec, rate = KINDS[kind]
    data = encode(pcm(chirp(4.0, rate)), rate, container, codec)
    assert load(data).seconds == pytest.approx(4.0, abs=0.1)
    with pytest.raises(UnreadableAudio, match="seconds of the given data can be read"):
        load(data[: len(data) * 6 // 10])


IN_PARTS = {
    "mp4 in fragments": ("mp4", "aac", {"movflags": "frag_every_frame+empty_moov"}),
    "dash": ("mp4", "aac", {"movflags": "dash", "frag_duration": "1000000"}),
    "live matroska": ("matroska", "libopus", {"live": "1"}),
    "live webm": ("webm", "libopus", {"live": "1"}),
    "mxf": ("mxf_opatom", "pcm_s16le", {}),
}


@pytest.mark.parametrize("kind", IN_PARTS)
def test_a_file_truncated_inside_a_packet_is_damaged(kind: str) -> None:
    container, codec, options = IN_PARTS[kind]
    data = encode(pcm(chirp(4.0, 48_000)), 48_000, container, codec, options)
    assert load(data).seconds == pytest.approx(4.0, abs=0.1)
    for share in (0.3, 0.5, 0.6, 0.77, 0.9):
        with pytest.raises(UnreadableAudio, match="seconds of the given data can be read"):
            load(data[: int(len(data) * share)])


def _with_duration(data: bytes, box: bytes, seconds: int) -> bytes:
    """The MP4 in fragments with a box that states the duration of all of them."""
    if box == b"sidx":
        index = struct.pack(">IIIIIHH", 0, 1, 48_000, 0, 0, 0, 1)
        index += struct.pack(">III", 1000, seconds * 48_000, 0)
        at = data.index(b"moof") - 4
        return data[:at] + struct.pack(">I4s", 8 + len(index), box) + index + data[at:]
    changed = bytearray(data)
    for parent in (b"moov", b"mvex"):
        at = data.index(parent) - 4
        changed[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + 16).to_bytes(4, "big")
    at = data.index(b"mvex") + 4
    return bytes(changed[:at]) + struct.pack(">I4sII", 16, box, 0, seconds * 1000) + changed[at:]


@pytest.mark.parametrize("box", [b"sidx", b"mehd"])
def test_an_mp4_shorter_than_its_declared_duration_is_damaged(
    box: bytes,
) -> None:
    options = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
    data = encode(pcm(chirp(4.0, 48_000)), 48_000, "mp4", "aac", options)
    stated = _with_duration(data, box, 4)
    assert np.array_equal(load(stated).samples, load(data).samples)
    half = stated.index(b"moof", len(stated) // 2) - 4
    with pytest.raises(UnreadableAudio, match=r"of 4\.00 seconds"):
        load(stated[:half])
    assert load(data[: data.index(b"moof", len(data) // 2) - 4]).seconds < 3  # It looks complete.
    if box == b"mehd":
        assert load(_with_duration(data, box, 0)).seconds > 3.9


@pytest.mark.parametrize("kind", ["mp4 in fragments", "live webm"])
def test_data_after_the_last_packet_is_ignored(kind: str) -> None:
    container, codec, options = IN_PARTS[kind]
    data = encode(pcm(chirp(2.0, 48_000)), 48_000, container, codec, options)
    for more in (b"TAG" + bytes(125), bytes(1000)):
        assert np.array_equal(load(data + more).samples, load(data).samples)


def test_flac_in_nut_is_read() -> None:
    data = encode(pcm(chirp(4.0, channels=2)), 16_000, "nut", "flac")
    assert load(data).seconds == 4.0


def test_amr_pauses_are_silence() -> None:
    data = encode(chirp(2.0, 8_000), 8_000, "amr", "libopencore_amrnb")
    frames, at = [], 6
    while at < len(data):
        length = 1 + SIZES[data[at] >> 3 & 15]
        frames.append(data[at : at + length])
        at += length
    frames[20] = bytes([8 << 3 | 4]) + bytes(5)  # A comfort noise frame.
    frames[21:30] = [bytes([15 << 3 | 4])] * 9  # A frame without data.
    sound = load(data[:6] + b"".join(frames))
    assert sound.seconds == pytest.approx(0.02 * len(frames), abs=1e-3)
    pause = sound.samples[int(0.44 * SAMPLE_RATE) : int(0.58 * SAMPLE_RATE)]
    assert np.abs(pause).max() < 1e-3


def _warned(data: bytes, **options: object) -> tuple[int, tuple[str, ...]]:
    chunks = list(AudioChunker(**options).chunks(data))
    samples = sum(len(chunk.samples) + chunk.skipped for chunk in chunks)
    return samples, tuple(text for chunk in chunks for text in chunk.warnings)


@pytest.mark.parametrize("seconds", [4.0, 60.0])
@pytest.mark.parametrize("channels", ["mix", "split"])
def test_damaged_files_are_read_up_to_the_damage_on_request(seconds: float, channels: str) -> None:
    data = encode(pcm(chirp(seconds, 16_000, 2)), 16_000, "wav", "pcm_s16le")
    half = data[: len(data) // 2]
    with pytest.raises(UnreadableAudio):
        _warned(half, channels=channels)
    samples, warnings = _warned(half, channels=channels, allow_damaged=True)
    # Before version 18, PyAV does not decode an incomplete packet.
    missing = 0 if int(av.__version__.partition(".")[0]) >= 18 else PACKET_SAMPLES
    rows = 1 if channels == "mix" else 2
    expected = rows * round(seconds / 2 * SAMPLE_RATE)
    assert expected - rows * missing - 100 <= samples <= expected + 100
    (warning,) = warnings
    assert f"of {seconds:.2f} seconds" in warning
    assert _warned(data, allow_damaged=True)[1] == ()


@pytest.mark.parametrize(("holes", "sentences"), [(3, 3), (4, 4), (500, 4)])
def test_many_holes_have_few_warnings(holes: int, sentences: int) -> None:
    jumps = dict.fromkeys(range(1, holes + 1), 0.2)
    data = encode(pcm(chirp((holes + 2) * 0.064)), 16_000, "matroska", "pcm_s16le", jumps=jumps)
    samples, warnings = _warned(data)
    assert samples == pytest.approx(((holes + 2) * 0.064 + holes * 0.2) * SAMPLE_RATE, abs=100)
    assert len(warnings) == sentences
    if holes > 3:
        assert (
            f"no sound in {holes - 3} more places, {(holes - 3) * 0.2:.2f} s in all" in warnings[-1]
        )


def test_holes_outside_the_span_are_counted() -> None:
    jumps = dict.fromkeys(range(1, 101), 0.2)
    data = encode(pcm(chirp(7.0)), 16_000, "matroska", "pcm_s16le", jumps=jumps)
    _, warnings = _warned(data, duration=5.0)
    assert len(warnings) == 4
    assert "more places" in warnings[-1]


def test_an_unreadable_file_is_an_error() -> None:
    with pytest.raises(UnreadableAudio):
        _warned(b"no sound", allow_damaged=True)


def _two_tracks() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        tracks = [output.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        for track, language in zip(tracks, ("eng", "deu"), strict=True):
            track.metadata["language"] = language
        for number, track in enumerate(tracks):
            level = np.full((1, 16_000), 8_000 * (number + 1), np.int16)
            frame = av.AudioFrame.from_ndarray(level, format="s16", layout="mono")
            frame.sample_rate = 16_000
            output.mux(track.encode(frame))
            output.mux(track.encode(None))
    return buffer.getvalue()


def test_an_audio_track_can_be_chosen() -> None:
    data = _two_tracks()
    for number in (1, 2):
        told: list[str] = []
        (block,) = stream(data, track=number, warn=told.append)
        assert block.max() == pytest.approx(8_000 * number / 32_768)
        assert told == []
    (warning,) = _warned(data)[1]
    assert "has 2 sound tracks (1 eng, 2 deu); number 1 is read" in warning
    with pytest.raises(UsageError, match="one of the 2 sound tracks"):
        list(stream(data, track=3))
    with pytest.raises(UsageError, match="from 1 on"):
        stream(data, track=0)
