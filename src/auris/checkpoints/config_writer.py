"""Our configs as the config.json of every layout; `configs` reads them back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from auris.checkpoints.configs import (
    ARCHITECTURES,
    DECODER_KEYS,
    ENCODER_KEYS,
    ENCODER_NORM_EPS,
    FORMAT,
    FORMAT_VERSION,
    IMPLIED,
    IMPLIED_SPEAKER,
    SPEAKER,
)
from auris.checkpoints.layouts import LayoutName
from auris.config import (
    CONV_BLOCK_FRAMES,
    AlignerConfig,
    AutCtcConfig,
    ModelConfig,
    ProjectorConfig,
    PromptedConfig,
    QwenAsrConfig,
    SpeakerConfig,
)
from auris.errors import ConfigError


def _foreign_json(config: PromptedConfig) -> dict[str, Any]:
    encoder, decoder = config.encoder, config.decoder
    audio = {
        "activation_dropout": 0.0,
        "activation_function": "gelu",
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "n_window": CONV_BLOCK_FRAMES // 2,
        "num_hidden_layers": encoder.layers,
        "output_dim": config.projector.out,
        "scale_embedding": False,
        **{names[0]: getattr(encoder, field) for field, names in ENCODER_KEYS.items()},
    }
    text = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "max_position_embeddings": 65536,
        "rms_norm_eps": decoder.rms_eps,
        "rope_theta": decoder.rope_theta,
        "tie_word_embeddings": decoder.tied,
        "use_cache": True,
        "use_sliding_window": False,
        **{name: getattr(decoder, field) for field, name in DECODER_KEYS.items()},
    }
    return {
        "audio_config": {"model_type": "qwen3_asr_audio_encoder", **dict(sorted(audio.items()))},
        "text_config": {"model_type": "qwen3", **dict(sorted(text.items()))},
        "audio_token_id": config.audio_token_id,
    }


def unofficial(config: ModelConfig) -> str | None:
    """Why the official layouts, and so transformers, have no such model; None where they have."""
    if isinstance(config, AutCtcConfig):
        return "this one is an AuT encoder with a CTC head"
    if config.encoder.norm != "layer" or config.frontend != "slaney400":
        return f"this one has {config.encoder.norm} norms and the {config.frontend} frontend"
    if config.encoder.norm_eps != ENCODER_NORM_EPS:
        return f"this one's encoder norms have epsilon {config.encoder.norm_eps}"
    if config.encoder.stem != "conv2d":
        return f"this one's encoder begins with a {config.encoder.stem} stem"
    if config.projector != ProjectorConfig(config.decoder.hidden, config.encoder.d_model):
        return "this one has another projector than two linear layers of the encoder's width"
    return None


def _official(config: ModelConfig) -> QwenAsrConfig | AlignerConfig:
    """Refuse what the official layouts have no words for."""
    reason = unofficial(config)
    if reason or isinstance(config, AutCtcConfig):
        raise ConfigError(
            "The published and hf layouts hold Qwen3-ASR models only",
            reason or "",
            "write the native layout",
        )
    return config


def speaker_json(config: SpeakerConfig, dtype: str) -> dict[str, Any]:
    """Content of config.json of a speaker encoder."""
    content = _own_json(config, SPEAKER, dtype)
    for key, implied in IMPLIED_SPEAKER.items():
        if content[key] == implied:
            del content[key]
    return content


def _native_json(config: ModelConfig, dtype: str) -> dict[str, Any]:
    architecture = next(name for name, kind in ARCHITECTURES.items() if kind is type(config))
    return _own_json(config, architecture, dtype)


def _own_json(config: ModelConfig | SpeakerConfig, architecture: str, dtype: str) -> dict[str, Any]:
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, "architecture": architecture}
    body = dataclasses.asdict(config)
    for key, implied in IMPLIED.items():
        if body["encoder"][key] == implied:
            del body["encoder"][key]
    return {**head, "dtype": dtype, **body}


def to_json(
    config: ModelConfig, layout: LayoutName, dtype: str, token_ids: Mapping[str, int]
) -> dict[str, Any]:
    """config.json of a layout; `dtype` is that of the weights, `token_ids` the special tokens.

    Raises:
        ConfigError: the layout has no words for this model, or it has batch norms.
    """
    if config.encoder.batch_norm:
        raise ConfigError(
            "A model with batch norms in its stem cannot be written",
            "",
            "write what auris.models.folding.fold_batch_norm makes of it",
        )
    if layout == "native":
        return _native_json(config, dtype)
    official = _official(config)
    write = _published_json if layout == "published" else _hf_json
    body = {**_foreign_json(official), "dtype": dtype}
    return {**write(official, body, token_ids), "dtype": dtype}


def _published_json(
    config: QwenAsrConfig | AlignerConfig, body: dict[str, Any], token_ids: Mapping[str, int]
) -> dict[str, Any]:
    half = config.decoder.head_dim // 2
    side = half * 5 // 16
    sections = [half - 2 * side, side, side]
    rope = {"mrope_interleaved": True, "mrope_section": sections, "rope_type": "default"}
    body["text_config"] = {**body["text_config"], "rope_scaling": rope}
    tokens = {side: f"<|audio_{side}|>" for side in ("start", "end")}
    ids = {f"audio_{s}_token_id": token_ids[t] for s, t in tokens.items() if t in token_ids}
    thinker: dict[str, Any] = {"model_type": "qwen3_asr", **body, **ids}
    outer: dict[str, Any] = {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "thinker_config": thinker,
    }
    if isinstance(config, AlignerConfig):
        thinker.update(model_type="qwen3_forced_aligner", classify_num=config.classes)
        outer["timestamp_token_id"] = config.timestamp_token_id
        outer["timestamp_segment_time"] = config.segment_ms
        if config.head_bias:
            outer["token_classification_bias"] = True
    return outer


def _hf_json(
    config: QwenAsrConfig | AlignerConfig, body: dict[str, Any], token_ids: Mapping[str, int]
) -> dict[str, Any]:
    theta = body["text_config"].pop("rope_theta")
    body["text_config"]["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    body["audio_config"] = {
        **body["audio_config"],
        "model_type": "qwen3_asr_encoder",
        "max_position_embeddings": 13,
    }
    del body["audio_config"]["num_hidden_layers"]
    stops = [token_ids[t] for t in ("<|endoftext|>", "<|im_end|>") if t in token_ids]
    hf = {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        **body,
        "eos_token_id": stops,
        "tie_word_embeddings": config.decoder.tied,
        "token_classification_bias": False,
    }
    if stops:
        hf["pad_token_id"] = stops[-1]
    if "<timestamp>" in token_ids:
        hf["timestamp_token_id"] = token_ids["<timestamp>"]
    if isinstance(config, AlignerConfig):
        hf["architectures"] = ["Qwen3ASRForTokenClassification"]
        hf["token_classification_bias"] = config.head_bias
        hf["timestamp_token_id"] = config.timestamp_token_id
        hf["num_labels"] = config.classes
    return hf
