"""Advice on a terminal, once for each model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from auris.pipeline import AsrPipeline

FILE = "advised"
"""A file in the folder of states: the models for which advice was given, one per line."""

OFFICIAL = "Qwen/Qwen3-ASR-0.6B"
"""The smaller one of the official models."""


def advise_int8(pipeline: AsrPipeline) -> None:
    """Advise `--dtype int8` when a large model in floating point is first used on the CPU.

    The advice is written to standard error, if that is a terminal.
    """
    if sys.stderr is None or not sys.stderr.isatty() or not _gains(pipeline):
        return
    from auris.server.settings import default_state_dir

    if _is_new(default_state_dir() / FILE, str(pipeline.model.directory.absolute())):
        typer.echo(
            f"{pipeline.model.name} has {pipeline.backend.weights} weights on the CPU; --dtype int8"
            " takes about half of the time and memory (auris quantize stores such a model)."
            " This is shown once.",
            err=True,
        )


def advise_official(pipeline: AsrPipeline) -> None:
    """Say what the default model is, and how to get a larger one, when it is first used.

    The advice is written to standard error, if both standard streams are a terminal.
    """
    terminal = all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))
    if not terminal or pipeline.model.origin != "bundled":
        return
    from auris.server.settings import default_state_dir

    name = pipeline.model.name
    if _is_new(default_state_dir() / FILE, f"{name}, the default"):
        typer.echo(
            f"{name} is a small model for demonstrations, for English only. An official model"
            f" makes far fewer errors: auris pull {OFFICIAL}, then --model {OFFICIAL}."
            " This is shown once.",
            err=True,
        )


def _gains(pipeline: AsrPipeline) -> bool:
    from auris.checkpoints.quantization_config import LEAST_WIDTH
    from auris.config import QwenAsrConfig

    backend, config = pipeline.backend, pipeline.backend.model.config
    large = isinstance(config, QwenAsrConfig) and config.decoder.hidden >= LEAST_WIDTH
    return large and backend.device.type == "cpu" and not backend.quantized


def _is_new(file: Path, model: str) -> bool:
    """Add a model to the list of a file; returns whether it is a new one and could be added."""
    try:
        known = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        if model in known:
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(f"{model}\n")
    except (OSError, UnicodeError):
        return False
    return True
