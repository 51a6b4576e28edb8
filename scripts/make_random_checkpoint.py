#!/usr/bin/env python3
"""Write a checkpoint of a published size with random weights, for measuring cost and memory.

    scripts/make_random_checkpoint.py 0.6b native data/random-0.6b [--tokenizer DIR]

The text it gives is noise. With --tokenizer (a folder with vocab.json and merges.txt) it has the
real vocabulary; without, a byte-level one of the same size of embedding.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import models, pre_tokenizers

from auris.checkpoints.export import export
from auris.checkpoints.load import build
from auris.config import (
    AlignerConfig,
    AutConfig,
    DecoderConfig,
    ModelConfig,
    ProjectorConfig,
    QwenAsrConfig,
)
from auris.text.prompt import AUDIO_PAD, CONTROL_TOKENS, TIMESTAMP
from auris.text.tokenizer import AddedId, Tokenizer, qwen2_core

IDS = (151643, 151644, 151645, 151669, 151670, 151676, 151704, 151705)
"""Official ids of the control tokens, in the order of `CONTROL_TOKENS`."""

OFFICIAL = dict(zip(CONTROL_TOKENS, IDS, strict=True))
VOCAB = 151936
ALIGNER_VOCAB = 152064


LARGER = AutConfig(128, 24, 1024, 16, 4096, 480)
"""The encoder of the larger model, and of the aligner."""

SIZES = {
    "small": (AutConfig(128, 2, 128, 4, 256, 16), (VOCAB, 128, 2, 4, 2, 32, 256)),
    "0.6b": (AutConfig(128, 18, 896, 14, 3584, 480), (VOCAB, 1024, 28, 16, 8, 128, 3072)),
    "1.7b": (LARGER, (VOCAB, 2048, 28, 16, 8, 128, 6144)),
    "aligner": (LARGER, (ALIGNER_VOCAB, 1024, 28, 16, 8, 128, 3072)),
}
"""Encoder and shapes of the decoder; "small" is no published size, but for trying programs out."""


def size(name: str) -> QwenAsrConfig | AlignerConfig:
    """Shapes of one of `SIZES`."""
    encoder, shapes = SIZES[name]
    decoder = DecoderConfig(*shapes, rope_theta=1e6)
    projector = ProjectorConfig(out=decoder.hidden, hidden=encoder.d_model)
    if name != "aligner":
        return QwenAsrConfig(encoder, projector, decoder, OFFICIAL[AUDIO_PAD])
    return AlignerConfig(
        encoder,
        projector,
        decoder,
        OFFICIAL[AUDIO_PAD],
        classes=5000,
        timestamp_token_id=OFFICIAL[TIMESTAMP],
        segment_ms=80.0,
    )


def tokenizer(folder: Path | None) -> Tokenizer:
    """The vocabulary with the control tokens at their official ids."""
    if folder is not None:
        core = qwen2_core(
            models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        )
    else:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        core = qwen2_core(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    named = {AddedId(OFFICIAL[token], special): token for token, special in CONTROL_TOKENS.items()}
    taken = {token.id for token in named}
    # Readers of tokenizer.json number added tokens without gaps, so the ids between are filled.
    first = core.get_vocab_size() if folder is None else min(IDS)
    spare = [AddedId(i, True) for i in range(first, max(IDS)) if i not in taken]
    added = {**named, **{token: f"<|reserved_{token.id}|>" for token in spare}}
    return Tokenizer(core, {added[t]: t for t in sorted(added, key=lambda token: token.id)})


def random_model(config: ModelConfig, seed: int) -> torch.nn.Module:
    """Normal weights of the usual scale, in bfloat16."""
    with torch.device("meta"):
        model = build(config)
    model.to_empty(device="cpu").to(torch.bfloat16)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.02, generator=generator)
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    return model


def main() -> None:
    """Parse arguments and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("size", choices=list(SIZES))
    parser.add_argument("layout", choices=["published", "hf", "native"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    config = size(given.size)
    model = random_model(config, given.seed)
    words = tokenizer(given.tokenizer)
    print(export(model, config, words, given.out, layout=given.layout, dtype=torch.bfloat16))


if __name__ == "__main__":
    main()
