"""Model directories: weights, configs, tokenizer and template, in any layout."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from auris.audio.features import HOP, MIN_SAMPLES, WINDOW
from auris.checkpoints.atomic import new_directory
from auris.checkpoints.calibration import (
    Calibration,
    Calibrations,
    load_calibrations,
    save_calibrations,
)
from auris.checkpoints.config_writer import to_json
from auris.checkpoints.configs import read_generation, write_json
from auris.checkpoints.ctc_head import load_ctc_head, save_ctc_head
from auris.checkpoints.inference_defaults import (
    InferenceDefaults,
    load_inference_defaults,
    save_inference_defaults,
)
from auris.checkpoints.layouts import LayoutName
from auris.checkpoints.lm_weights import LmWeights, load_lm_weights, save_lm_weights
from auris.checkpoints.load import Checkpoint, load_weights, open_checkpoint, read_tokenizer
from auris.checkpoints.save import SHARD_BYTES, save_weights
from auris.checkpoints.validation import check_vocabulary, stop_ids
from auris.config import CONV_BLOCK_FRAMES, AlignerConfig, ModelConfig, QwenAsrConfig, token_budget
from auris.errors import ConfigError, UsageError
from auris.text.languages import LANGUAGES
from auris.text.prompt import (
    ALIGNER_TEMPLATE,
    AUDIO_END,
    AUDIO_PAD,
    AUDIO_START,
    CHAT_TEMPLATE,
    END_OF_TEXT,
    TURN_END,
)
from auris.text.tokenizer import Tokenizer
from auris.types import SAMPLE_RATE

REFERENCE_CLIP_SECONDS = 30

PROCESSOR = "Qwen3ASRProcessor"
"""Class of transformers that the official layouts name."""


@dataclass(frozen=True)
class Parts:
    """A model directory without its weights, whose type is `dtype`."""

    config: ModelConfig
    tokenizer: Tokenizer
    dtype: torch.dtype
    generation: Mapping[str, Any] | None
    ctc_head: nn.Linear | None
    calibrations: Calibrations
    defaults: InferenceDefaults
    lm_weights: LmWeights | None = None


def read_parts(checkpoint: Checkpoint, dtype: torch.dtype) -> Parts:
    """Read a model directory without its weights.

    Raises:
        CheckpointError, TokenizerError: a file is damaged or belongs to another model.
    """
    config, directory = checkpoint.config, checkpoint.directory
    tokenizer = read_tokenizer(checkpoint)
    check_vocabulary(config, tokenizer)
    generation = read_generation(directory)
    if isinstance(config, QwenAsrConfig):
        stop_ids(config, generation)
    return Parts(
        config,
        tokenizer,
        dtype,
        generation,
        load_ctc_head(directory, config, torch.device("cpu")),
        load_calibrations(directory),
        load_inference_defaults(directory),
        load_lm_weights(directory),
    )


def _ids(tokenizer: Tokenizer) -> dict[str, int]:
    return {text: token.id for text, token in tokenizer.added.items()}


def _generation(tokenizer: Tokenizer) -> dict[str, Any]:
    """Greedy decoding that ends at the tokenizer's stop tokens.

    Programs that do not know our token budgets would stop after 20 tokens, so the budget of the
    longest clip that their processors are made for is written. Ours depends on the chunk.
    """
    ids = _ids(tokenizer)
    stops = [ids[token] for token in (END_OF_TEXT, TURN_END) if token in ids]
    if not stops:
        return {}
    return {
        "eos_token_id": stops,
        "pad_token_id": stops[-1],
        "do_sample": False,
        "max_new_tokens": token_budget(REFERENCE_CLIP_SECONDS),
    }


def _feature_extractor(bins: int) -> dict[str, Any]:
    return {
        "dither": 0.0,
        "feature_size": bins,
        "hop_length": HOP,
        "n_fft": WINDOW,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": SAMPLE_RATE,
        "chunk_length": REFERENCE_CLIP_SECONDS,
    }


def _tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    audio_tokens = {
        "audio_token": AUDIO_PAD,
        "audio_bos_token": AUDIO_START,
        "audio_eos_token": AUDIO_END,
    }
    plain = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "processor_class": PROCESSOR,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(token.id): {"content": text, **plain, "special": token.special}
            for text, token in tokenizer.added_without_gaps().items()
        },
        **audio_tokens,
        "model_specific_special_tokens": audio_tokens,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": END_OF_TEXT,
        "split_special_tokens": False,
        "unk_token": None,
    }


def _write_vocabulary(out: Path, tokenizer: Tokenizer) -> None:
    """vocab.json, merges.txt and tokenizer_config.json; parsed in a third of tokenizer.json's time.

    Raises:
        ConfigError: these files have no words for how the tokenizer cuts text.
    """
    if not tokenizer.cuts_like_qwen2:
        raise ConfigError(
            "vocab.json and merges.txt hold a Qwen2 vocabulary only",
            "this tokenizer cuts text in another way",
            "write the hf or native layout",
        )
    model = json.loads(tokenizer.core.to_str())["model"]
    (out / "vocab.json").write_text(
        json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8"
    )
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (out / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    write_json(out / "tokenizer_config.json", _tokenizer_config(tokenizer))


def _write_native(out: Path, parts: Parts) -> None:
    if parts.tokenizer.cuts_like_qwen2:
        _write_vocabulary(out, parts.tokenizer)
    else:
        (out / "tokenizer.json").write_text(parts.tokenizer.to_json(), encoding="utf-8")


def _template(config: ModelConfig) -> str:
    return ALIGNER_TEMPLATE if isinstance(config, AlignerConfig) else CHAT_TEMPLATE


def _write_hf(out: Path, parts: Parts) -> None:
    (out / "tokenizer.json").write_text(parts.tokenizer.to_json(), encoding="utf-8")
    (out / "chat_template.jinja").write_text(_template(parts.config), encoding="utf-8")
    write_json(out / "tokenizer_config.json", _tokenizer_config(parts.tokenizer))
    extractor = {
        **_feature_extractor(parts.config.encoder.mel_bins),
        "feature_extractor_type": "Qwen3ASRFeatureExtractor",
        "min_length": MIN_SAMPLES,
        "n_window": CONV_BLOCK_FRAMES // 2,
    }
    processor: dict[str, Any] = {"feature_extractor": extractor, "processor_class": PROCESSOR}
    if isinstance(parts.config, AlignerConfig):
        processor["timestamp_segment_time"] = parts.config.segment_ms
    write_json(out / "processor_config.json", processor)


def _write_published(out: Path, parts: Parts) -> None:
    _write_vocabulary(out, parts.tokenizer)
    write_json(
        out / "preprocessor_config.json",
        {
            **_feature_extractor(parts.config.encoder.mel_bins),
            "feature_extractor_type": "WhisperFeatureExtractor",
            "n_samples": REFERENCE_CLIP_SECONDS * SAMPLE_RATE,
            "nb_max_frames": REFERENCE_CLIP_SECONDS * SAMPLE_RATE // HOP,
            "processor_class": PROCESSOR,
        },
    )
    write_json(out / "chat_template.json", {"chat_template": _template(parts.config)})


_WRITERS = {"native": _write_native, "hf": _write_hf, "published": _write_published}


def config_json(layout: LayoutName, parts: Parts) -> dict[str, Any]:
    """config.json of a directory."""
    dtype = str(parts.dtype).removeprefix("torch.")
    config = to_json(parts.config, layout, dtype, _ids(parts.tokenizer))
    if layout == "published" and isinstance(parts.config, QwenAsrConfig):
        config["support_languages"] = list(LANGUAGES.values())
    return config


def write_parts(out: Path, layout: LayoutName, parts: Parts, config: Mapping[str, Any]) -> None:
    """Write everything of a model directory but its weights."""
    write_json(out / "config.json", config)
    _WRITERS[layout](out, parts)
    if parts.ctc_head is not None:
        save_ctc_head(parts.ctc_head, parts.config, parts.dtype, out)
    save_calibrations(parts.calibrations, out)
    if parts.defaults != InferenceDefaults():
        save_inference_defaults(parts.defaults, out)
    if parts.lm_weights is not None:
        save_lm_weights(parts.lm_weights, out)
    if parts.generation:
        write_json(out / "generation_config.json", parts.generation)
    # Weight files come readable by their owner only; the others have what the user's mask allows.
    for path in out.glob("*.safetensors"):
        path.chmod((out / "config.json").stat().st_mode)


def export(
    model: nn.Module,
    config: ModelConfig,
    tokenizer: Tokenizer,
    out: str | Path,
    *,
    layout: LayoutName = "native",
    dtype: torch.dtype = torch.float16,
    generation: Mapping[str, Any] | None = None,
    ctc_head: nn.Linear | None = None,
    calibration: Calibration | None = None,
    defaults: InferenceDefaults | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a model directory; it gets its name only when it is complete.

    Args:
        model: a module built from `config`.
        out: the directory to make; it must not exist or be empty.
        dtype: type of the written weights.
        generation: content of generation_config.json; greedy decoding by default.
        ctc_head: a head on the audio embeddings of a Qwen3-ASR model; it goes into a file of its
            own and changes no other.
        calibration: what the model's probabilities are worth, for a file of its own.
        defaults: the model's inference defaults, for a file of its own.
        shard_bytes: largest weight file.

    Raises:
        UsageError: the directory exists and is not empty, or there is no such layout.
        OutputError: it cannot be written; nothing is left of it.
        ConfigError: the layout cannot hold this model, or the model cannot have such a CTC head.
        TensorError: a weight is too large for the dtype, or the CTC head is misshapen.
    """
    defaults = defaults or InferenceDefaults()
    calibrations = Calibrations(calibration)
    parts = Parts(config, tokenizer, dtype, generation, ctc_head, calibrations, defaults)
    return _write(model, parts, out, layout, shard_bytes)


