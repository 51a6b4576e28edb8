"""Advice on int8 is written to a terminal only, once for each model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from auris import AsrPipeline
from auris.checkpoints import quantization_config
from auris.cli.advice import advise_int8, advise_official
from auris.cli.main import main
from tests.cli.command import Auris
from tests.tiny_models import write_tiny


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(quantization_config, "LEAST_WIDTH", 32)
    return write_tiny(tmp_path / "large", dtype=torch.bfloat16)


@pytest.mark.skipif(sys.platform == "win32", reason="another folder for states")
def test_a_terminal_shows_it_once_for_a_model(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for dtype, lines in (("int8", 0), ("bfloat16", 1), ("bfloat16", 0)):
        advise_int8(AsrPipeline.from_pretrained(directory, dtype=dtype, device="cpu"))
        shown = capsys.readouterr()
        assert (shown.err.count("\n"), shown.out) == (lines, "")
        assert lines == shown.err.count("large has bfloat16 weights on the CPU; --dtype int8")


def test_pipes_and_small_models_show_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    advise_int8(AsrPipeline.from_pretrained(directory, device="cpu"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(quantization_config, "LEAST_WIDTH", 512)
    advise_int8(AsrPipeline.from_pretrained("tiny", device="cpu"))
    advise_int8(AsrPipeline.from_pretrained(directory, device="cpu"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("command", [("serve", "--port", 0), ("wyoming",)])
def test_servers_tell_on_a_terminal_what_they_load(
    auris: Auris, monkeypatch: pytest.MonkeyPatch, command: tuple[object, ...]
) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("wyoming")
    assert "loading" not in auris(*command, "-m", "no-such-model").err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    first, second = auris(*command, "-m", "no-such-model").err.splitlines()
    assert first == "auris: loading no-such-model"
    assert "'no-such-model' is neither" in second


EXAMPLE = str(Path(__file__).parents[2] / "examples" / "kitchen_fan.flac")


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nobody has used the program before, and no model is named."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("AURIS_MODEL", raising=False)
    return monkeypatch


def use_terminal(monkeypatch: pytest.MonkeyPatch, *streams: str) -> None:
    """Make standard streams a terminal."""
    for name in streams:
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True, raising=False)


@pytest.mark.skipif(sys.platform == "win32", reason="another folder for states")
def test_a_terminal_learns_once_what_the_default_model_is(
    newcomer: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_terminal(newcomer, "stdout", "stderr")

    def shown(*arguments: str) -> int:
        with pytest.raises(SystemExit):
            main(["transcribe", EXAMPLE, *arguments])
        return capsys.readouterr().err.count("auris pull Qwen/Qwen3-ASR-0.6B")

    assert shown("--model", "tiny") == 0, "it is named"
    assert shown("-f", "json") == 0, "a program reads this"
    assert [shown(), shown()] == [1, 0]


@pytest.mark.parametrize("terminal", ["stdout", "stderr"])
def test_pipes_do_not_learn_what_the_default_model_is(
    terminal: str, newcomer: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_terminal(newcomer, terminal)
    advise_official(AsrPipeline.from_pretrained("tiny", device="cpu"))
    assert capsys.readouterr() == ("", "")
