"""Command lines of the program whisper, and folders of recordings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from auris.cli.whisper_flags import TRUTH_VALUED, TUNING, without_whisper_flags
from auris.errors import UnsupportedOption, UsageError
from tests.cli.command import Auris, is_one_sentence

FEW = ("--max-new-tokens", 3)


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("--word-timestamps True a.wav", "--word-timestamps a.wav"),
        ("--word-timestamps=True a.wav", "--word-timestamps a.wav"),
        ("--word-timestamps False a.wav", "a.wav"),
        ("--word-timestamps a.wav", "--word-timestamps a.wav"),
        ("--vad-filter True", "--vad"),
        ("--vad-filter false", "--no-vad"),
        ("--vad-filter", "--vad"),
        ("--task transcribe a.wav", "a.wav"),
        ("--task=transcribe a.wav", "a.wav"),
        ("--initial-prompt Ada a.wav", "--context Ada a.wav"),
        ("--initial-prompt=Ada a.wav", "--context=Ada a.wav"),
        ("--beam-size 5 --temperature 0", "--beam-size 5 --temperature 0"),
        ("a.wav -- --task translate", "a.wav -- --task translate"),
    ],
)
def test_options_of_whisper(given: str, becomes: str) -> None:
    assert without_whisper_flags(["transcribe", *given.split()]) == [
        "transcribe",
        *becomes.split(),
    ]
    assert without_whisper_flags(["batch", *given.split()]) == ["batch", *given.split()]


def test_options_that_only_tune_decoding(capsys: pytest.CaptureFixture[str]) -> None:
    for name in sorted(TUNING):
        value = "False" if name in TRUTH_VALUED else "5"
        assert without_whisper_flags(["transcribe", name, value, "a"]) == ["transcribe", "a"]
        assert f"{name} {value} has no effect" in capsys.readouterr().err
    assert without_whisper_flags(["transcribe", "--best-of"]) == ["transcribe"]


def test_a_recording_is_not_the_value_of_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    for name in sorted(TRUTH_VALUED):
        assert without_whisper_flags(["transcribe", name, "a", "b"]) == ["transcribe", "a", "b"]
        assert f"{name} has no effect" in capsys.readouterr().err


def test_options_that_change_the_meaning() -> None:
    with pytest.raises(UnsupportedOption, match="translate"):
        without_whisper_flags(["transcribe", "--task", "translate"])
    with pytest.raises(UsageError, match="'yes'"):
        without_whisper_flags(["transcribe", "--vad-filter=yes"])


def test_a_command_line_of_whisper(auris: Auris, recordings: Path, models: Path) -> None:
    plain = auris("transcribe", recordings / "a.wav", "-m", models / "ctc", "-f", "json")
    arguments = [
        "--task",
        "transcribe",
        "--word_timestamps",
        "True",
        "--vad_filter",
        "False",
        "--best_of",
        "5",
    ]
    given = (recordings / "a.wav", "-m", models / "ctc", "-f", "json")
    done = auris("transcribe", *arguments, *given)
    assert done.code == 0
    assert done.err == "auris: --best-of 5 has no effect: Auris has no such option\n"
    content = json.loads(done.out)
    assert content["text"] == json.loads(plain.out)["text"]
    assert content["segments"][0]["words"] is not None
    done = auris("transcribe", "--task", "translate", recordings / "a.wav")
    assert done.code == 2
    is_one_sentence(done.err, "--task translate is not supported")


def test_a_folder(auris: Auris, recordings: Path, tmp_path: Path) -> None:
    calls, out = tmp_path / "calls", tmp_path / "subtitles"
    for name in ("one.wav", "deep/two.wav", "one.txt", ".hidden.wav"):
        (calls / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(recordings / "a.wav", calls / name)
    done = auris("transcribe", calls, "-f", "srt", "-o", out, *FEW)
    assert (done.code, done.out) == (0, "")
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert written == ["deep/two.srt", "one.srt"]
    done = auris("transcribe", calls, recordings / "b.wav", *FEW)
    names = [line.partition(": ")[0] for line in done.out.splitlines()]
    assert names == [
        str(calls / "one.wav"),
        str(calls / "deep" / "two.wav"),
        str(recordings / "b.wav"),
    ]


def test_help_has_groups_and_fits_80_columns(auris: Auris, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = auris("transcribe", "--help").out
    assert max(map(len, shown.splitlines())) <= 80
    headings = [line.split(" ─")[0][3:] for line in shown.splitlines() if line.startswith("╭─")]
    assert headings[:2] == ["Arguments", "Options"]
    assert {"Cuts and silence", "Speakers", "Search for the text"} <= set(headings)
    first = shown.partition("╭─ Options")[2].partition("╰─")[0]
    assert all(name in first for name in ("--model", "--language", "--output-dir"))
    assert "--seed" not in first
