"""What this machine offers, and whether a checkpoint is sound."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from auris import __version__
from auris.backends.torch import DTYPES, TorchBackend, available_devices, pick_dtype
from auris.checkpoints.hub import bundled_models
from auris.checkpoints.load import Checkpoint, load_weights, open_checkpoint, weight_files
from auris.config import QwenAsrConfig
from auris.errors import AurisError
from auris.pipeline import make_recognizer
from auris.recognizers import QwenRecognizer
from auris.text.prompt import CONTROL_TOKENS
from auris.text.tokenizer import Tokenizer

__all__ = ["Finding", "check_model", "environment"]

PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "av", "soxr")
EXTRAS = ("huggingface_hub", "transformers", "jiwer", "whisper-normalizer")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `ok` is None where there is nothing to judge."""

    what: str
    found: str
    ok: bool | None = None


def _versions(names: tuple[str, ...]) -> str:
    def version(name: str) -> str:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            return f"{name} (not installed)"

    return ", ".join(version(name) for name in names)


def environment() -> Iterator[Finding]:
    """The machine and the installation."""
    yield Finding("auris", f"{__version__}, python {platform.python_version()} ({sys.platform})")
    yield Finding("packages", _versions(PACKAGES))
    yield Finding("extras", _versions(EXTRAS))
    yield Finding("devices", ", ".join(available_devices()))
    cpu = torch.device("cpu")
    natural = {name: pick_dtype("auto", cpu, dtype) for name, dtype in DTYPES.items()}
    for name, computed in natural.items():
        dtype = str(computed).removeprefix("torch.")
        note = "" if dtype == name else f" (computed in {dtype} by default)"
        yield Finding(f"cpu {name}", f"works{note}")
    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding(
        "cpu", f"{capability}, {os.cpu_count()} processors, {torch.get_num_threads()} threads"
    )
    yield Finding("bundled models", ", ".join(bundled_models()) or "none")


def _guarded(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look(), True)
    except AurisError as error:
        return Finding(what, str(error), False)


def check_model(directory: str | Path) -> Iterator[Finding]:
    """A checkpoint's config, names, shapes and tokens; later checks need the earlier ones.

    Yields:
        findings, the first failed one last.
    """
    opened: list[Checkpoint] = []

    def config() -> str:
        checkpoint = open_checkpoint(directory)
        opened.append(checkpoint)
        return f"{type(checkpoint.config).__name__} in the {checkpoint.layout} layout"

    finding = _guarded("config", config)
    yield finding
    if not opened:
        return
    checkpoint = opened[0]
    yield _guarded("files", lambda: ", ".join(f.name for f in weight_files(checkpoint.directory)))
    yield (finding := _guarded("tensors", lambda: _tensors(checkpoint)))
    if finding.ok:
        yield (finding := _guarded("tokens", lambda: _tokens(checkpoint)))


def _tensors(checkpoint: Checkpoint) -> str:
    model = load_weights(checkpoint, torch.device("cpu"), lambda stored: stored)
    weights = list(model.parameters())
    count = sum(weight.numel() for weight in weights)
    dtype = str(weights[0].dtype).removeprefix("torch.")
    return f"{len(weights)} tensors, {count / 1e6:.1f} million parameters, {dtype}"


def _tokens(checkpoint: Checkpoint) -> str:
    tokenizer = Tokenizer.from_directory(checkpoint.directory)
    model = load_weights(checkpoint, torch.device("cpu"), lambda stored: stored)
    recognizer = make_recognizer(TorchBackend(model), checkpoint, tokenizer)
    if not isinstance(checkpoint.config, QwenAsrConfig):
        return f"{tokenizer.size} units"
    assert isinstance(recognizer, QwenRecognizer)
    ids = ", ".join(f"{t} {tokenizer.added[t].id}" for t in CONTROL_TOKENS if t in tokenizer.added)
    stops = ", ".join(str(stop) for stop in sorted(recognizer.stops))
    return f"{ids}; stops at {stops}"
