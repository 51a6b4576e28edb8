"""Small random models in every layout, with a byte-level vocabulary."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tokenizers import models, pre_tokenizers, trainers

from auris.checkpoints.export import export
from auris.checkpoints.layouts import LayoutName
from auris.checkpoints.load import Model, build
from auris.config import (
    AlignerConfig,
    AutConfig,
    AutCtcConfig,
    DecoderConfig,
    ModelConfig,
    ProjectorConfig,
    QwenAsrConfig,
)
from auris.text.prompt import AUDIO_PAD, CONTROL_TOKENS, TIMESTAMP
from auris.text.tokenizer import Tokenizer, qwen2_core

TEXTS = [
    "language English system user assistant the quick brown fox jumps over the lazy dog",
    "turn on the lights in the kitchen and play some music, please; it's ten past nine",
    "language Chinese 你好世界 今天天气很好 language None",
]


@cache
def _core_json() -> str:
    core = qwen2_core(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(TEXTS * 4, trainer)
    content = json.loads(core.to_str())
    base = core.get_vocab_size()
    content["added_tokens"] = [
        {
            "id": base + place,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": special,
        }
        for place, (token, special) in enumerate(CONTROL_TOKENS.items())
    ]
    return json.dumps(content, ensure_ascii=False)


def tiny_tokenizer() -> Tokenizer:
    """A byte-level vocabulary of about 340 tokens and the control tokens of Qwen3-ASR."""
    return Tokenizer.from_json(_core_json())


def qwen_config(
    *,
    window_frames: int = 800,
    tied: bool = True,
    encoder_layers: int = 2,
    d_model: int = 32,
    heads: int = 2,
    kv_heads: int = 2,
    decoder_heads: int = 4,
    head_dim: int = 16,
    hidden: int = 48,
    decoder_layers: int = 2,
    conv_channels: int = 8,
) -> QwenAsrConfig:
    """Official architecture in miniature."""
    tokenizer = tiny_tokenizer()
    return QwenAsrConfig(
        encoder=AutConfig(
            mel_bins=128,
            layers=encoder_layers,
            d_model=d_model,
            heads=heads,
            ffn=2 * d_model,
            conv_channels=conv_channels,
            window_frames=window_frames,
        ),
        projector=ProjectorConfig(out=hidden, hidden=d_model),
        decoder=DecoderConfig(
            vocab=tokenizer.size + 8,
            hidden=hidden,
            layers=decoder_layers,
            heads=decoder_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            ffn=2 * hidden,
            rope_theta=1e6,
            tied=tied,
        ),
        audio_token_id=tokenizer.id(AUDIO_PAD),
    )


def aligner_config(classes: int = 40, head_bias: bool = False, **shapes: int) -> AlignerConfig:
    """The official forced aligner in miniature; shapes as of `qwen_config`."""
    config = qwen_config(**shapes)
    return AlignerConfig(
        encoder=config.encoder,
        projector=config.projector,
        decoder=config.decoder,
        audio_token_id=config.audio_token_id,
        classes=classes,
        timestamp_token_id=tiny_tokenizer().id(TIMESTAMP),
        segment_ms=80.0,
        head_bias=head_bias,
    )


def ctc_config() -> AutCtcConfig:
    """AuT-Tiny in miniature."""
    return AutCtcConfig(
        encoder=AutConfig(
            mel_bins=128, layers=1, d_model=24, heads=2, ffn=48, conv_channels=4, norm="rms"
        ),
        units=tiny_tokenizer().size,
        projector=ProjectorConfig(16, bias=False),
    )


def joined_config() -> QwenAsrConfig:
    """A decoder behind AuT-Tiny in miniature, with what transformers has no model for."""
    config = qwen_config()
    encoder = replace(ctc_config().encoder, stem="conv1d")
    projector = ProjectorConfig(config.decoder.hidden)
    return replace(config, encoder=encoder, projector=projector, frontend="htk1024")


def randomize(model: torch.nn.Module, seed: int = 0) -> None:
    """Weights large enough that every layer has an effect and tokens differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                gain = 1.0 if name.endswith("weight") else 0.0
                parameter.copy_(gain + 0.1 * noise)
            else:
                parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5)


def tiny_model(config: ModelConfig | None = None, seed: int = 0) -> Model:
    """A random model of a config, by default `qwen_config()`."""
    model = build(qwen_config() if config is None else config)
    randomize(model, seed)
    return model.eval()


def write_tiny(
    out: Path,
    layout: LayoutName = "native",
    config: ModelConfig | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    shard_bytes: int = 5_000_000_000,
) -> Path:
    """A complete directory with a random model."""
    config = qwen_config() if config is None else config
    model = tiny_model(config, seed)
    return export(
        model,
        config,
        tiny_tokenizer(),
        out,
        layout=layout,
        dtype=dtype,
        shard_bytes=shard_bytes,
    )


def tone_speech(seconds: float, seed: int = 0) -> np.ndarray:
    """A changing mixture of tones with pauses: not speech, but as uneven as speech."""
    rng = np.random.default_rng(seed)
    n = round(seconds * 16000)
    t = np.arange(n) / 16000
    pitch = 120 + 40 * np.sin(2 * np.pi * 0.7 * t + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    voice = sum(np.sin(k * phase) / k for k in range(1, 8))
    envelope = np.clip(np.sin(2 * np.pi * 1.3 * t + rng.uniform(0, 6)) + 0.4, 0, 1)
    return (0.2 * voice * envelope + 0.003 * rng.standard_normal(n)).astype(np.float32)
