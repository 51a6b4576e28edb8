from __future__ import annotations

import io
import itertools
import logging
import os
import struct
import sys
import threading
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media import RATE, Pipe, chirp, encode, film, pcm, wav

from auris.audio.io import load, load_channels, look, stream
from auris.audio.resample import output_length, resample
from auris.errors import UnreadableAudio

LOSSLESS = [
    ("wav", "pcm_s16le"),
    ("wav", "pcm_s24le"),
    ("wav", "pcm_f32le"),
    ("wav", "pcm_f64le"),
    ("w64", "pcm_s16le"),
    ("aiff", "pcm_s16be"),
    ("flac", "flac"),
    ("ogg", "flac"),
    ("matroska", "flac"),
    ("mov", "alac"),
    ("caf", "pcm_s16le"),
]


def rough(samples: np.ndarray) -> np.ndarray:
    """Float32 samples rounded to int16."""
    return pcm(samples).astype(np.float32) / 32768


# Sources -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("container", "codec"), LOSSLESS)
def test_lossless_files_equal_the_array(container: str, codec: str) -> None:
    samples = pcm(chirp(1.3))
    made = load(encode(samples, RATE, container, codec))
    assert made.samples.dtype == np.float32
    assert made.samples.flags.c_contiguous
    assert made.start == 0.0
    assert made.channel is None
    np.testing.assert_array_equal(made.samples, samples[0].astype(np.float32) / 32768)


def test_probing_reads_the_header() -> None:
    for container, codec, rate in (("wav", "pcm_s16le", 44_100), ("flac", "flac", 48_000)):
        made = encode(pcm(chirp(1.5, rate, channels=2)), rate, container, codec)
        header = look(io.BytesIO(made))
        assert (header.rate, header.channels) == (rate, 2)
        assert header.seconds == pytest.approx(1.5, abs=0.01)
    with pytest.raises(UnreadableAudio, match="the given file is empty"):
        look(io.BytesIO(b""))


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(1, 9_000),
    channels=st.integers(1, 2),
    rate=st.sampled_from([8_000, 16_000, 44_100]),
    seed=st.integers(0, 99),
)
def test_a_wav_file_equals_the_array(length: int, channels: int, rate: int, seed: int) -> None:
    samples = np.random.default_rng(seed).integers(-32768, 32768, (channels, length)).astype("i2")
    if output_length(length, rate) == 0:
        return
    from_file = load_channels(wav(samples, rate))
    from_array = load_channels((samples.T if channels < length else samples[0], rate))
    for one, other in zip(from_file, from_array, strict=channels < length):
        np.testing.assert_array_equal(one.samples, other.samples)


def test_every_kind_of_source_gives_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = wav(pcm(chirp(0.5)))
    expected = load(data).samples
    path = tmp_path / "ein Ton, 音.wav"
    path.write_bytes(data)
    monkeypatch.chdir(tmp_path)
    ahead = io.BytesIO(b"four" + data)
    ahead.seek(4)
    with path.open("rb") as opened:
        sources = [str(path), path, path.name, bytearray(data), memoryview(data), opened]
        for source in [*sources, ahead, Pipe(data), (pcm(chirp(0.5)), RATE)]:
            np.testing.assert_array_equal(load(source).samples, expected)
        assert not opened.closed


