"""Loading the networks from the files of the package of the extra, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from auris import Diarizer
from auris.diarization import load
from auris.errors import CheckpointError, ModelNotFound
from auris.types import SAMPLE_RATE
from tests.models.test_speaker_networks import campplus_weights, segmentation_weights


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    weights = {name: value.half() for name, value in campplus_weights().items()}
    for name, content in (
        (load.CAMPPLUS, weights),
        (load.SEGMENTATION, {"state_dict": segmentation_weights(), "version": 1}),
    ):
        (folder / name).parent.mkdir(parents=True)
        torch.save(content, folder / name)
    return folder


@pytest.fixture
def installed(package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(load, "installed_networks", lambda: package)
    return package


@pytest.mark.usefixtures("installed")
def test_recordings_are_diarized_by_networks_that_are_not_trained() -> None:
    """Whatever random networks say, there are turns inside the recording, or none."""
    assert "none" not in load.described_networks()
    noise = np.random.default_rng(1).normal(0, 0.1, 12 * SAMPLE_RATE).astype(np.float32)
    turns = Diarizer.from_pretrained().diarize((noise, SAMPLE_RATE))
    assert all(0 <= turn.start < turn.end <= 12 for turn in turns)


def test_a_named_checkpoint_is_loaded(installed: Path, tmp_path: Path) -> None:
    save_file(campplus_weights(), tmp_path / "named.safetensors")
    named = load.load_networks(tmp_path / "named.safetensors")
    default = load.load_networks()
    again = load.load_networks(installed / load.CAMPPLUS)
    assert default.digest == again.digest != named.digest


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, ModelNotFound, "no such speaker model"),
        (b"x", CheckpointError, "readable"),
        ({"a": torch.zeros(2)}, CheckpointError, r"CAM\+\+"),
    ],
    ids=str,
)
def test_other_files_are_refused(
    tmp_path: Path, content: object, error: type[Exception], message: str
) -> None:
    path = tmp_path / "other.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        save_file(content, path)
    with pytest.raises(error, match=message):
        Diarizer.from_pretrained(path)
