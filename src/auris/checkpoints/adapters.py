"""Directories of adapters: adapter.safetensors and adapter.json."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from auris.checkpoints.atomic import new_directory
from auris.errors import CheckpointError
from auris.models.adapted import LowRank, layer_names
from auris.models.qwen_asr import QwenAsr

WEIGHTS, SETTINGS = "adapter.safetensors", "adapter.json"

PARTS = ("down", "up")
"""The two matrices of each adapter."""

READ_ERRORS = (
    OSError,
    SafetensorError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    RecursionError,
)
"""Errors of reading files that are missing or damaged."""

FORMAT = 1
"""Version of the files."""


@dataclass(frozen=True)
class Adapter:
    """Adapters of the layers of a decoder.

    Attributes:
        layers: by their names, see `auris.models.adapted.layer_names`.
        digest: hash of the files.
    """

    layers: Mapping[str, LowRank]
    digest: str


def save_adapter(
    directory: Path, weights: Mapping[str, tuple[Tensor, Tensor]], rank: int, alpha: float
) -> Path:
    """Write adapters as a new directory.

    Args:
        weights: by the names of layers, `LowRank.down` and `LowRank.up`.

    Raises:
        UsageError: it exists and is not empty.
        OutputError: it cannot be written; nothing is left of it.
    """
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in weights.items():
        tensors |= {f"{name}.down": down.contiguous(), f"{name}.up": up.contiguous()}
    settings = {"format": FORMAT, "rank": rank, "alpha": alpha}
    with new_directory(directory) as fresh:
        save_file(tensors, fresh / WEIGHTS, metadata={"format": "pt"})
        (fresh / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return directory


def load_adapter(directory: Path) -> Adapter:
    """Read a directory of `save_adapter`.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        settings = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))
        rank, alpha = settings["rank"], float(settings["alpha"])
        if settings["format"] != FORMAT or type(rank) is not int or not math.isfinite(alpha):
            raise ValueError(f"{SETTINGS} has a format, rank or alpha that is not known")
        tensors = load_file(directory / WEIGHTS)
        names = sorted({name.rpartition(".")[0] for name in tensors})
        if not names or tensors.keys() != {f"{n}.{part}" for n in names for part in PARTS}:
            raise ValueError(f"{WEIGHTS} has other tensors than pairs of down and up")
        if not all(t.is_floating_point() and t.isfinite().all() for t in tensors.values()):
            raise ValueError(f"{WEIGHTS} has values that are not finite numbers")
        pairs = {name: (tensors[f"{name}.down"], tensors[f"{name}.up"]) for name in names}
        if not all(down.shape[:1] == up.shape[1:] == (rank,) for down, up in pairs.values()):
            raise ValueError(f"{WEIGHTS} has tensors of another rank than {SETTINGS}")
        layers = {name: LowRank(down, up, alpha / rank) for name, (down, up) in pairs.items()}
        digest = hashlib.sha256()
        for file in (SETTINGS, WEIGHTS):
            digest.update((directory / file).read_bytes())
    except READ_ERRORS as error:
        raise CheckpointError(
            "--adapter takes a directory with adapter.json and adapter.safetensors",
            f"{str(directory)!r} cannot be used ({error})",
            "write one with auris train export --adapter",
        ) from error
    return Adapter(layers, digest.hexdigest())


def check_fits(adapter: Adapter, model: QwenAsr, directory: Path) -> None:
    """Raise CheckpointError where an adapter is of another model."""
    shapes = layer_names(model)
    for name, layer in adapter.layers.items():
        if shapes.get(name) != (len(layer.up), *layer.down.shape[1:]):
            raise CheckpointError(
                "An adapter has to be of the model that it changes",
                f"{name} of {str(directory)!r} has other shapes than the model",
                "name the model that the adapter was trained with",
            )