def _write(
    model: nn.Module, parts: Parts, out: str | Path, layout: LayoutName, shard_bytes: int
) -> Path:
    if layout not in _WRITERS:
        raise UsageError(
            f"The layout has to be {', '.join(_WRITERS)}", f"it is {layout!r}", "choose one"
        )
    if parts.generation is None and isinstance(parts.config, QwenAsrConfig):
        parts = dataclasses.replace(parts, generation=_generation(parts.tokenizer))
    content = config_json(layout, parts)
    with new_directory(out) as draft:
        save_weights(model, parts.config, layout, parts.dtype, draft, shard_bytes)
        write_parts(draft, layout, parts, content)
    return Path(out)


def convert(
    source: str | Path,
    out: str | Path,
    layout: LayoutName,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a model directory of any layout anew in another one.

    Args:
        dtype: type of the written weights, by default as stored.

    Raises:
        CheckpointError, TokenizerError: the source cannot be read.
        UsageError, OutputError, ConfigError, TensorError: see `export`.
    """
    checkpoint = open_checkpoint(source)
    parts = read_parts(checkpoint, torch.float32)
    model = load_weights(checkpoint, torch.device("cpu"), lambda stored: dtype or stored)
    parts = dataclasses.replace(parts, dtype=next(model.parameters()).dtype)
    return _write(model, parts, out, layout, shard_bytes)
