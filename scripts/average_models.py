#!/usr/bin/env python3
"""Write the mean of the weights of several models.

    scripts/average_models.py MODEL MODEL... OUT

The models have the same shapes, and one was trained from the other: only then are their weights
close enough for a mean. Everything else in OUT is copied from the last model. Wortsman et al.,
"Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time" (2022).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from auris.checkpoints.atomic import new_directory


def average(files: list[Path], out: Path) -> None:
    """Write the mean of files of weights, in the dtypes of the last one.

    Raises:
        ValueError: their tensors have different names or shapes.
    """
    weights = [load_file(file) for file in files]
    shapes = [{name: tensor.shape for name, tensor in one.items()} for one in weights]
    for file, other in zip(files, shapes, strict=True):
        if other != shapes[-1]:
            raise ValueError(
                "A mean needs models whose tensors have the same names and shapes; "
                f"{file} and {files[-1]} have different tensors: "
                "name a model and one that was trained from it"
            )
    mean = {
        name: torch.stack([one[name].float() for one in weights]).mean(0).to(last.dtype)
        for name, last in weights[-1].items()
    }
    with safe_open(files[-1], "pt") as last_file:
        metadata = last_file.metadata()
    save_file(mean, out, metadata=metadata)


def main(models: list[Path], out: Path) -> None:
    """Write the model; nothing is left of it where the weights cannot be averaged."""
    with new_directory(out) as fresh:
        shutil.copytree(models[-1], fresh, dirs_exist_ok=True)
        for file in sorted(models[-1].glob("*.safetensors")):
            average([model / file.name for model in models], fresh / file.name)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    *given, target = map(Path, sys.argv[1:])
    main(given, target)
