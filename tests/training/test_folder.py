"""Folders of runs: one run at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auris.errors import TrainingError
from auris.training.data import TrainedOn
from auris.training.folder import RunFolder
from auris.training.recipes import CtcRecipe, TuneRecipe
from auris.training.run_options import Sources
from auris.training.speaker_recipe import SpeakerRecipe
from auris.training.speaker_run import SpeakerSources, train_speaker
from tests.training.conftest import train_here


def test_two_runs_do_not_use_a_folder_at_once(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    out, sources = tmp_path / "run", Sources([data])
    train_here(tiny(max_steps=2), sources, out)
    logged = (out / "steps.csv").read_text()
    with RunFolder(out).locked():
        with pytest.raises(TrainingError, match=r"Only one run at a time.*in progress in .*run"):
            train_here(tiny(max_steps=4), sources, out, resume=True)
        with pytest.raises(TrainingError, match="Only one run"):
            train_here(tiny(max_steps=4), sources, out)
    assert (out / "steps.csv").read_text() == logged
    train_here(tiny(max_steps=4), sources, out, resume=True)
    assert len((out / "steps.csv").read_text().splitlines()) == 5


def test_a_folder_is_free_after_a_run_that_fails(
    data: Path, tmp_path: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    (tmp_path / "none.csv").write_text("text\n")
    with pytest.raises(TrainingError, match="lacks wav"):
        train_here(tiny(max_steps=1), Sources([tmp_path / "none.csv"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train_here(tiny(max_steps=1), Sources([data]), tmp_path / "run")


@pytest.mark.parametrize("name", ["model.safetensors", "text.gguf"])
@pytest.mark.parametrize("alone", [False, True])
def test_changed_weights_of_a_checkpoint_are_noticed(
    tmp_path: Path, name: str, alone: bool
) -> None:
    weights = tmp_path / "checkpoint" / name
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    folder = RunFolder(tmp_path / "run")
    recipe = TuneRecipe.of({"max_steps": 1})
    folder.begin(recipe, weights if alone else weights.parent, TrainedOn())
    (weights.parent / "config.json").write_text("{}")
    folder.check_model()
    weights.write_bytes(b"others")
    with pytest.raises(TrainingError, match="are others now"):
        folder.check_model()


def test_speaker_encoders_are_trained_in_folders_of_their_own(data: Path, tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path / "run").locked(),
        pytest.raises(TrainingError, match="Only one run"),
    ):
        train_speaker(SpeakerRecipe(), SpeakerSources([data]), tmp_path / "run")
