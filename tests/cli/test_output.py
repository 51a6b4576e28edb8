"""`auris transcribe`: several formats, subtitles, and output files."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from auris.output.formats import WRITERS
from auris.recognition.hotwords import log_once
from tests.cli.command import Auris, is_one_sentence

FEW = ("--max-new-tokens", 40)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_several_formats_at_once(auris: Auris, recordings: Path, tmp_path: Path) -> None:
    files = [recordings / "a.wav", recordings / "b.wav"]
    wanted = ["a.json", "a.srt", "b.json", "b.srt"]
    for place, asked in enumerate((["-f", "srt,json"], ["-f", "srt", "-f", "json"])):
        out = tmp_path / str(place)
        done = auris("transcribe", *files, *asked, "-o", out, *FEW)
        assert (done.code, done.out) == (0, "")
        assert names(out) == wanted
    assert (tmp_path / "0" / "a.srt").read_bytes() == (tmp_path / "1" / "a.srt").read_bytes()


def test_all_formats(auris: Auris, recordings: Path, tmp_path: Path) -> None:
    done = auris("transcribe", recordings / "a.wav", "-f", "all", "-f", "txt", "-o", tmp_path, *FEW)
    assert done.code == 0
    assert names(tmp_path) == sorted(f"a.{form}" for form in WRITERS)


@pytest.mark.parametrize("form", ["srt", "vtt", "tsv", "lrc", "jsonl"])
def test_one_recording_on_standard_output(auris: Auris, recordings: Path, form: str) -> None:
    done = auris("transcribe", recordings / "a.wav", "-f", form, *FEW)
    assert done.code == 0
    assert done.out.endswith("\n")


def test_the_width_of_lines(auris: Auris, recordings: Path) -> None:
    options = ("-f", "srt", "--max-line-width", 10, "--max-line-count", 1)
    done = auris("transcribe", recordings / "a.wav", *options, *FEW)
    assert done.code == 0
    blocks = done.out.strip().split("\n\n")
    assert len(blocks) > 1
    assert all(len(block.split("\n")) == 3 for block in blocks)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["-f", "srt,json"], ["one format", "--output-dir"]),
        (["-f", "doc"], ["'doc'", "srt"]),
        (["-f", ""], ["''"]),
        (["-f", "srt,"], ["''"]),
        (["--max-line-width", "40"], ["--max-line-width can be used with", "the format is txt"]),
        (["-f", "lrc", "--max-line-count", "1"], ["--max-line-count", "srt, vtt"]),
        (["-f", "srt", "--max-line-width", "3"], ["from 10 to 1000", "3"]),
        (["-f", "srt", "--max-line-count", "0"], ["from 1 to 10"]),
    ],
)
def test_conflicting_options(
    auris: Auris, recordings: Path, options: list[str], parts: list[str]
) -> None:
    done = auris("transcribe", recordings / "a.wav", *options)
    assert (done.code, done.out) == (2, "")
    is_one_sentence(done.err, *parts)


@pytest.mark.parametrize("form", ["srt", "vtt", "tsv", "lrc"])
def test_formats_that_cannot_be_concatenated(auris: Auris, recordings: Path, form: str) -> None:
    done = auris("transcribe", recordings / "a.wav", recordings / "b.wav", "-f", form)
    assert (done.code, done.out) == (2, "")
    is_one_sentence(done.err, f"the {form} of one recording", "there are 2")


def test_segments_of_several_recordings_are_concatenated(auris: Auris, recordings: Path) -> None:
    done = auris("transcribe", recordings / "a.wav", recordings / "b.wav", "-f", "jsonl", *FEW)
    assert (done.code, done.out.count("\n")) == (0, 2)


def test_the_speakers_of_a_call(auris: Auris, recordings: Path) -> None:
    file = recordings / "call.wav"
    done = auris("transcribe", file, "--channels", "split", *FEW)
    heads = [line.partition(": ")[0] for line in done.out.splitlines()]
    assert (done.code, heads) == (0, ["channel 1", "channel 2"])
    options = ("--channels", "split", "--speakers", "Alice,Bob", *FEW)
    done = auris("transcribe", file, file, *options)
    heads = [line.split(": ")[1] for line in done.out.splitlines()]
    assert (done.code, heads) == (0, ["Alice", "Bob"] * 2)
    assert all(line.startswith(f"{file}: ") for line in done.out.splitlines())
    mixed = auris("transcribe", file, "--channels", "mix", *FEW)
    assert mixed.out == auris("transcribe", file, *FEW).out


@pytest.mark.parametrize(
    ("options", "code", "parts"),
    [
        (["--channels", "apart"], 2, ["'mix' or 'split'", "'apart'"]),
        (["--speakers", "a,b"], 2, ["separate channels", "mixed"]),
        (["--channels", "split", "--speakers", "a"], 2, ["one speaker for each channel", "for 2"]),
        (["--channels", "split", "--speakers", "a,"], 2, ["none may be empty"]),
    ],
)
def test_invalid_channels(
    auris: Auris, recordings: Path, options: list[str], code: int, parts: list[str]
) -> None:
    done = auris("transcribe", recordings / "call.wav", *options)
    assert (done.code, done.out) == (code, "")
    is_one_sentence(done.err, *parts)


def test_clean_up(auris: Auris, recordings: Path) -> None:
    done = auris("transcribe", recordings / "a.wav", "--clean", "numbers, punctuation", *FEW)
    assert done.code == 0
    for steps in ("spelling", "", "numbers,"):
        done = auris("transcribe", recordings / "a.wav", "--clean", steps)
        assert (done.code, done.out) == (2, "")
        is_one_sentence(
            done.err, "a list of numbers, written, simplified, traditional and punctuation"
        )


@pytest.fixture
def address(recordings: Path) -> Iterator[str]:
    """The recordings at a local web address."""
    handler = partial(SimpleHTTPRequestHandler, directory=recordings)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_recordings_from_the_web_and_inside_text(
    auris: Auris, recordings: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    here = auris("transcribe", recordings / "a.wav", *FEW)
    data = "data:audio/wav;base64," + b64encode((recordings / "a.wav").read_bytes()).decode()
    away = auris("transcribe", f"{address}/%61.wav?key=1", data, "-f", "txt,json", "-o", tmp_path)
    assert (away.code, away.out) == (0, "")
    assert names(tmp_path) == ["a.json", "a.txt", "data.json", "data.txt"]
    assert json.loads((tmp_path / "data.json").read_text())["file"] == "data:audio/wav;base64"
    assert auris("transcribe", f"{address}/a.wav", *FEW).out == here.out
    missing = auris("transcribe", f"{address}/none.wav")
    assert (missing.code, missing.out) == (1, "")
    is_one_sentence(missing.err.splitlines(keepends=True)[-1], "404")
    assert address in missing.err


def test_a_context_that_is_not_read_has_one_warning(
    auris: Auris, recordings: Path, models: Path, tmp_path: Path
) -> None:
    call = ("transcribe", recordings / "a.wav", recordings / "b.wav", "-m", "tiny")
    log_once.cache_clear()  # As in a new process.
    done = auris(*call, "--context", "names")
    assert done.code == 0
    assert done.err.count("words of the context are used as hotwords") == 1


def test_a_reply_truncated_before_its_text(auris: Auris, recordings: Path) -> None:
    done = auris(
        "transcribe", recordings / "a.wav", "-m", "tiny", "--max-new-tokens", 2, "-f", "json"
    )
    found = json.loads(done.out)
    assert (found["text"], found["truncated"], found["finish_reason"]) == ("", True, "length")
    assert found["segments"][0]["word_confidences"] == []
    assert "cut at the token budget" in done.err