@pytest.mark.parametrize("container", ["wav", "flac", "ipod"])
def test_standard_input_can_be_a_pipe(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = {"wav": "pcm_s16le", "flac": "flac", "ipod": "aac"}[container]
    # Longer than ffmpeg's own buffer, with the index of MP4 at the end.
    noise = np.random.default_rng(0).integers(-9_000, 9_000, (1, 20 * RATE)).astype(np.int16)
    data = encode(noise, RATE, container, codec)
    out, into = os.pipe()

    def write() -> None:
        with os.fdopen(into, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(out, "r") as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        made = load("-")
    writer.join()
    np.testing.assert_array_equal(made.samples, load(data).samples)


def test_a_pipe_is_read_no_further_than_needed() -> None:
    source = Pipe(wav(pcm(chirp(60.0))))
    first = next(stream(source))
    assert first.shape[0] == 1
    assert 0 < first.shape[1] <= RATE
    assert source._data.tell() < 200_000


def test_a_wav_stream_without_sizes_is_read_to_its_end() -> None:
    data = wav(pcm(chirp(1.0)))
    place = data.index(b"data") + 4
    for size in (0xFFFFFFFF, 0, 0x7FFFFFFF):
        unsized = data[:place] + struct.pack("<I", size) + data[place + 4 :]
        for source in (unsized, Pipe(unsized)):
            np.testing.assert_array_equal(load(source).samples, load(data).samples)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_samples_are_not_copied_twice(rate: int) -> None:
    data = encode(pcm(chirp(200.0, rate)), rate, "flac", "flac")
    load(data, duration=1.0)
    tracemalloc.start()
    try:
        made = load(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.25 * made.samples.nbytes + 2_000_000


def test_rf64_is_read() -> None:
    samples = pcm(chirp(1.0))
    made = load(encode(samples, RATE, "wav", "pcm_s16le", {"rf64": "always"}))
    np.testing.assert_array_equal(made.samples, rough(chirp(1.0))[0])


def test_the_audio_of_a_video_is_read() -> None:
    made = load(film(with_sound=True))
    assert made.seconds == pytest.approx(1.0, abs=0.08)
    assert np.abs(made.samples).max() > 0.3


def test_libraries_do_not_write_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(pcm(chirp(1.0)), RATE, "mp3", "libmp3lame")
    load(data + bytes(3_000))
    load(film(with_sound=True))
    assert capfd.readouterr() == ("", "")


# Rates, formats and channels ---------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_becomes_16_khz(rate: int) -> None:
    samples = pcm(chirp(1.7, rate))
    made = load(encode(samples, rate, "flac", "flac")).samples
    assert len(made) == output_length(samples.shape[1], rate)
    np.testing.assert_array_equal(made, resample(rough(chirp(1.7, rate)), rate)[0])


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.int16, -(2**14)),
        (np.int32, -(2**30)),
        (np.uint8, 64),
        (np.float16, -0.5),
        (np.float32, -0.5),
        (np.float64, -0.5),
        (np.dtype(">i2"), -(2**14)),
    ],
)
def test_full_scale_is_1(dtype: np.dtype, value: float) -> None:
    np.testing.assert_array_equal(load((np.full(5, value, dtype), RATE)).samples, [-0.5] * 5)


def test_floats_beyond_full_scale_are_not_clipped() -> None:
    samples = np.array([[-3.0, 0.25, 7.5]], np.float32)
    np.testing.assert_array_equal(load(wav(samples)).samples, samples[0])


@pytest.mark.parametrize("shape", [(100,), (1, 100), (100, 1), (2, 100), (100, 2), (1, 1), (1, 2)])
def test_the_shorter_axis_is_the_channels(shape: tuple[int, ...]) -> None:
    made = load_channels((np.zeros(shape, np.float32), RATE))
    assert len(made) == min(shape) if len(shape) == 2 else len(made) == 1
    assert all(len(one.samples) == max(shape) for one in made)


def test_an_array_is_copied() -> None:
    array = np.zeros(100, np.float32)
    made = load((array, RATE)).samples
    block = next(stream((array, RATE)))
    array[:] = 1.0
    assert not made.any()
    assert not block.any()


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_channels_are_averaged_or_separate(rate: int) -> None:
    samples = chirp(0.7, rate, channels=2)
    data = wav(samples, rate)
    left, right = load_channels(data)
    assert (left.channel, right.channel) == (0, 1)
    np.testing.assert_array_equal(left.samples, resample(samples[0], rate))
    np.testing.assert_array_equal(right.samples, resample(samples[1], rate))
    np.testing.assert_allclose(
        load(data).samples, (left.samples + right.samples) / 2, atol=0 if rate == RATE else 1e-6
    )


def test_six_channels_are_averaged() -> None:
    samples = chirp(0.3, channels=6)
    made = load(wav(samples)).samples
    np.testing.assert_allclose(made, samples.mean(axis=0), atol=1e-6)
    assert len(load_channels(wav(samples))) == 6


