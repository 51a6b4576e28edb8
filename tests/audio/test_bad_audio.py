from __future__ import annotations

import io
import random
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import RATE, Pipe, chirp, encode, film, pcm, picture, wav

from auris.audio.io import load, load_channels, stream
from auris.audio.reader import Reader
from auris.errors import AurisError, EmptyAudio, InvalidSamples, UnreadableAudio, UsageError


def check(kind: type[AurisError], source: Any, *words: str, **options: Any) -> None:
    """The source raises exactly this error, in one sentence with these words."""
    for function in (load, load_channels):
        with pytest.raises(AurisError) as caught:
            function(source, **options)
        assert type(caught.value) is kind, caught.value
        message = str(caught.value)
        assert "\n" not in message
        assert message.endswith(".")
        for word in words:
            assert word in message, message


# Inputs without audio ----------------------------------------------------------------------------


def test_a_missing_file(tmp_path: Path) -> None:
    check(UnreadableAudio, tmp_path / "no.wav", "no.wav' does not exist", "check the path")
    check(UnreadableAudio, "", "'' does not exist")


def test_a_directory(tmp_path: Path) -> None:
    check(UnreadableAudio, tmp_path, "is a directory")


def test_an_invalid_file_name() -> None:
    check(UnreadableAudio, "a\0b", "cannot be opened")


@pytest.mark.parametrize("name", ["ftp://127.0.0.1:9/a.wav", "pipe:0", "concat:a|b", "file:a.wav"])
def test_ffmpeg_protocols_are_treated_as_file_names(name: str) -> None:
    check(UnreadableAudio, name, "does not exist")


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    for source in (path, b"", Pipe(b"")):
        check(UnreadableAudio, source, "is empty")


@pytest.mark.parametrize(
    "data",
    [
        b"Once upon a time there was a text. " * 100,
        "Ein Märchen.\n".encode() * 1000,
        bytes(50_000),
        np.random.default_rng(0).bytes(50_000),
        b"RIFF",
        b"fLaC",
        b"\xff\xfb",
    ],
)
def test_files_that_are_not_audio(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(data)
    for source in (path, data):
        check(UnreadableAudio, source)


def test_a_picture_and_a_video_without_audio() -> None:
    check(UnreadableAudio, picture(), "in a format that is read")
    check(UnreadableAudio, film(with_sound=False), "has none (only video)")


def test_playlists_do_not_open_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(pcm(chirp(1.0))))
    lists = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{path}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{path}'\n",
    ]
    for index, text in enumerate(lists):
        playlist = tmp_path / f"list{index}.m3u8"
        playlist.write_text(text)
        check(UnreadableAudio, playlist)


def test_a_file_object_that_fails() -> None:
    class Failing(Pipe):
        def read(self, size: int = -1) -> bytes:
            if self._data.tell() > 20_000:
                raise OSError("the line is dead")
            return super().read(size)

    data = wav(pcm(chirp(3.0)))
    closed = io.BytesIO(data)
    closed.close()
    check(UnreadableAudio, closed)
    for unsized in (False, True):
        place = data.index(b"data") + 4
        shown = data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :] if unsized else data
        with pytest.raises(UnreadableAudio, match="the line is dead"):
            load(Failing(shown))


