"""Finds and loads a model with its tokenizer."""

from __future__ import annotations

import numbers
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch

from auris.backends.devices import STATIC_STEP, Dtypes, pick_device, pick_dtypes, runs_static_step
from auris.backends.memory import within_memory
from auris.backends.native_decoder import runs_half
from auris.backends.packed_layers import swap
from auris.backends.torch import TorchBackend
from auris.checkpoints.adapters import check_fits, load_adapter
from auris.checkpoints.calibration import NO_CALIBRATIONS, load_calibrations
from auris.checkpoints.configs import read_generation
from auris.checkpoints.ctc_head import load_ctc_head
from auris.checkpoints.hub import DEFAULT_MODEL, ResolvedModel, resolve
from auris.checkpoints.inference_defaults import (
    DEFAULTS_FILE,
    InferenceDefaults,
    load_inference_defaults,
)
from auris.checkpoints.load import Checkpoint, load_weights, open_checkpoint, read_tokenizer
from auris.checkpoints.packed_files import load_packed
from auris.checkpoints.quantization_config import PACKED_DTYPES, Quantization
from auris.checkpoints.validation import stop_ids
from auris.config import (
    CONV_BLOCK_FRAMES,
    MAX_WINDOW_FRAMES,
    AlignerConfig,
    AutConfig,
    AutCtcConfig,
    QwenAsrConfig,
)
from auris.errors import ConfigError, DeviceError, UnsupportedOption, UsageError
from auris.models.adapted import with_adapters
from auris.models.attention import Kernel
from auris.models.qwen_asr import QwenAsr
from auris.recognition.ctc import CtcRecognizer
from auris.recognition.language_model import DEFAULT_LM, NO_LM, find_language_model
from auris.recognition.qwen import QwenRecognizer
from auris.recognition.recognizer import Recognizer
from auris.text.languages import LANGUAGES
from auris.text.tokenizer import Tokenizer

MOST = 1 << 20
"""Largest value of a count; a larger one is a mistake and would not fit into memory."""

MOST_THREADS = 1024


class OtherLoadOptions(TypedDict, total=False):
    """`LoadOptions` without the device."""

    dtype: str
    threads: int | None
    kernel: Kernel
    local_files_only: bool
    copy: bool
    exact_logprobs: bool
    revision: str | None
    attention_window: int | None
    adapter: str | Path | None


class LoadOptions(OtherLoadOptions, total=False):
    """How a model is loaded.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:N", "mps" or "metal" (the same), or a
            `auris.Device`; by default AURIS_DEVICE from the environment, or "auto".
        dtype: "auto" (as stored, where the device computes in it), "float32", "bfloat16" or
            "float16"; "int8" or "int4", on the CPU, for a checkpoint in them or to quantize
            another one while it is loaded.
        threads: CPU threads of the whole process; torch's own choice by default.
        kernel: attention kernel: "auto", "flash", "efficient" or "math".
        local_files_only: never use the network.
        copy: hold the weights in memory instead of mapping the files.
        exact_logprobs: compute exact log-probabilities in int8 and int4, a little slower. Otherwise
            they may be off by 0.02, since the best token is found in two stages.
        revision: branch, tag or commit of a hub id, unless its name has one (OWNER/NAME@REVISION).
        attention_window: seconds that the encoder's attention sees, 1 to 8; by default those that
            the model was trained with. A shorter one is faster for long chunks and may lose words.
        adapter: directory of adapters (LoRA) that change the weights of the decoder, which PyTorch
            then runs.
    """

    device: str | None


@dataclass(frozen=True)
class Loaded:
    """A loaded model."""

    model: ResolvedModel
    checkpoint: Checkpoint
    backend: TorchBackend
    tokenizer: Tokenizer
    defaults: InferenceDefaults


def check_count(name: str, number: int, most: int = MOST, least: int = 1) -> None:
    """Raise UsageError unless a value is a whole number from `least` to `most`."""
    if not isinstance(number, int) or not least <= number <= most:
        raise UsageError(
            f"{name} has to be a whole number from {least} to {most}",
            f"it is {number!r}",
            "correct it",
        )


def check_number(name: str, number: object, least: float, most: float) -> None:
    """Raise UsageError unless a value is a number from `least` to `most`."""
    real = isinstance(number, numbers.Real)
    if not real or not least <= float(number) <= most:  # type: ignore[arg-type]
        raise UsageError(
            f"{name} has to be a number from {least:g} to {most:g}",
            f"it is {number!r}",
            "correct it",
        )