def test_silence_is_valid_audio() -> None:
    made = load(wav(np.zeros((1, 1_000), np.int16)))
    assert len(made.samples) == 1_000
    assert not made.samples.any()


# Codecs that add samples -------------------------------------------------------------------------


def lag(made: np.ndarray, truth: np.ndarray) -> int:
    """The number of samples by which `made` is delayed."""
    size = 2 * max(len(made), len(truth))
    product = np.fft.rfft(made, size) * np.conj(np.fft.rfft(truth, size))
    best = int(np.argmax(np.fft.irfft(product, size)))
    return best if best < size // 2 else best - size


@pytest.mark.parametrize(
    ("container", "codec", "rate", "more"),
    [
        ("mp3", "libmp3lame", 16_000, 0),
        ("mp3", "libmp3lame", 44_100, 0),
        ("ipod", "aac", 16_000, 1024),
        ("ipod", "aac", 44_100, 1024),
        ("ogg", "libopus", 48_000, 0),
        ("webm", "libopus", 48_000, 0),
    ],
)
def test_encoder_priming_is_removed(container: str, codec: str, rate: int, more: int) -> None:
    """The padding before the first sample is removed; AAC keeps the padding after the last one."""
    samples = chirp(2.1, rate)
    made = load(encode(samples, rate, container, codec)).samples
    truth = resample(samples, rate)[0]
    assert len(truth) <= len(made) <= len(truth) + output_length(more, rate)
    assert abs(lag(made, truth)) <= 1


# Spans -------------------------------------------------------------------------------------------

SPANS = [(0.0, 1.0), (0.5, None), (0.0001, 0.3), (1.23456, 0.777), (2.0, 10.0), (2.9999, 1.0)]


@pytest.mark.parametrize(("container", "codec"), [*LOSSLESS[:3], *LOSSLESS[6:9]])
@pytest.mark.parametrize(("start", "duration"), SPANS)
def test_a_span_is_a_slice_of_the_file(
    container: str, codec: str, start: float, duration: float | None
) -> None:
    data = encode(pcm(chirp(3.0)), RATE, container, codec)
    whole = load(data).samples
    made = load(data, start=start, duration=duration)
    first = int(start * RATE + 0.5)
    end = None if duration is None else int((start + duration) * RATE + 0.5)
    assert made.start == start
    np.testing.assert_array_equal(made.samples, whole[first:end])


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    start=st.floats(0.0, 2.9),
    duration=st.floats(0.001, 3.0),
)
def test_a_span_of_any_rate_is_a_slice(rate: int, start: float, duration: float) -> None:
    array = (chirp(3.0, rate), rate)
    made = load(array, start=start, duration=duration).samples
    first, end = int(start * RATE + 0.5), int((start + duration) * RATE + 0.5)
    np.testing.assert_allclose(made, load(array).samples[first:end], atol=2e-6)


@pytest.fixture(scope="module")
def long_noise() -> np.ndarray:
    """90 seconds at 44.1 kHz, long enough that seeking is used."""
    return np.random.default_rng(0).integers(-9_000, 9_000, (1, 90 * 44_100)).astype(np.int16)


@pytest.mark.parametrize(("container", "codec"), [("wav", "pcm_s16le"), ("flac", "flac")])
@pytest.mark.parametrize("start", [20.0, 55.4321, 89.9])
def test_seeking_is_exact(
    container: str, codec: str, start: float, long_noise: np.ndarray, tmp_path: Path
) -> None:
    data = encode(long_noise, 44_100, container, codec)
    sought = load(data, start=start, duration=2.0).samples
    read_through = load(Pipe(data, 1 << 20), start=start, duration=2.0).samples
    np.testing.assert_array_equal(sought, read_through)
    whole = load(data).samples
    first = int(start * RATE + 0.5)
    np.testing.assert_allclose(sought, whole[first : first + 2 * RATE], atol=2e-6)


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    total = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.total += len(data)
        return data


@pytest.mark.parametrize(("container", "codec"), [("wav", "pcm_s16le"), ("flac", "flac")])
def test_seeking_avoids_reading(container: str, codec: str, long_noise: np.ndarray) -> None:
    data = encode(long_noise, 44_100, container, codec)
    source = Counting(data)
    load(source, start=80.0, duration=1.0)
    assert source.total < len(data) / 3


