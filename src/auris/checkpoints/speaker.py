"""Files of speaker encoders: own ones as directories of config.json and model.safetensors, and
checkpoints of CAM++."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from auris.checkpoints.atomic import new_directory, replace_directory
from auris.checkpoints.config_writer import speaker_json
from auris.checkpoints.configs import read_speaker_config, write_json
from auris.checkpoints.load import all_finite, check_tensors
from auris.checkpoints.save import converted
from auris.checkpoints.weight_files import Files, weight_files
from auris.errors import CheckpointError, ModelNotFound, TensorError
from auris.models.campplus import CamPlusPlus
from auris.models.speaker_encoder import SpeakerEncoder

CARD = "README.md"


def load_speaker_encoder(directory: Path) -> SpeakerEncoder:
    """The encoder of a directory in float32.

    Raises:
        CheckpointError: it holds no speaker encoder, or a damaged one.
    """
    model = SpeakerEncoder(read_speaker_config(directory)).eval()
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    with ExitStack() as stack:
        files = Files(stack, weight_files(directory))
        check_tensors(files, expected, f"The speaker model {str(directory)!r}")
        weights = {name: files.tensor(name).float().clone() for name in expected}
    for name, weight in weights.items():
        if not all_finite(weight):
            raise TensorError(
                "The weights of a speaker model have to be numbers",
                f"{name} in {str(directory)!r} has NaN or infinite values",
                "fetch or train the model anew",
            )
    model.load_state_dict(weights)
    return model


def save_speaker_encoder(
    model: SpeakerEncoder, threshold: float, out: Path, dtype: torch.dtype
) -> Path:
    """Write an encoder; an older one is replaced, without its card, when the new one is complete.

    Statistics of voices that were not measured are left out.

    Raises:
        TensorError: a weight does not fit into `dtype`.
        UsageError: `out` is a directory that holds something else than a model.
    """
    measured = model.voices is not None and bool(model.voices.variances.any())
    axes = model.config.axes if measured else 0
    config = dataclasses.replace(model.config, threshold=threshold, axes=axes)
    weights = {
        name: converted(name, weight, dtype)
        for name, weight in model.state_dict().items()
        if measured or not name.startswith("voices.")
    }
    replaces = (out / "config.json").is_file() and any(out.glob("model*.safetensors"))
    with (replace_directory if replaces else new_directory)(out) as fresh:
        save_file(weights, fresh / "model.safetensors")
        content = speaker_json(config, str(dtype).removeprefix("torch."))
        path = write_json(fresh / "config.json", content)
        (fresh / "model.safetensors").chmod(path.stat().st_mode)
        if (out / CARD).is_file():
            shutil.copy(out / CARD, fresh)
    return out


def load_campplus(path: Path) -> tuple[CamPlusPlus, str]:
    """The network of a checkpoint of CAM++, and a hash of it; errors as of `read_weights`."""
    weights, digest = read_weights(path)
    try:
        return CamPlusPlus(weights), digest
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise CheckpointError(
            "A speaker model has to be a checkpoint of CAM++, or a directory of an own encoder",
            f"the weights in {str(path)!r} are of another network ({error})",
            "name another file, or leave it out",
        ) from error


def read_weights(path: Path) -> tuple[Mapping[str, Any], str]:
    """The content of a checkpoint in .safetensors or .pt (weights only), and its hash.

    Raises:
        ModelNotFound: there is no such file.
        CheckpointError: it cannot be read.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.suffix == ".safetensors":
            content: Mapping[str, Any] = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelNotFound(
            "There is no such speaker model", f"{str(path)!r} does not exist", "check the path"
        ) from None
    except Exception as error:  # Unpickling damaged bytes raises errors of any kind.
        raise CheckpointError(
            "A speaker model has to be a readable checkpoint",
            f"reading {str(path)!r} failed ({error})",
            "name another file, or leave it out",
        ) from error
    return _floats(content), digest


def _floats(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Weights in float32; other values as they are."""
    return {
        name: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in content.items()
    }
