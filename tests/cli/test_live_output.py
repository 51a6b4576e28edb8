"""Text of one recording is written segment by segment, with a progress line."""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import auris as package
from auris.audio.io import load
from auris.cli.progress import ProgressLine, header_seconds
from auris.output.formats import SEGMENT_WRITERS, WRITERS
from auris.output.subtitles import CueStyle
from auris.pipeline import AsrPipeline
from auris.recognition.scheduler import Progress
from tests.audio.media import encode, wav
from tests.cli.command import PROGRAM, Auris
from tests.tiny_models import tone_speech

OPTIONS = ("--chunk-seconds", "1", "--max-new-tokens", "8")

pty = pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")


def environment(**more: str) -> dict[str, str]:
    source = str(Path(package.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": source, "TERM": "xterm", "OMP_NUM_THREADS": "1", **more}


def endless_wav(seconds: float, seed: int = 3) -> bytes:
    """A WAV stream without its length, as in a pipe."""
    content = bytearray(wav(tone_speech(seconds, seed)[None]))
    place = content.index(b"data") + 4
    content[4:8] = content[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    return bytes(content)


class Terminal:
    """A pseudo-terminal whose output is read continuously."""

    def __init__(self) -> None:
        self.master, self.end = os.openpty()
        self.content = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:
                return
            if not data:
                return
            self.content += data

    def close(self) -> str:
        os.close(self.end)
        self._reader.join(10)
        os.close(self.master)
        return self.content.decode()


def screen(content: str, columns: int) -> list[str]:
    """The visible text of a terminal after carriage returns, cursor movements and erased lines."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for part in re.findall(r"\x1b\[\d*[A-Za-z]|[\s\S]", content):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
        elif part.startswith("\x1b["):
            number, kind = int(part[2:-1] or 1), part[-1]
            if kind == "A":
                row -= number
            elif kind == "G":
                column = number - 1
            elif kind == "K":
                rows[row] = []
            else:
                raise AssertionError(f"{part!r} is not known to this terminal")
        else:
            if column == columns:
                row, column = row + 1, 0
            while len(rows) <= row:
                rows.append([])
            rows[row] += [" "] * (column + 1 - len(rows[row]))
            rows[row][column] = part
            column += 1
        while len(rows) <= row:
            rows.append([])
    shown = ["".join(line).rstrip() for line in rows]
    while shown and not shown[-1]:
        shown.pop()
    return shown


@pytest.fixture(scope="module")
def written(models: Path, recordings: Path) -> Callable[[str], str]:
    """A complete transcript of long.wav in a format."""
    pipeline = AsrPipeline.from_pretrained(models / "qwen", device="cpu")
    name = str(recordings / "long.wav")
    whole = pipeline.transcribe(name, chunk_seconds=1.0, max_new_tokens=8)
    assert len(whole.segments) > 3
    return lambda form: WRITERS[form](whole, name, CueStyle())


def same(found: str, wanted: str, form: str) -> bool:
    """Whether two files say the same. PyTorch's products of float32 have other last digits for
    other numbers of rows on some processors (Intel's with AMX), and so have log-probabilities."""
    if form != "jsonl":
        return found == wanted
    lines = [json.loads(line) for line in wanted.splitlines()]
    for line in lines:
        line["avg_logprob"] = pytest.approx(line["avg_logprob"], abs=1e-5)
    return [json.loads(line) for line in found.splitlines()] == lines


@pytest.mark.parametrize("form", sorted(SEGMENT_WRITERS))
def test_a_file_equals_that_of_the_finished_transcript(
    auris: Auris, recordings: Path, tmp_path: Path, written: Callable[[str], str], form: str
) -> None:
    call = ("transcribe", recordings / "long.wav", "-f", form, *OPTIONS)
    assert auris(*call).out == written(form)
    assert auris(*call, "-o", tmp_path, "--batch-size", 3).out == ""
    found = (tmp_path / f"long.{form}").read_text(encoding="utf-8")
    assert same(found, written(form), form)
    assert [path.name for path in tmp_path.iterdir()] == [f"long.{form}"]


@pty
@pytest.mark.parametrize("form", ["txt", "json"])
def test_terminals_get_raw_results(
    models: Path, recordings: Path, written: Callable[[str], str], form: str
) -> None:
    out, err = Terminal(), Terminal()
    call = ["transcribe", str(recordings / "long.wav"), "-f", form, "-m", str(models / "qwen")]
    subprocess.run(
        [*PROGRAM, *call, *OPTIONS],
        stdout=out.end,
        stderr=err.end,
        env=environment(AURIS_DEVICE="cpu", COLUMNS="100"),
        check=True,
    )
    content, progress = out.close().replace("\r\n", "\n"), err.close()
    if form == "json":
        (found,) = [json.loads(line) for line in content.splitlines()]
        found.pop("timings")
        wanted = json.loads(written(form))
        wanted.pop("timings")
        assert found == wanted
    else:
        assert content == written(form)
    assert "of 0:05" in progress
    assert "left" in progress
    assert "x real time" in progress


@pty
@pytest.mark.parametrize("form", ["txt", "srt"])
def test_a_terminal_shows_only_the_text_at_the_end(
    models: Path, recordings: Path, written: Callable[[str], str], form: str
) -> None:
    terminal = Terminal()
    call = ["transcribe", str(recordings / "long.wav"), "-f", form, "-m", str(models / "qwen")]
    subprocess.run(
        [*PROGRAM, *call, *OPTIONS],
        stdout=terminal.end,
        stderr=terminal.end,
        env=environment(AURIS_DEVICE="cpu", COLUMNS="40"),
        check=False,
    )
    shown = screen(terminal.close(), 40)
    text = [line for line in shown if not line.startswith("auris: ")]
    wanted = screen(written(form).replace("\n", "\r\n"), 40)
    assert text[: len(wanted)] == wanted


@pytest.mark.parametrize("texts", [["x" * 7, " yy"], ["x" * 10, "y"], ["a\nb", "c"], ["a" * 25]])
def test_the_progress_line_is_cleared_before_text(
    monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    class Both(io.StringIO):
        def isatty(self) -> bool:
            return True

    both = Both()
    monkeypatch.setenv("COLUMNS", "10")
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    with ProgressLine(1, 60.0) as line:
        for text in texts:
            line.write(text)
            line.show(Progress(10.0, 1, 0))
        below = screen(both.getvalue().replace("\n", "\r\n"), 10)[-1]
        assert below.startswith("[")
    shown = screen(both.getvalue().replace("\n", "\r\n"), 10)
    assert shown == screen("".join(texts).replace("\n", "\r\n"), 10)


@contextmanager
def listening(models: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """`auris transcribe -` while it waits for more input."""
    call = [*PROGRAM, "transcribe", "-", "-m", str(models / "qwen"), *OPTIONS]
    process = subprocess.Popen(
        [*call, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(AURIS_DEVICE="cpu"),
        bufsize=0,
    )
    assert process.stdin is not None
    process.stdin.write(endless_wav(6.0))
    process.stdin.flush()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 60)[0], "nothing is written"
    return process.stdout.readline()


def test_segments_are_written_as_soon_as_they_are_ready(models: Path) -> None:
    with listening(models, "-f", "jsonl") as process:
        first = json.loads(line_of(process))
        assert first["start"] == 0.0
        assert process.poll() is None
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"cut at the token budget" in err
    assert json.loads(out.splitlines()[-1])["end"] == 6.0


@pytest.mark.parametrize("form", ["jsonl", "srt"])
def test_ctrl_c_while_reading_a_pipe_keeps_written_results(models: Path, form: str) -> None:
    with listening(models, "-f", form) as process:
        first = line_of(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(
        r"auris: interrupted: the text of the first 0:0\d is written\n", err.decode()
    )
    content = (first + out).decode()
    if form == "jsonl":
        assert all(json.loads(line)["file"] == "-" for line in content.splitlines())
    else:
        assert content.startswith("1\n00:00:00,000 --> ")
        assert content.endswith("\n")


def test_ctrl_c_does_not_change_an_existing_file(models: Path, tmp_path: Path) -> None:
    (tmp_path / "stdin.jsonl").write_text("older\n")
    (tmp_path / "stdin.json").write_text("older\n")
    with listening(models, "-f", "jsonl,json", "-o", tmp_path) as process:
        while not any(p.stat().st_size for p in tmp_path.glob(".*.part")):
            select.select([], [], [], 0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    partial = tmp_path / "stdin.jsonl.part"
    assert f"is written to {str(partial)!r}\n" in err.decode()
    assert json.loads(partial.read_text().splitlines()[0])["start"] == 0.0
    assert (tmp_path / "stdin.jsonl").read_text() == "older\n"
    assert (tmp_path / "stdin.json").read_text() == "older\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("stdin.json", "stdin.jsonl", "stdin.jsonl.part")
    ]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_results_before_damaged_audio_are_written(
    auris: Auris, recordings: Path, tmp_path: Path, batch_size: int
) -> None:
    call = ("transcribe", recordings / "truncated.wav", *OPTIONS, "--batch-size", batch_size)
    done = auris(*call, "-f", "jsonl", "-o", tmp_path)
    assert done.code == 1
    (partial,) = tmp_path.iterdir()
    assert partial.name == "truncated.jsonl.part"
    assert f"the text of the first 0:02 is written to {str(partial)!r}" in done.err
    segments = [json.loads(line) for line in partial.read_text().splitlines()]
    assert segments[0]["start"] == 0.0
    assert segments[-1]["end"] == pytest.approx(2.5, abs=0.05)


def test_ctrl_c_during_a_read_is_not_lost() -> None:
    """PyAV drops a KeyboardInterrupt during a read."""

    class Pipe(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self.content = io.BytesIO(content)
            self.reads = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> Any:
            self.reads += 1
            assert self.reads < 100, "it is read again and again"
            if self.content.tell() > 60_000:
                raise KeyboardInterrupt
            return self.content.read(min(size, 8192))

    with pytest.raises(KeyboardInterrupt):
        load(Pipe(endless_wav(6.0)))


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits of file sizes")
def test_a_full_disk_does_not_damage_existing_results(
    models: Path, recordings: Path, tmp_path: Path
) -> None:
    for form in ("json", "jsonl"):
        (tmp_path / f"long.{form}").write_text("older\n")
    call = ["transcribe", str(recordings / "long.wav"), "-m", str(models / "qwen"), *OPTIONS]
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)); " + PROGRAM[-1]
    )
    done = subprocess.run(
        [*PROGRAM[:-1], limited, *call, "-f", "json,jsonl,txt", "-o", str(tmp_path)],
        env=environment(AURIS_DEVICE="cpu"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.decode().count("cannot be written (File too large)") == 2
    assert (
        (tmp_path / "long.json").read_text() == (tmp_path / "long.jsonl").read_text() == "older\n"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.json", "long.jsonl", "long.txt"]


KINDS = {
    "wav": ("wav", "pcm_s16le", {}),
    "mka": ("matroska", "flac", {}),
    "mp3": ("mp3", "libmp3lame", {"write_xing": "0"}),
    "ogg": ("ogg", "flac", {}),
}


@pytest.mark.parametrize("suffix", KINDS)
def test_the_duration_is_read_from_the_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    file = tmp_path / f"a.{suffix}"
    container, codec, options = KINDS[suffix]
    file.write_bytes(encode(tone_speech(4.0, 1)[None], 16_000, container, codec, options))
    whole = header_seconds([str(file)], 0.0, None, False)
    assert whole == pytest.approx(4.0, abs=0.3)
    assert header_seconds([str(file)], 1.0, 2.0, False) == 2.0
    assert header_seconds([str(file), str(tmp_path / "absent")], 0.0, None, False) is None
