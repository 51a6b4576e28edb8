"""Text units: byte-pair units of spoken text, for a CTC model or as a Qwen3-ASR vocabulary.

Source: Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units"
(2016), in the form of the `tokenizers` library with the word mark of SentencePiece.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from string import ascii_lowercase

from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers, trainers

from auris.errors import TrainingError
from auris.text.prompt import CONTROL_TOKENS
from auris.text.tokenizer import AddedId, Tokenizer, qwen2_core

PROMPT_WORDS = "system user assistant language English language None"

WORD_MARK = "\u2581"
ALPHABET = [WORD_MARK, "'", *ascii_lowercase]
"""The characters of spoken text; a unit of its own each, so that every word can be written."""


def train_units(texts: Iterable[str], count: int, exactly: bool = True) -> Tokenizer:
    """Learn `count` units from spoken texts.

    Args:
        texts: as `auris.text.normalize.spoken` writes them.
        exactly: whether fewer units are an error.

    Raises:
        TrainingError: the texts are too few for so many units, or `count` is too small.
    """
    core = Core(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Metaspace(WORD_MARK, prepend_scheme="always")
    core.decoder = decoders.Metaspace(WORD_MARK, prepend_scheme="always")
    _learn(core, texts, count, ALPHABET, "characters of spoken text", exactly)
    return Tokenizer(core, {})


def train_vocabulary(texts: Sequence[str], count: int, exactly: bool = True) -> Tokenizer:
    """Learn a byte-level vocabulary of `count` tokens like that of Qwen2, with the control tokens
    of Qwen3-ASR after them.

    The words of the prompt get tokens of their own, so that a prompt has few tokens. `exactly` and
    errors as of `train_units`.
    """
    core = qwen2_core(models.BPE())
    prompts = [PROMPT_WORDS] * (1 + len(texts) // 4)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    _learn(core, itertools.chain(texts, prompts), count, alphabet, "bytes", exactly)
    added = {
        token: AddedId(core.get_vocab_size() + number, special)
        for number, (token, special) in enumerate(CONTROL_TOKENS.items())
    }
    return Tokenizer(core, added)


def _learn(
    core: Core, texts: Iterable[str], count: int, alphabet: list[str], letters: str, exactly: bool
) -> None:
    if count < len(alphabet):
        raise TrainingError(
            f"A vocabulary has to include the {len(alphabet)} {letters}",
            f"{count} units were requested",
            "raise units or vocabulary in the recipe",
        )
    trainer = trainers.BpeTrainer(
        vocab_size=count, initial_alphabet=alphabet, show_progress=False, special_tokens=[]
    )
    core.train_from_iterator(texts, trainer)
    if exactly and core.get_vocab_size() != count:
        raise TrainingError(
            f"The training texts have to yield {count} units",
            f"they yield {core.get_vocab_size()}",
            "lower units or vocabulary in the recipe, or add text",
        )