@pytest.mark.parametrize("method", ["read", "seek", "tell"])
@pytest.mark.parametrize("calls", [0, 1, 2, 5, 20])
def test_file_objects_that_raise_anything(method: str, calls: int) -> None:
    class Moody(io.BytesIO):
        left = calls

    def moody(self: Moody, *args: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("not in the mood")
        return getattr(io.BytesIO, method)(self, *args)

    setattr(Moody, method, moody)
    try:
        seconds = load(Moody(wav(pcm(chirp(5.0))))).seconds
    except AurisError:
        seconds = 5.0
    assert seconds == 5.0


@pytest.mark.parametrize("source", [3, None, [1.0], (np.zeros(3),), object()])
def test_unsupported_types_of_sources(source: Any) -> None:
    check(UsageError, source, "has to be a path")


def test_a_text_file_object() -> None:
    for _ in range(2):
        with pytest.raises(UsageError, match="binary mode"):
            load(io.StringIO("text"))


def test_an_unknown_channel_mode() -> None:
    with pytest.raises(UsageError, match="'mix' or 'split'"):
        stream(wav(chirp(1.0)), channels="left")


# Spans -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "1", True, 1e12])
def test_invalid_spans(value: Any) -> None:
    data = wav(chirp(1.0))
    check(UsageError, data, "start has to be", repr(value), start=value)
    check(UsageError, data, "duration has to be", repr(value), duration=value)
    with pytest.raises(UsageError):
        stream(data, start=value)  # The error is raised by the call and not by the first block.


def test_a_duration_of_zero() -> None:
    check(UsageError, wav(chirp(1.0)), "more than 0", duration=0.0)
    check(EmptyAudio, wav(chirp(1.0)), "longer duration", duration=1e-6)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("start", [1.0, 1.5, 500.0])
def test_a_start_after_the_end(rate: int, start: float) -> None:
    for source in (wav(chirp(1.0, rate), rate), (chirp(1.0, rate), rate)):
        words = (f"start is {start:.2f} s", "ends at 1.00 s")
        check(EmptyAudio, source, *words, start=start)
        check(EmptyAudio, source, *words, start=start, duration=1.0)


def test_a_file_without_samples() -> None:
    data = wav(pcm(chirp(1.0)))
    place = data.index(b"data") + 4
    check(EmptyAudio, data[:place] + bytes(4), "holds no samples")
    for array in (np.zeros(0), np.zeros((0, 2)), np.zeros((2, 0), np.int16)):
        check(EmptyAudio, (array, RATE), "holds no samples")


# Arrays and samples ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        [0.0, 1.0],
        "noise",
        None,
        np.zeros(9, np.int64),
        np.zeros(9, bool),
        np.zeros(9, complex),
        np.array(["a"]),
        np.zeros((3, 3), np.float32),
        np.zeros((3, 4, 5), np.float32),
        np.float32(1.0),
        np.array(1.0),
        np.zeros((65, 100), np.float32),
    ],
)
def test_arrays_that_are_not_audio(array: Any) -> None:
    check(InvalidSamples, (array, RATE), "An audio array has to be")


@pytest.mark.parametrize("rate", [0, -16_000, float("nan"), 44_100.5, None, "16000", 10**9])
def test_invalid_rates(rate: Any) -> None:
    check(InvalidSamples, (np.zeros(100, np.float32), rate), "sample rate has to be", repr(rate))


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_invalid_samples_are_reported_or_replaced(rate: int, value: float) -> None:
    samples = chirp(3.0, rate, channels=2)
    samples[1, 2 * rate] = value
    for source in (wav(samples, rate), (samples, rate)):
        check(InvalidSamples, source, "at 2.000 s")
        check(InvalidSamples, source, start=0.5)
        assert load(source, duration=2.0).seconds == 2.0
        assert np.isfinite(load(source, duration=2.0).samples).all()
    if rate == 16_000:
        assert load((samples, rate), start=2.5).seconds == 0.5


def test_signalling_nans_give_no_warning() -> None:
    signalling = np.frombuffer(b"\x01\x00\x80\x7f" * 1_000, np.float32).reshape(2, 500)
    check(InvalidSamples, (signalling, 44_100), "at 0.000 s")
    check(InvalidSamples, wav(signalling, 44_100), "at 0.000 s")


def test_doubles_too_large_for_float32() -> None:
    check(InvalidSamples, (np.array([0.0, 1e300]), RATE), "finite")


# Truncated and damaged files ---------------------------------------------------------------------

KINDS = {
    "wav": ("wav", "pcm_s16le", None),
    "float wav": ("wav", "pcm_f32le", None),
    "flac": ("flac", "flac", None),
    "mp3": ("mp3", "libmp3lame", None),
    "ogg": ("ogg", "libopus", None),
    "webm": ("webm", "libopus", None),
    "aiff": ("aiff", "pcm_s16be", None),
    "adts": ("adts", "aac", None),
    "m4a": ("ipod", "aac", None),
    "m4a in fragments": ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}),
}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    samples = pcm(chirp(4.0, 48_000, channels=2))
    return {
        name: encode(samples, 48_000, container, codec, options)
        for name, (container, codec, options) in KINDS.items()
    }


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "m4a" not in kind])
@pytest.mark.parametrize("part", [0.4, 0.6, 0.9])
def test_a_truncated_file(kind: str, part: float, files: dict[str, bytes]) -> None:
    data = files[kind][: int(len(files[kind]) * part)]
    check(UnreadableAudio, data, "seconds of the given data can be read", "anew")
    with pytest.raises(UnreadableAudio) as caught:
        load(data, start=0.5)
    words = str(caught.value).rstrip(".").split()
    readable = float(words[words.index("duration") + 1])
    assert 0.0 < readable < 4 * part
    # The remedy in the message has to work.
    assert load(data, start=0.5, duration=readable).seconds == pytest.approx(readable, abs=1e-4)
    check(UnreadableAudio, data, start=0.5, duration=readable + 0.2)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3"])
