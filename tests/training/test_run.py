"""Runs from manifests to a model directory, also through the command line."""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import auris.training
from auris.cli.train import app
from auris.errors import AurisError, MissingExtra, TrainingError, UnknownModel, UsageError
from auris.pipeline import AsrPipeline
from auris.training.base_recipe import Recipe
from auris.training.exporting import export_run
from auris.training.recipes import CtcRecipe, TuneRecipe
from auris.training.reports import LineReporter
from auris.training.run import train
from auris.training.run_options import RunOptions, Sources
from auris.training.tasks import compiled
from tests.tiny_models import write_tiny
from tests.training.conftest import large_weights, quiet, train_here
from tests.training.tones import tones, write_wav

Manifest = Callable[[str, Sequence[Sequence[str]]], Path]


def test_a_run_writes_its_folder(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    config = tmp_path / "recipe.json"
    config.write_text(json.dumps(dataclasses.asdict(tiny(max_steps=2))))
    (tmp_path / "more.txt").write_text("A bad cab.\nRoom 5\n")
    out = tmp_path / "run"
    call = ["ctc", "--config", str(config), "--data", str(data), "--dev", str(data)]
    call += ["--text", str(tmp_path / "more.txt"), "--out", str(out)]
    result = CliRunner().invoke(app, [*call, "--threads", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "4 clips" in result.output
    assert "absent.wav" in (out / "data.txt").read_text()
    assert "tones_train" in (out / "log.csv").read_text()
    assert (out / "model" / "config.json").is_file()
    assert (out / "model" / "tokenizer.json").is_file()
    with pytest.raises(TrainingError, match="folder of its own"):
        CliRunner().invoke(app, call, catch_exceptions=False)
    again = CliRunner().invoke(app, [*call, "--resume"], catch_exceptions=False)
    assert again.exit_code == 0, again.output
    call = ["export", "--run", str(out), "--out", str(tmp_path / "last"), "--checkpoint", "last"]
    assert CliRunner().invoke(app, call, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "last" / "model.safetensors").is_file()


def test_a_run_resumes_only_with_its_own_recipe(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    train_here(tiny(max_steps=1), Sources([data]), tmp_path / "run")
    with pytest.raises(TrainingError, match="its own recipe and model"):
        train_here(tiny(max_steps=1, lr=0.5), Sources([data]), tmp_path / "run", resume=True)


def test_development_sets_need_jiwer(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "jiwer":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"auris-asr\[score\]"):
        train_here(tiny(), Sources([data], [data]), tmp_path / "run")


def test_an_empty_development_set_is_refused(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe], manifest: Manifest
) -> None:
    empty = manifest("empty.csv", [["wav", "text"]])
    with pytest.raises(TrainingError, match="at least one usable clip"):
        train_here(tiny(), Sources([data], [empty]), tmp_path / "run")


def test_unreadable_text_is_refused(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    sources = Sources([data], texts=[tmp_path / "absent.txt"])
    with pytest.raises(TrainingError, match="readable UTF-8"):
        train_here(tiny(), sources, tmp_path / "run")


def test_a_run_starts_from_a_model_of_another(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    train_here(tiny(max_steps=3, seed=1), Sources([data]), tmp_path / "first")
    still = tiny(max_steps=1, seed=2, lr=1e-12)
    second = train_here(still, Sources([data]), tmp_path / "second", start=tmp_path / "first")
    fresh = train_here(still, Sources([data]), tmp_path / "fresh")
    learned = load_file(tmp_path / "first" / "last" / "model.safetensors")
    for name, tensor in second.task.state_dict().items():
        assert torch.allclose(tensor, learned[name], atol=1e-6), name
    assert not torch.allclose(
        fresh.task.model.head.weight, second.task.model.head.weight, atol=1e-3
    )
    assert (tmp_path / "second" / "units.json").read_text() == (
        tmp_path / "first" / "units.json"
    ).read_text()
    other = tiny(max_steps=1, d_ff=8)
    with pytest.raises(TrainingError, match="same shapes"):
        train_here(other, Sources([data]), tmp_path / "other", start=tmp_path / "first")


def test_prefetched_batches_are_the_same(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    recipe = tiny(max_steps=4)
    here = train_here(recipe, Sources([data]), tmp_path / "here")
    ahead = train_here(recipe, Sources([data]), tmp_path / "ahead", workers=1)
    for ours, theirs in zip(here.task.parameters(), ahead.task.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_manifest_without_usable_rows_is_reported_first(
    tmp_path: Path, manifest: Manifest, tiny: Callable[..., CtcRecipe]
) -> None:
    data = manifest("none_train.csv", [["wav", "text"], ["absent.wav", "ab"]])
    told: list[str] = []
    with pytest.raises(TrainingError, match="No clip can be used"):
        train(
            tiny(max_steps=1), Sources([data]), tmp_path / "run", reporter=LineReporter(told.append)
        )
    assert "absent.wav" in told[0]
    assert not (tmp_path / "run").exists()


def test_units_of_a_failed_run_are_not_reused(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "units.json").write_text("stale")
    train_here(tiny(max_steps=1), Sources([data]), tmp_path / "run")
    assert (tmp_path / "run" / "units.json").read_text() != "stale"


def read_losses(run: Path) -> list[float]:
    return [float(line.split(",")[2]) for line in (run / "steps.csv").read_text().splitlines()[1:]]


@pytest.mark.no_cover
@pytest.mark.filterwarnings("ignore::UserWarning")  # Of dynamo itself.
def test_a_compiled_run_gives_the_same_losses(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(use_compile=True, max_mel_length=110, batch_seconds=2.5, max_steps=3, dropout=0.0)
    write_wav(tmp_path / "abcdabcd.wav", tones("abcdabcd"))
    with open(data, "a", encoding="utf-8") as file:
        file.write("abcdabcd.wav,ab\n")
    compiled: list[object] = []
    real = torch.compile

    def compile_graph(function: Any, **options: Any) -> Any:
        """Capture the graphs but do not generate kernels, which would take long."""
        compiled.append(function)
        return real(function, **options | {"mode": None, "backend": "aot_eager"})

    monkeypatch.setattr(torch, "compile", compile_graph)
    train_here(recipe, Sources([data]), tmp_path / "compiled")
    assert compiled
    monkeypatch.setattr(torch, "compile", lambda f, **how: f)
    train_here(recipe, Sources([data]), tmp_path / "plain")
    plain = read_losses(tmp_path / "plain")
    assert len(plain) == 3
    assert read_losses(tmp_path / "compiled") == pytest.approx(plain, rel=1e-4)
    assert "cut 1 to max_mel_length" in (tmp_path / "plain" / "data.txt").read_text()


def test_broken_files_are_skipped_and_named(
    tmp_path: Path, manifest: Manifest, tiny: Callable[..., CtcRecipe]
) -> None:
    rows = [["wav", "text"]]
    for n in range(60):
        path = tmp_path / f"clip{n}.wav"
        write_wav(path, tones("abcd"[n % 4] + "ab"))
        rows.append([path.name, "abcd"[n % 4] + "ab"])
    broken = {3: b"", 20: b"no audio", 41: path.read_bytes()[:30]}
    for n, content in broken.items():
        (tmp_path / f"clip{n}.wav").write_bytes(content)
    data = manifest("some_train.csv", rows)
    run = train_here(tiny(max_steps=3), Sources([data]), tmp_path / "run")
    assert run.progress.step == 3
    report = (tmp_path / "run" / "data.txt").read_text()
    assert "57 clips" in report
    assert "skipped 3" in report
    assert all(f"clip{n}.wav" in report for n in broken)


def test_held_out_clips_are_scored_and_not_trained_on(
    tmp_path: Path, manifest: Manifest, tiny: Callable[..., CtcRecipe]
) -> None:
    rows = [["wav", "text"]]
    for n in range(40):
        write_wav(tmp_path / f"clip{n}.wav", tones("abcd"[n % 4] + "ab") * (1 - n / 99))
        rows += [[f"clip{n}.wav", "abcd"[n % 4] + "ab"]] * 2
    data = manifest("some_train.csv", rows)
    run = train_here(tiny(max_steps=2, val_split=0.25), Sources([data]), tmp_path / "run")
    held = {clip.name for clip in run.dev["val"]}
    kept = {clip.name for clip in run.clips}
    assert 4 <= len(held) <= 18
    assert not held & kept
    assert len(run.dev["val"]) == len(held)
    assert len(held | kept) == 40
    assert ",val" in (tmp_path / "run" / "log.csv").read_text().splitlines()[0]


def test_options_without_effect_are_refused(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    tune = TuneRecipe.of({"max_steps": 1})
    sources = Sources([data], texts=[data], model=tmp_path)
    with pytest.raises(UsageError, match="further text"):
        train_here(tune, sources, tmp_path / "run")
    with pytest.raises(UsageError, match="another run to start from"):
        train_here(tiny(), Sources([data]), tmp_path / "run", resume=True, start=tmp_path)
    for name in ("val_dev", "loss"):
        path = tmp_path / f"{name}.csv"
        path.write_text(data.read_text())
        with pytest.raises(TrainingError, match="names of their own"):
            train_here(tiny(), Sources([data], [path]), tmp_path / "run")
    with pytest.raises(TrainingError, match="names of their own"):
        train_here(tiny(), Sources([data], [data, data]), tmp_path / "run")


def test_training_without_pydantic_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(MissingExtra, match=r"auris-asr\[train\]"):
        importlib.reload(auris.training)


def test_training_without_fabric_names_the_package_to_install(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MissingExtra, match=r"auris-asr\[train\]"):
        train_here(tiny(), Sources([data]), tmp_path / "run")


def test_a_folder_of_a_run_that_never_started_can_be_used(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    out = tmp_path / "run"
    run = train_here(tiny(max_steps=2), Sources([data]), out)
    shutil.rmtree(out / "last")
    (out / "best" / "progress.json").write_text("stale")
    with pytest.raises(TrainingError, match="folder without a model"):
        train_here(tiny(max_steps=2), Sources([data]), out)
    shutil.rmtree(out / "model")
    again = train_here(tiny(max_steps=2), Sources([data]), out)
    assert again.progress == dataclasses.replace(run.progress, seconds=again.progress.seconds)
    assert len(read_losses(out)) == 2


@pytest.mark.parametrize("file", ["units.json", "run.json", "recipe.json"])
def test_a_damaged_run_folder_is_an_error(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe], file: str
) -> None:
    out = tmp_path / "run"
    train_here(tiny(max_steps=1), Sources([data]), out)
    for content in (b"", b"{}", b"[1]", b"\xff\xfe", None):
        if content is None:
            (out / file).unlink()
        else:
            (out / file).write_bytes(content)
        with pytest.raises(TrainingError):
            export_run(out, tmp_path / "model")
        with pytest.raises(TrainingError):
            train_here(tiny(max_steps=1), Sources([data]), out, resume=True)


def test_a_run_does_not_depend_on_the_paths_of_its_clips(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(max_steps=2, val_split=0.3)
    run = train_here(recipe, Sources([data]), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    again = train_here(recipe, Sources([Path(data.name)]), tmp_path / "run", resume=True)
    assert again.progress.data == run.progress.data


def test_an_error_in_one_process_ends_all_with_its_message(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    train_here(tiny(max_steps=1), Sources([data]), tmp_path / "run")
    (tmp_path / "recipe.json").write_text(json.dumps(dataclasses.asdict(tiny(max_steps=1))))
    call = [
        sys.executable,
        "-m",
        "auris",
        "train",
        "ctc",
        "--config",
        str(tmp_path / "recipe.json"),
    ]
    call += ["--data", str(data), "--out", str(tmp_path / "run"), "--processes", "2"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "folder of its own" in done.stderr
    assert "not foreseen" not in done.stderr


def test_an_unknown_checkpoint_is_refused_like_other_models(data: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.json").write_text('{"max_steps": 1}')
    call = ["asr", "--model", "tinyy", "--config", str(tmp_path / "tune.json"), "--data", str(data)]
    with pytest.raises(UnknownModel, match="neither a directory nor a bundled model nor a hub id"):
        CliRunner().invoke(app, [*call, "--out", str(tmp_path / "run")], catch_exceptions=False)


def not_read(*args: Any, **options: Any) -> None:
    raise AssertionError("recordings are read")


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ("model", "absent"),
        ("dev", "readable file in UTF-8"),
        ("text", "readable UTF-8 file"),
        ("out", "folder of a run has to be writable"),
        ("language", "Klingon"),
        ("dtype", "float8"),
        ("start", "absent"),
        ("peft", r"auris-asr\[lora\]"),
        ("checkpoint", "is damaged"),
        ("float16", "dtype bfloat16"),
    ],
)
def test_arguments_are_validated_before_recordings_are_read(
    data: Path,
    tmp_path: Path,
    tiny: Callable[..., CtcRecipe],
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
    match: str,
) -> None:
    recipe: Recipe = tiny(max_steps=1)
    sources, options, out = Sources([data]), RunOptions(), tmp_path / "run"
    absent = tmp_path / "absent"
    match wrong:
        case "model":
            recipe, sources = TuneRecipe.of({}), Sources([data], model=absent)
        case "dev":
            sources = Sources([data], [absent])
        case "text":
            sources = Sources([data], texts=[absent])
        case "out":
            out = data / "run"
        case "language":
            recipe, sources = TuneRecipe.of({}), Sources([data], language="Klingon")
        case "dtype":
            options = RunOptions(dtype="float8")
        case "start":
            sources = Sources([data], start=absent)
        case "peft":
            monkeypatch.setitem(sys.modules, "peft", None)
            model = write_tiny(tmp_path / "model", "hf")
            recipe, sources = TuneRecipe.of({"lora_rank": 2}), Sources([data], model=model)
        case "checkpoint":
            train_here(recipe, sources, out)
            (out / "last" / "optimizer.safetensors").unlink()
            options = RunOptions(resume=True)
        case "float16":
            model = large_weights(tmp_path / "model")
            recipe, sources = TuneRecipe.of({}), Sources([data], model=model)
    monkeypatch.setattr("auris.training.run.load_clips", not_read)
    with pytest.raises(AurisError, match=match):
        train(recipe, sources, out, options, quiet())


def test_the_documented_command_trains(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe has no length, which would be 2000 steps; ten epochs are enough here."""
    recipe = json.loads((Path(__file__).parents[2] / "configs/audio_enc_tiny.json").read_text())
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/audio_enc_tiny.json").write_text(json.dumps({**recipe, "epochs": 10}))
    (tmp_path / "data/audio/wav").mkdir(parents=True)
    write_wav(tmp_path / "data/audio/wav/000000.wav", tones("abc"))
    manifest("data/audio/asr.csv", [["wav", "text"], ["data/audio/wav/000000.wav", "abc"]])
    monkeypatch.chdir(tmp_path)
    call = ["ctc", "--config", "configs/audio_enc_tiny.json", "--data", "data/audio/asr.csv"]
    result = CliRunner().invoke(app, call, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    run = tmp_path / "runs" / "audio_enc_tiny"
    assert (run / "log.csv").read_text().splitlines()[-1].startswith("10,10,")
    assert "val: 0 clips held out" in result.output
    pipeline = AsrPipeline.from_pretrained(run / "model")
    assert pipeline.transcribe("data/audio/wav/000000.wav").seconds == 0.75


def test_compiling_uses_graphs_on_devices_that_support_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda f, **how: asked.append(how["mode"]) or f)
    for device in ("cpu", "cuda"):
        compiled(lambda mels, depths: ([], []), torch.device(device))
    assert asked == [None, "reduce-overhead"]


def test_the_documentation_names_the_packages_of_the_extras() -> None:
    tomllib = pytest.importorskip("tomllib")
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    page = (root / "docs" / "training.md").read_text()
    for extra in ("train", "lora", "score"):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{extra}` |"))
        for package in extras["optional-dependencies"][extra]:
            name = re.split(r"[>=\[]", package)[0]
            wanted = "score" if name == "auris-asr" else name
            assert f"`{wanted}`" in row, f"{extra} brings {wanted}"
        assert row.count("`") == 2 + 2 * len(extras["optional-dependencies"][extra])
