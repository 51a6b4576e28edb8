"""The other commands, help texts and the version."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import auris as package
from auris.checkpoints import hub
from auris.cli.main import app
from tests.cli.command import Auris, is_one_sentence, program


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = list(commands(typer.main.get_command(app)))


def test_all_commands_exist() -> None:
    named = {path[0] for path in ALL if path}
    assert {"transcribe", "models", "pull", "convert", "doctor", "train"} <= named


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help(auris: Auris, path: tuple[str, ...]) -> None:
    done = auris(*path, "--help")
    assert (done.code, done.err) == (0, "")
    assert "Usage:" in done.out
    assert "--help" in done.out


def test_every_option_has_a_help_text() -> None:
    def check(group: Any, path: str) -> None:
        assert (group.help or "").strip(), f"{path} has no help"
        for parameter in group.params:
            text = getattr(parameter, "help", None)
            assert text, f"{path} {parameter.name} has no help"
        for name, command in getattr(group, "commands", {}).items():
            check(command, f"{path} {name}")

    check(typer.main.get_command(app), "auris")


def test_version(auris: Auris) -> None:
    done = auris("--version")
    first, *others = done.out.splitlines()
    assert (done.code, first) == (0, package.__version__)
    parts = [line.partition(": ")[0] for line in others]
    models = [f"model {name}" for name in ("tiny", "tiny-ctc")]
    assert parts == ["native code", "format of model directories", *models]


def test_without_arguments_the_help_is_shown(auris: Auris) -> None:
    done = auris()
    assert "Usage:" in done.out + done.err


def test_models(
    auris: Auris, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {hub.DEFAULT_MODEL: models / "ctc", "broken": tmp_path}
    monkeypatch.setattr(hub, "bundled_models", lambda: found)
    monkeypatch.setattr(hub, "cached_models", lambda: {"Someone/Qwen": models / "qwen"})
    done = auris("models")
    assert done.code == 0
    first, second = done.out.splitlines()
    assert first.startswith(f"{hub.DEFAULT_MODEL}  AutCtc, native layout, ")
    assert first.endswith("(default)")
    assert second.startswith("Someone/Qwen  QwenAsr, native layout, ")
    assert done.err.startswith("broken: ")


def test_no_models(auris: Auris, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "bundled_models", dict)
    monkeypatch.setattr(hub, "cached_models", dict)
    done = auris("models")
    assert (done.code, done.out) == (0, "")
    assert "auris pull" in done.err


def test_convert_there_and_back(
    auris: Auris, models: Path, recordings: Path, tmp_path: Path
) -> None:
    wanted = auris("transcribe", recordings / "b.wav", "--max-new-tokens", 9).out
    source = models / "qwen"
    for place, layout in enumerate(("hf", "published", "native")):
        out = tmp_path / f"{place}_{layout}"
        done = auris("convert", source, out, "--layout", layout, "--shard-gb", 1e-4)
        assert (done.code, done.out) == (0, f"{out}\n")
        done = auris("transcribe", recordings / "b.wav", "-m", out, "--max-new-tokens", 9)
        assert done.out == wanted
        source = out
    for name in ("config.json", "vocab.json", "merges.txt", "generation_config.json"):
        assert (source / name).read_text() == (models / "qwen" / name).read_text()


def test_convert_to_half_precision(auris: Auris, models: Path, tmp_path: Path) -> None:
    size = {}
    for dtype in ("float32", "bfloat16"):
        out = tmp_path / dtype
        assert auris("convert", models / "ctc", out, "--dtype", dtype).code == 0
        size[dtype] = (out / "model.safetensors").stat().st_size
    assert size["bfloat16"] < 0.6 * size["float32"]


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (("--shard-gb", 0), 2, "shard-gb"),
        (("--shard-gb", "nan"), 2, "shard-gb"),
        (("--shard-gb", "inf"), 2, "shard-gb"),
        (("--layout", "hf"), 1, "CTC head"),
        (("--layout", "published"), 1, "CTC head"),
    ],
)
def test_unsupported_conversions(
    auris: Auris,
    models: Path,
    tmp_path: Path,
    options: tuple[str, object],
    code: int,
    named: str,
) -> None:
    done = auris("convert", models / "ctc", tmp_path / "out", *options)
    assert (done.code, done.out) == (code, "")
    is_one_sentence(done.err, named)
    assert list(tmp_path.iterdir()) == [], "something is left behind"


def test_convert_does_not_overwrite_files(auris: Auris, models: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("kept")
    (tmp_path / "file").write_text("kept")
    for out, code in (("full", 2), ("file", 2), ("file/below", 1), ("full/kept/below", 1)):
        done = auris("convert", models / "ctc", tmp_path / out)
        assert (done.code, done.out) == (code, "")
        is_one_sentence(done.err, str(tmp_path / out))
    assert (tmp_path / "full" / "kept").read_text() == (tmp_path / "file").read_text() == "kept"
    done = auris("convert", tmp_path / "full", tmp_path / "out")
    assert done.code == 1
    is_one_sentence(done.err, "config.json")


def test_pull(auris: Auris, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, object]] = []

    def fetch(name: str, revision: object = None, **options: object) -> str:
        asked.append((name, revision))
        assert "*.safetensors" in options["allow_patterns"]
        assert not any("bin" in str(p) or "pt" in str(p) for p in options["allow_patterns"])
        return str(models / "qwen")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    done = auris("pull", "Someone/Model", "--revision", "main")
    assert (done.code, done.out) == (0, f"{models / 'qwen'}\n")
    assert asked == [("Someone/Model", "main")]


def test_without_network_access(tmp_path: Path, recordings: Path) -> None:
    pytest.importorskip("huggingface_hub")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    for arguments in (
        ("pull", "Someone/Model"),
        ("transcribe", recordings / "a.wav", "-m", "Someone/Model"),
    ):
        done = program(*arguments, environment=offline)
        assert (done.code, done.out) == (1, "")
        is_one_sentence(done.err, "'Someone/Model' is not in the cache and could not be fetched")


def test_every_mentioned_model_has_a_pinned_revision(
    auris: Auris,
    models: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, object]] = []

    def fetch(name: str, revision: object = None, **options: object) -> str:
        asked.append((name, revision))
        return str(models / "qwen")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    file, few = recordings / "a.wav", ("--max-new-tokens", 3)
    assert auris("transcribe", file, "-m", "Some/Model@v1.0", *few).code == 0
    assert auris("transcribe", file, "-m", "Some/Model", "--revision", "v2", *few).code == 0
    assert auris("pull", "Some/Model@v3").code == 0
    assert auris("pull", "Some/Model", "--revision", "refs/pr/1").code == 0
    assert asked == [("Some/Model", name) for name in ("v1.0", "v2", "v3", "refs/pr/1")]
    assert auris("pull", "no name").code == 2
    asked.clear()
    clips = tmp_path / "set.csv"
    clips.write_text(f"wav,text\n{file},some words\n")
    few_measured = ("--seconds", 1, "--tokens", 2, "--runs", 1)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(bytes(32_000))))
    for command in (
        ("detect-language", file),
        ("listen", "-", "--rate", 16_000),
        ("benchmark", "wer", "--test-set", clips),
        ("benchmark", "stream", "--audio", file, *few),
        ("benchmark", "speed", *few_measured),
    ):
        done = auris(*command, "-m", "Some/Model", "--revision", "v4")
        assert done.code == 0, done.err
        assert asked.pop() == ("Some/Model", "v4")
    done = auris("benchmark", "--test-set", clips, "-m", "Some/Model", "--revision", "v5")
    assert (done.code, asked.pop()) == (0, ("Some/Model", "v5"))
    for command in (
        ("align", file, "some words", "-m", "Some/Model"),
        ("doctor", "-m", "Some/Model"),
        ("convert", "Some/Model", tmp_path / "converted"),
        ("quantize", "Some/Model", tmp_path / "quantized"),
    ):
        auris(*command, "--revision", "v6")
        assert asked.pop() == ("Some/Model", "v6")
    for name, revision, found in (
        ("Some/Model@v1", "v2", "name two"),
        ("tiny", "v2", "is a bundled model"),
        (models / "qwen", "v2", "is a directory"),
    ):
        done = auris("transcribe", file, "-m", name, "--revision", revision)
        assert done.code == 2
        is_one_sentence(done.err, found)