def test_a_truncated_pipe(kind: str, files: dict[str, bytes]) -> None:
    with pytest.raises(UnreadableAudio, match="can be read"):
        load(Pipe(files[kind][: len(files[kind]) // 2]))


def test_an_mp4_without_an_index(files: dict[str, bytes]) -> None:
    check(UnreadableAudio, files["m4a"][: len(files["m4a"]) // 2])


def test_a_start_after_the_truncation(files: dict[str, bytes]) -> None:
    for kind in ("wav", "flac"):
        half = files[kind][: len(files[kind]) // 2]
        check(UnreadableAudio, half, "can be read", start=3.5)
    # Long enough for seeking to be tried.
    long = encode(pcm(chirp(60.0, 8_000)), 8_000, "flac", "flac")
    check(UnreadableAudio, long[: len(long) // 2], "of 60.00 seconds", start=50.0)


@pytest.mark.parametrize("kind", ["flac", "mp3", "ogg", "webm", "adts", "m4a"])
def test_a_hole_in_the_file(kind: str, files: dict[str, bytes]) -> None:
    data = files[kind]
    middle = len(data) // 2
    damaged = data[:middle] + np.random.default_rng(1).bytes(4_000) + data[middle + 4_000 :]
    check(UnreadableAudio, damaged)


def test_a_flipped_bit_in_flac_gives_no_noise() -> None:
    samples = np.random.default_rng(0).integers(-9_000, 9_000, (1, 64_000)).astype(np.int16)
    data = bytearray(encode(samples, RATE, "flac", "flac"))
    data[len(data) // 2] ^= 1
    check(UnreadableAudio, bytes(data))


def test_changing_channels_cannot_be_split() -> None:
    options = {"write_xing": "0", "id3v2_version": "0"}
    parts = [encode(chirp(1.0, RATE, n), RATE, "mp3", "libmp3lame", options) for n in (2, 1)]
    with pytest.raises(UnreadableAudio, match="from 2 to 1 channels"):
        load_channels(b"".join(parts))


def test_a_wav_header_with_too_large_a_size() -> None:
    data = wav(pcm(chirp(1.0)))
    place = data.index(b"data") + 4
    data = data[:place] + struct.pack("<I", 10**8) + data[place + 4 :]
    check(UnreadableAudio, data, "only 1.00 of 3125.00 seconds")


@pytest.mark.parametrize("codec", ["adpcm_ms", "libmp3lame"])
def test_truncated_wav_of_other_codecs(codec: str) -> None:
    data = encode(chirp(4.0), RATE, "wav", codec)
    assert load(data).seconds >= 4.0
    check(UnreadableAudio, data[: len(data) // 2], "breaks off")


@pytest.mark.parametrize("offset", [-5, 1 << 70])
def test_a_failing_seek_is_not_raised_inside_pyav(tmp_path: Path, offset: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * 20)
    with ExitStack() as stack:
        for file in (io.BytesIO(b"x" * 20), stack.enter_context(open(tmp_path / "file", "rb"))):
            reader = Reader(file, stack)
            assert reader.seek(offset) == -1
            assert (reader.tell(), reader.failure) == (0, None)


# Generated files ---------------------------------------------------------------------------------


def mutated(data: bytes, chance: random.Random) -> bytes:
    made = bytearray(data)
    head = min(len(made), 600)
    match chance.randrange(6):
        case 0:
            del made[chance.randrange(len(made)) :]
        case 1:
            for _ in range(chance.randint(1, 20)):
                made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
        case 2:
            for _ in range(chance.randint(1, 8)):
                made[chance.randrange(head)] = chance.randrange(256)
        case 3:
            place = chance.randrange(head)
            made[place : place + 4] = chance.choice(
                [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
            )
        case 4:
            begin = chance.randrange(len(made))
            del made[begin : begin + chance.randint(1, 3_000)]
        case 5:
            begin = chance.randrange(len(made))
            made[begin:begin] = chance.randbytes(chance.randint(1, 3_000))
    return bytes(made)


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_decoded_or_refused(
    kind: str, files: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(kind)
    messages = []
    for number in range(60):
        data = mutated(files[kind], chance)
        try:
            made = load(Pipe(data) if number % 4 == 0 else data, duration=600.0)
        except AurisError as error:
            messages.append(str(error))
        else:
            assert len(made.samples) > 0
            assert np.isfinite(made.samples).all()
    assert 5 < len(messages) < 60
    assert all(message.endswith(".") and "\n" not in message for message in messages)
    assert capfd.readouterr() == ("", "")
