"""Checks that a config, a vocabulary and the options of a call fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auris.config import AlignerConfig, AutCtcConfig, ModelConfig, QwenAsrConfig
from auris.errors import ConfigError, UnsupportedOption
from auris.text.prompt import AUDIO_PAD, TIMESTAMP, alignment_ids, prompt_ids
from auris.text.tokenizer import Tokenizer


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """Refuse a config and a tokenizer that mean different ids, with a ConfigError, and a vocabulary
    that lacks a control token, with a TokenizerError."""
    remedy = "use the tokenizer files that belong to the weights"
    if isinstance(config, AutCtcConfig):
        if tokenizer.size != config.units:
            raise ConfigError(
                "A CTC head has to have one class for every unit of the tokenizer",
                f"there are {config.units} classes for {tokenizer.size} units",
                remedy,
            )
        return
    if isinstance(config, AlignerConfig):
        alignment_ids(tokenizer, 1, ["a"])  # Names every control token that a prompt needs.
        if tokenizer.id(TIMESTAMP) != config.timestamp_token_id:
            raise ConfigError(
                f"timestamp_token_id in config.json has to be the tokenizer's id of {TIMESTAMP}",
                f"they are {config.timestamp_token_id} and {tokenizer.id(TIMESTAMP)}",
                remedy,
            )
    else:
        prompt_ids(tokenizer, 1, "English")
    if tokenizer.id(AUDIO_PAD) != config.audio_token_id:
        raise ConfigError(
            f"audio_token_id in config.json has to be the tokenizer's id of {AUDIO_PAD}",
            f"they are {config.audio_token_id} and {tokenizer.id(AUDIO_PAD)}",
            remedy,
        )
    if tokenizer.size > config.decoder.vocab:
        raise ConfigError(
            "Every id of the tokenizer has to have a row in the embedding",
            f"there are ids up to {tokenizer.size - 1} and {config.decoder.vocab} rows",
            remedy,
        )


def check_language(config: AutCtcConfig, language: str | None) -> None:
    """Refuse a language that a CTC model does not write, with an UnsupportedOption."""
    if language not in (None, config.language):
        raise UnsupportedOption(
            f"This model writes {config.language} only",
            f"the language is {language}",
            "leave --language out, or choose a model that knows the language",
        )


def stop_ids(config: QwenAsrConfig, generation: Mapping[str, Any] | None) -> list[int] | None:
    """Stop ids of a generation_config.json; None leaves them to the tokenizer.

    Raises:
        ConfigError: they are no ids of the vocabulary.
    """
    ids = (generation or {}).get("eos_token_id")
    if ids is None:
        return None
    listed = ids if isinstance(ids, list) else [ids]
    vocabulary = range(config.decoder.vocab)
    if not listed or not all(type(number) is int and number in vocabulary for number in listed):
        raise ConfigError(
            "eos_token_id in generation_config.json has to be an id of the vocabulary, or several",
            f"it is {ids!r}",
            "use the generation_config.json that belongs to the weights",
        )
    return listed
