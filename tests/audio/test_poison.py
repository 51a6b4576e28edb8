"""Malicious files: changing layouts, scripts that name other files, pipes instead of files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.audio import poison
from tests.audio.media import Pipe, chirp, encode, pcm, wav

from auris.audio.io import load, load_channels
from auris.errors import UnreadableAudio

LOADED = "import sys; from auris.audio.io import load, load_channels; source = sys.argv[1]; "


def in_a_process(path: Path, code: str) -> str:
    """The output of a process that reads a file; a crash of the process fails the test."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED + code, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("container", "codec"), [("adts", "aac"), ("mp4", "aac"), ("ogg", "libopus")]
)
def test_sixteen_channels_are_read(container: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / "many"
    path.write_bytes(poison.many_channels(container, codec))
    shown = in_a_process(path, "print(load(source).seconds, len(load_channels(source)))")
    seconds, channels = shown.split()
    assert float(seconds) == pytest.approx(1.0, abs=0.05)
    assert int(channels) == 16


def test_eight_planes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "eight"
    path.write_bytes(poison.eight_channels())
    assert in_a_process(path, "print(len(load_channels(source)))") == "8\n"


def test_a_file_that_changes_its_channels_is_read(tmp_path: Path) -> None:
    path = tmp_path / "changing"
    path.write_bytes(poison.channels_change())
    assert float(in_a_process(path, "print(load(source).seconds)")) == pytest.approx(2.05, abs=0.05)
    with pytest.raises(UnreadableAudio, match="changes from 1 to 16 channels"):
        load_channels(path)
    assert load(poison.rate_changes()).seconds == pytest.approx(2.05, abs=0.1)


@pytest.mark.parametrize("channels", [1, 4, 8, 13])
def test_a_channel_layout_table_is_accepted(channels: int, tmp_path: Path) -> None:
    """PyAV frees such a table twice, which crashes the process sooner or later."""
    path = tmp_path / "places.mov"
    path.write_bytes(poison.custom_layout(channels))
    code = "print([(load(source).seconds, len(load_channels(source))) for _ in range(30)][-1])"
    assert in_a_process(path, code) == f"(0.5, {channels})\n"


@pytest.mark.parametrize("codec", ["pcm_f64le", "pcm_s64le", "pcm_f64be"])
def test_pcm_of_64_bits_is_read(codec: str) -> None:
    container = "wav" if codec.endswith("le") else "caf"
    sound = load(poison.wide_pcm(codec, container))
    assert sound.seconds == 0.5
    assert abs(sound.samples).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", sorted(poison.foreign("")))
def test_a_file_that_references_another_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret.wav").write_bytes(wav(pcm(chirp(1.0))))
    with pytest.raises(UnreadableAudio, match="in a format that is read"):
        load(poison.foreign("secret.wav")[kind]())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_concat_script_does_not_block_on_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    for source in (poison.concat_script("fifo"), "fifo"):
        with pytest.raises(UnreadableAudio):
            load(source)


def test_a_session_description_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnreadableAudio):
        load(poison.session_description(port))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs device files")
def test_a_device_is_refused() -> None:
    with pytest.raises(UnreadableAudio, match="a named pipe, a socket or a device"):
        load("/dev/zero")


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs paths of open files")
def test_an_open_pipe_is_read_by_its_path() -> None:
    reading, writing = os.pipe()
    os.write(writing, wav(pcm(chirp(0.5))))
    os.close(writing)
    try:
        assert load(f"/dev/fd/{reading}").seconds == 0.5
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    "make",
    [
        poison.claimed_samples,
        lambda: poison.claimed_samples(200_000, edits=200),
        lambda: poison.claimed_samples(2_000_000_000, chunks=50),
        poison.claimed_fragments,
        lambda: poison.compressed_header(poison.claimed_samples()),
    ],
    ids=["samples", "edits", "chunks", "fragments", "compressed"],
)
def test_an_mp4_that_declares_too_many_samples_is_refused(make: Callable[[], bytes]) -> None:
    data = make()
    assert len(data) < 10_000
    with pytest.raises(UnreadableAudio, match="tables of an MP4"):
        load(data)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from Linux")
def test_an_mp4_with_unusual_sample_tables_uses_little_memory(tmp_path: Path) -> None:
    for number, make in enumerate(poison.claimed_elsewhere().values()):
        (tmp_path / str(number)).write_bytes(make())
    code = """
from pathlib import Path
from auris.errors import AudioError
for path in Path(source).iterdir():
    try:
        load(path)
    except AudioError:
        continue
    raise SystemExit(f"{path} was read")
status = Path("/proc/self/status").read_text().split()
print(status[status.index("VmHWM:") + 1])
"""
    assert int(in_a_process(tmp_path, code)) < 200_000


@pytest.mark.parametrize("first", [b"ftyp", b"free", b"moov", b"junk", b"udta"])
def test_an_mp4_from_a_pipe_is_checked(first: bytes) -> None:
    with pytest.raises(UnreadableAudio):
        load(Pipe(poison.claimed_samples(first=first)))


def test_an_mp4_with_too_many_tracks_is_refused() -> None:
    data = poison.claimed_samples(0, tracks=257)
    with pytest.raises(UnreadableAudio, match="of 257 tracks, and 256 are read"):
        load(data)


def test_an_mp4_with_a_table_name_in_its_title_is_read() -> None:
    sound = chirp(3.0, 48_000)
    plain, named = (
        encode(sound, 48_000, "mp4", "aac", title=title) for title in ("Midwest", "Westcoast")
    )
    assert b"Westcoast" in named
    assert np.array_equal(load(plain).samples, load(named).samples)


def test_tables_of_valid_mp4_files_are_accepted() -> None:
    sound = chirp(3.0, 48_000)
    for flags in ("", "frag_keyframe+empty_moov", "dash", "isml+frag_keyframe"):
        options = {"movflags": flags, "frag_duration": "500000"} if flags else {}
        assert load(encode(sound, 48_000, "mp4", "aac", options)).seconds > 2.9
    pcm_file = encode(pcm(sound), 48_000, "mov", "pcm_s16le")
    assert load(pcm_file).seconds == 3.0
