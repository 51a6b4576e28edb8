"""`--diarize` on the command line: what is refused, and what it says without its package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auris import Diarizer
from auris.diarization import load
from tests.cli.command import Auris, is_one_sentence
from tests.diarization.voices import diarizer

FEW = ("--max-new-tokens", 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-speakers", 2], "--min-speakers can be used with --diarize"),
        (["--max-speakers", 2, "--speaker-model", "x"], "--speaker-model can be used"),
        (["--speakers", "2"], "Names of speakers need separate channels"),
        (["--diarize", "--speakers", "-1"], "from 1 to 100, but it is -1"),
        (["--diarize", "--speakers", "9" * 5000], "from 1 to 100"),
        (["--diarize", "--channels", "split"], "exclude each other"),
    ],
)
def test_options_that_do_not_go_together(
    auris: Auris, recordings: Path, options: list[object], message: str
) -> None:
    done = auris("transcribe", recordings / "a.wav", *options)
    assert done.code == 2
    assert message in done.err


def test_without_the_extra_the_encoder_of_the_package_is_used(
    auris: Auris, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    done = auris("transcribe", recordings / "a.wav", "--diarize", *FEW)
    assert done.code == 0, done.err


def test_every_format_has_the_speakers(
    auris: Auris, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Diarizer, "from_pretrained", lambda model=None: diarizer())
    file = recordings / "long.wav"
    done = auris("transcribe", file, "--diarize", "-f", "all", "-o", tmp_path, *FEW)
    assert done.code == 0
    content = json.loads((tmp_path / "long.json").read_text())
    assert {turn["speaker"] for turn in content["turns"]} == {"speaker 1"}
    spoken = [segment for segment in content["segments"] if segment["text"].strip()]
    assert all(segment["speaker"] == "speaker 1" for segment in spoken)
    rttm = (tmp_path / "long.rttm").read_text().splitlines()
    assert len(rttm) == len(content["turns"])
    if spoken:
        assert (tmp_path / "long.txt").read_text().startswith("speaker 1: ")
    named = auris("transcribe", file, "--diarize", "--speakers", "Ann", "-f", "rttm", *FEW)
    assert " Ann " in named.out


def test_batch_takes_the_same_options(
    auris: Auris, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Diarizer, "from_pretrained", lambda model=None: diarizer())
    (tmp_path / "list").write_text(f"{recordings / 'a.wav'}\n")
    out = tmp_path / "out.jsonl"
    options = ("--files", tmp_path / "list", "--output", out, *FEW)
    done = auris("batch", *options, "--diarize", "--max-speakers", 3)
    assert done.code == 0
    *_, last = map(json.loads, out.read_text().splitlines())
    assert "turns" in last
    other = auris("batch", *options, "--diarize", "--max-speakers", 2)
    assert other.code != 0
    assert "max_speakers" in other.err


def test_known_speakers_are_named(
    auris: Auris, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Diarizer, "from_pretrained", lambda model=None: diarizer())
    file = recordings / "long.wav"
    voices = tmp_path / "voices"
    voices.mkdir()
    (voices / "Ann.wav").write_bytes(file.read_bytes())
    for value in (f"Ann={file}", voices):
        done = auris("transcribe", file, "--diarize", "--known-speakers", value, "-f", "rttm", *FEW)
        assert done.code == 0
        assert " Ann " in done.out


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["nothing"], "NAME=FILE"),
        (["=a.wav"], "NAME=FILE"),
        (["."], "NAME=FILE"),
        (["Ann=a.wav", "Ann=b.wav"], "repeats a name"),
        (["Ann=missing.wav"], "missing.wav"),
    ],
)
def test_wrong_known_speakers_are_refused(
    auris: Auris,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(Diarizer, "from_pretrained", lambda model=None: diarizer())
    monkeypatch.chdir(tmp_path)
    options = [part for value in values for part in ("--known-speakers", value)]
    done = auris("transcribe", recordings / "a.wav", "--diarize", *options)
    assert done.code != 0
    is_one_sentence(done.err, message)
