"""Small recipes and manifests."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from auris.checkpoints.export import export
from auris.models.aut_ctc import AutCtc
from auris.text.tokenizer import Tokenizer
from auris.training.data import DataReport, TrainingClip, with_units
from auris.training.examples import TrainingBatch
from auris.training.loop import TrainingLoop
from auris.training.processes import new_fabric
from auris.training.recipes import AsrRecipe, CtcRecipe, RecognizerRecipe
from auris.training.reports import LineReporter, RunLogger
from auris.training.run import train
from auris.training.run_options import RunOptions, Sources
from auris.training.tasks import CtcTask, Task
from auris.training.trainer import RecognizerParts, Trainer
from auris.training.units import ALPHABET, train_units
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.training.tones import tone_clip, tones, write_wav

TEXTS = ["ab", "ba", "cd", "dc", "abc", "bcd", "dcb", "cab", "abcd", "dbca"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small models gain nothing from threads, and lose much when the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def without_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no plots, as without matplotlib, since that takes longer than their steps. Tests
    of plots have the fixture `plots`."""
    if "plots" not in request.fixturenames:
        monkeypatch.setattr("auris.training.reports.draw", lambda out: None)


@pytest.fixture
def plots() -> None:
    """Runs of this test draw plots."""


SHORT: dict[str, Any] = {
    "mel_bins": 32,
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "d_ff": 32,
    "conv_channels": 4,
    "warmup_steps": 2,
    "batch_seconds": 3.0,
    "augment_from_epoch": 2,
    "checkpoint_steps": 2,
    "max_steps": 9,
    "bf16": False,
}


@pytest.fixture
def tiny() -> Callable[..., CtcRecipe]:
    """A recipe for a CTC model of a few thousand weights, with changes."""

    def make(**changes: Any) -> CtcRecipe:
        return CtcRecipe.of({**SHORT, "projector_dim": 8, "units": 28, **changes})

    return make


@pytest.fixture
def tiny_asr() -> Callable[..., AsrRecipe]:
    """A recipe for a Qwen3-ASR model of a few thousand weights, with changes."""
    decoder = {
        "vocabulary": 260,
        "mel_bins": 128,
        "hidden": 24,
        "decoder_layers": 1,
        "decoder_heads": 2,
        "kv_heads": 1,
        "head_dim": 8,
        "decoder_ff": 32,
    }

    def make(**changes: Any) -> AsrRecipe:
        return AsrRecipe.of({**SHORT, **decoder, **changes})

    return make


def quiet() -> LineReporter:
    """A reporter that prints nothing."""
    return LineReporter(lambda line: None)


def trainer_of(
    recipe: RecognizerRecipe,
    task: Task,
    clips: Sequence[TrainingClip],
    dev: Mapping[str, Sequence[TrainingClip]],
    out: Path,
) -> Trainer:
    """A trainer in this process."""
    fabric = new_fabric(1, recipe.bf16, "cpu")
    parts = RecognizerParts(recipe, task, dev, out, RunLogger(out, quiet()), fabric)
    return Trainer(parts, clips)


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[str, Sequence[Sequence[str]]], Path]:
    """Write a CSV."""

    def write(name: str, rows: Sequence[Sequence[str]]) -> Path:
        path = tmp_path / name
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        return path

    return write


def large_weights(folder: Path) -> Path:
    """A checkpoint with a weight that float16 cannot hold."""
    model = tiny_model()
    with torch.no_grad():
        model.decoder.layers[0].down.weight[0, 0] = 1e5
    return export(model, model.config, tiny_tokenizer(), folder, layout="hf", dtype=torch.bfloat16)


def train_here(
    recipe: RecognizerRecipe, sources: Sources, out: Path, start: Path | None = None, **options: Any
) -> Trainer:
    """Train without output."""
    sources = dataclasses.replace(sources, start=start)
    return train(recipe, sources, out, RunOptions(**options), quiet())


@pytest.fixture
def data(tmp_path: Path, manifest: Callable[[str, Sequence[Sequence[str]]], Path]) -> Path:
    """A manifest of four recordings, and of one that is missing."""
    rows = [["wav", "text"], ["absent.wav", "ab"]]
    for text in ("ab", "abc", "dcba", "cab"):
        write_wav(tmp_path / f"{text}.wav", tones(text))
        rows.append([f"{text}.wav", text])
    return manifest("tones_train.csv", rows)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A unit for every letter."""
    return train_units(TEXTS, len(ALPHABET))


@pytest.fixture(scope="module")
def clips(tokenizer: Tokenizer) -> list[TrainingClip]:
    """Clips of `TEXTS`."""
    raw = [tone_clip(text, "ann") for text in TEXTS]
    return with_units(DataReport(raw), tokenizer.encode).clips


@pytest.fixture
def trainer(
    clips: list[TrainingClip], tokenizer: Tokenizer, tiny: Callable[..., CtcRecipe]
) -> Callable[..., Trainer]:
    """A trainer of clips of tones, with changes to its recipe."""

    def make(out: Path, **changes: object) -> Trainer:
        recipe = tiny(**changes)
        return trainer_of(recipe, task_of(recipe, tokenizer), clips, {"tones": clips[:3]}, out)

    return make


def task_of(recipe: CtcRecipe, tokenizer: Tokenizer) -> CtcTask:
    """The task of a run at its start."""
    torch.manual_seed(recipe.seed)
    return CtcTask(AutCtc(recipe.model_config()), tokenizer, recipe)


class BreakOffError(Exception):
    pass


def broken_off(monkeypatch: pytest.MonkeyPatch, after: int, run: Callable[[], object]) -> None:
    """Run, and stop with an error before step `after` (from 0)."""
    step = TrainingLoop.step

    def limited(trainer: TrainingLoop, batches: Sequence[TrainingBatch]) -> float:
        if trainer.progress.step == after:
            raise BreakOffError
        return step(trainer, batches)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "step", limited)
        with pytest.raises(BreakOffError):
            run()