def use_threads(threads: int | None) -> None:
    """Set the CPU threads of the whole process; None leaves torch's own choice."""
    if threads is not None:
        check_count("threads", threads, MOST_THREADS)
        torch.set_num_threads(threads)


def load_model(
    model: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: str = "auto",
    threads: int | None = None,
    kernel: Kernel = "auto",
    local_files_only: bool = False,
    copy: bool = False,
    exact_logprobs: bool = False,
    revision: str | None = None,
    attention_window: int | None = None,
    adapter: str | Path | None = None,
) -> Loaded:
    """Find and load a model; arguments and errors are those of `AsrPipeline`."""
    if model is None:
        model = os.environ.get("AURIS_MODEL") or DEFAULT_MODEL
    if device is None:
        device = os.environ.get("AURIS_DEVICE") or "auto"
    resolved = resolve(model, local_files_only, revision)
    use_threads(threads)
    checkpoint = open_checkpoint(resolved.directory)
    if attention_window is not None:
        encoder = with_window(checkpoint.config.encoder, attention_window)
        checkpoint = replace(checkpoint, config=replace(checkpoint.config, encoder=encoder))
    quantization = _quantization(dtype, checkpoint)
    defaults = _known_defaults(resolved.directory)
    target = pick_device(device) if quantization is None else _packed_device(device)
    static = runs_static_step(target, os.environ.get(STATIC_STEP))
    config = checkpoint.config
    native_decoder = isinstance(config, QwenAsrConfig) and not static and runs_half(config.decoder)
    native_decoder = native_decoder and adapter is None
    name = dtype if quantization is None else "auto"

    def dtypes(stored: torch.dtype) -> Dtypes:
        return pick_dtypes(name, target, stored, native_decoder)

    # In parallel: the tokenizer is parsed while the weights are read.
    with ThreadPoolExecutor(1) as pool, within_memory():
        tokenizer = pool.submit(read_tokenizer, checkpoint)
        if quantization is None:
            weights = load_weights(
                checkpoint,
                target,
                lambda stored: dtypes(stored).computed,
                copy,
                lambda stored: dtypes(stored).decoder,
            )
        else:
            weights = load_packed(
                checkpoint, quantization, lambda stored: dtypes(stored).computed, swap, copy
            )
        backend = TorchBackend(weights, kernel, exact=exact_logprobs, static=static)
        loaded = Loaded(resolved, checkpoint, backend, tokenizer.result(), defaults)
    return loaded if adapter is None else with_adapter(loaded, adapter)


def with_adapter(loaded: Loaded, directory: str | Path) -> Loaded:
    """A loaded model with the adapters of a directory; it shares its weights with the given one.

    Raises:
        CheckpointError: the directory cannot be used, or its adapters are of another model.
        UnsupportedOption: the model has no decoder, or its weights are packed or run by native
            code.
    """
    adapter, given = load_adapter(Path(directory)), loaded.backend
    model, floats = given.model, given.weights not in PACKED_DTYPES
    # PyTorch runs the decoder, so it needs weights in the type of the activations.
    if not isinstance(model, QwenAsr) or not floats or given.decoder_dtype != given.dtype:
        raise UnsupportedOption(
            "--adapter changes the decoder of a Qwen3-ASR model in floating point",
            "this is another model, or its weights are in int8 or int4",
            "name another model or --dtype, or leave --adapter out",
        )
    check_fits(adapter, model, Path(directory))
    adapted = with_adapters(model, adapter.layers)
    adapted.adapter = adapter.digest
    static = given.static is not None
    backend = TorchBackend(adapted, given.kernel, exact=given.exact, static=static)
    return replace(loaded, backend=backend)