def test_consecutive_spans_have_no_gap() -> None:
    data = wav(chirp(1.0))
    cuts = [0.0, 0.100033, 0.25, 0.7000131, 1.0]
    parts = [
        load(data, start=low, duration=high - low).samples for low, high in itertools.pairwise(cuts)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), load(data).samples)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_blocks_join_to_the_file(rate: int) -> None:
    data = wav(chirp(3.0, rate, channels=2), rate)
    for mode, rows in (("mix", 1), ("split", 2)):
        blocks = list(stream(data, channels=mode, start=0.4))
        assert all(block.shape[0] == rows and 0 < block.shape[1] <= RATE for block in blocks)
        assert all(block.flags.c_contiguous and block.dtype == np.float32 for block in blocks)
    joined = np.concatenate([block[0] for block in stream(data, start=0.4)])
    np.testing.assert_array_equal(joined, load(data, start=0.4).samples)


# Files that change, pause or contain more than audio ---------------------------------------------


def bare_mp3(rate: int, channels: int = 1) -> bytes:
    options = {"write_xing": "0", "id3v2_version": "0"}
    return encode(chirp(1.0, rate, channels), rate, "mp3", "libmp3lame", options)


def test_the_rate_can_change_inside_a_file() -> None:
    first, second = bare_mp3(44_100), bare_mp3(16_000)
    made, lengths = load(first + second), [len(load(one).samples) for one in (first, second)]
    assert abs(len(made.samples) - sum(lengths)) <= 1
    whole = made.samples
    late = load(first + second, start=1.3, duration=0.5).samples
    np.testing.assert_allclose(late, whole[int(1.3 * RATE) : int(1.8 * RATE)], atol=2e-6)


def test_the_channels_can_change_inside_a_file_when_mixed() -> None:
    data = bare_mp3(44_100, 2) + bare_mp3(44_100, 1)
    assert load(data).seconds == pytest.approx(2.0, abs=0.15)


def test_chained_ogg_is_read_to_its_end() -> None:
    part = encode(chirp(1.0, 48_000), 48_000, "ogg", "libopus")
    made = load(part + part)
    assert len(made.samples) == 2 * len(load(part).samples)


def test_a_pause_in_a_timed_container_is_silence(caplog: pytest.LogCaptureFixture) -> None:
    samples = np.full((1, 3 * RATE), 0.5, np.float32)
    data = encode(pcm(samples), RATE, "matroska", "pcm_s16le", jumps={20: 1.5})
    with caplog.at_level(logging.WARNING):
        made = load(data).samples
    assert len(made) == pytest.approx(4.5 * RATE, abs=50)
    silent = np.flatnonzero(made == 0)
    assert silent[0] == 20 * 1024
    assert len(silent) == pytest.approx(1.5 * RATE, abs=50)
    assert (np.diff(silent) == 1).all()
    assert "no sound for 1.50 s from 1.28 s on" in caplog.text


def test_small_timestamp_jitter_is_ignored() -> None:
    samples = pcm(chirp(3.0))
    data = encode(samples, RATE, "matroska", "pcm_s16le", jumps={5: 0.03, 9: -0.02})
    assert len(load(data).samples) == 3 * RATE


@pytest.mark.parametrize("container", ["mp3", "flac"])
def test_tags_after_the_end_are_ignored(container: str) -> None:
    codec = {"mp3": "libmp3lame", "flac": "flac"}[container]
    data = encode(pcm(chirp(2.0)), RATE, container, codec)
    expected = len(load(data).samples)
    if container == "flac" and int(av.__version__.partition(".")[0]) < 18:
        # Older decoders treat data after the last frame as a part of it; that is not hidden.
        with pytest.raises(UnreadableAudio, match="can be read"):
            load(data + b"TAG" + bytes(125))
        return
    assert len(load(data + b"TAG" + bytes(125)).samples) == expected
    assert len(load(data + bytes(3_000)).samples) == pytest.approx(expected, abs=1_300)