def with_window(config: AutConfig, seconds: int) -> AutConfig:
    """An encoder's config with another attention window; UsageError if there is no such window."""
    check_count("attention_window", seconds, MAX_WINDOW_FRAMES // CONV_BLOCK_FRAMES)
    return replace(config, window_frames=CONV_BLOCK_FRAMES * seconds)


def _known_defaults(directory: Path) -> InferenceDefaults:
    """The inference defaults of a model, whose languages have to be names of `LANGUAGES`."""
    defaults = load_inference_defaults(directory)
    names = set(LANGUAGES.values())
    unknown = [name for name in defaults.languages or () if name not in names]
    if unknown:
        raise ConfigError(
            f"languages of {DEFAULTS_FILE} have to be English names such as {LANGUAGES['en']!r}",
            f"{str(directory / DEFAULTS_FILE)!r} has {', '.join(map(repr, unknown))}",
            "correct it; codes and other languages cannot be chosen",
        )
    return defaults


def _quantization(dtype: str, checkpoint: Checkpoint) -> Quantization | None:
    """How the weights will be packed; None for weights in floating point."""
    stored = checkpoint.quantization
    if stored is None:
        return next((Quantization(packed) for packed in PACKED_DTYPES if packed == dtype), None)
    if dtype not in ("auto", stored.dtype):
        raise DeviceError(
            f"A checkpoint that was quantized to {stored.dtype} can only compute in {stored.dtype}",
            f"{dtype!r} was requested",
            "choose --dtype auto, or the checkpoint that it was made from",
        )
    return stored


def _packed_device(name: str | torch.device) -> torch.device:
    """The CPU; refuses other devices, since packed weights run on the CPU only."""
    if str(name) != "auto" and pick_device(name).type != "cpu":
        raise DeviceError(
            "Weights in int8 and int4 run on the CPU only",
            f"the device {str(name)!r} was requested",
            "choose --device cpu, or a checkpoint and a dtype in floating point",
        )
    return torch.device("cpu")


def with_ctc_head(backend: TorchBackend, directory: Path) -> TorchBackend | None:
    """The backend of a Qwen3-ASR model with the CTC head next to its weights; None without one."""
    with within_memory():
        head = load_ctc_head(directory, backend.model.config, backend.device, backend.dtype)
    return None if head is None else TorchBackend(backend.model, backend.kernel, head)


def _drafting_backend(
    backend: TorchBackend, checkpoint: Checkpoint, speculate: str
) -> TorchBackend | None:
    if speculate == "none":
        return None
    if speculate != "ctc":
        raise UsageError("--speculate has to be none or ctc", f"it is {speculate!r}", "choose one")
    has_decoder = isinstance(checkpoint.config, QwenAsrConfig)
    drafting = with_ctc_head(backend, checkpoint.directory) if has_decoder else None
    if drafting is None:
        raise UnsupportedOption(
            "--speculate ctc needs a Qwen3-ASR model with ctc_head.safetensors",
            "this model has no such file" if has_decoder else "this is another kind of model",
            "leave --speculate out, or choose another model",
        )
    return drafting


def make_recognizer(
    backend: TorchBackend,
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    calibrated: bool = True,
    speculate: str = "none",
    lm: str | Path | None = None,
) -> Recognizer:
    """The recognizer for a checkpoint's kind of model.

    Args:
        calibrated: whether to use the calibration next to the weights, if there is one.
        speculate: "ctc" takes drafts from the CTC head next to the weights, "none" takes none.
        lm: language model of the search, see `find_language_model`. Drafts need a greedy decoding,
            so with them "auto" is none.

    Raises:
        ConfigError, TokenizerError: config, weights and tokenizer do not fit each other.
        CheckpointError: the calibration, the CTC head or the language model is damaged.
        UnsupportedOption: `speculate` needs a decoder and a CTC head.
    """
    config = checkpoint.config
    if isinstance(config, AlignerConfig):
        raise ConfigError(
            "Transcribing needs a model that writes text",
            "this checkpoint is a forced aligner, whose head scores timestamps",
            "choose a Qwen3-ASR checkpoint, or name this one with --aligner",
        )
    if isinstance(backend.model, QwenAsr) and backend.model.adapter:
        calibrated = False  # It was fitted to the weights without adapters.
    calibrations = load_calibrations(checkpoint.directory) if calibrated else NO_CALIBRATIONS
    drafting = _drafting_backend(backend, checkpoint, speculate)
    if drafting is not None and lm not in (None, NO_LM, DEFAULT_LM):
        raise UnsupportedOption(
            "--speculate ctc drafts texts that are decoded without a search, and --lm needs one",
            f"--lm is {str(lm)!r}",
            "leave one of them out",
        )
    lm = None if drafting is not None else lm
    words = find_language_model(lm, checkpoint.directory, isinstance(config, QwenAsrConfig))
    if isinstance(config, AutCtcConfig):
        return CtcRecognizer(backend, config, tokenizer, calibrations, words)
    stops = stop_ids(config, read_generation(checkpoint.directory))
    load_ctc = partial(with_ctc_head, backend, checkpoint.directory)
    return QwenRecognizer(
        backend, config, tokenizer, stops, calibrations, drafting, load_ctc, words
    )
