"""Text units of a CTC model: byte-pair pieces of spoken text.

Source: Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units"
(2016), in the form of the `tokenizers` library with the word mark of SentencePiece.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from string import ascii_lowercase

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from auris.errors import TrainingError

__all__ = ["ALPHABET", "frames_needed", "train_units", "unit_ids"]

WORD_MARK = "\u2581"
ALPHABET = [WORD_MARK, "'", *ascii_lowercase]
"""The characters of spoken text; a unit of its own each, so that every word can be written."""


def train_units(texts: Iterable[str], count: int) -> Tokenizer:
    """Learn `count` units from spoken texts.

    Args:
        texts: as `auris.text.normalize.spoken` writes them.
        count: size of the vocabulary, at least that of the alphabet.

    Raises:
        TrainingError: the texts are too few for so many units, or `count` is too small.
    """
    if count < len(ALPHABET):
        raise TrainingError(
            f"the units have to include the {len(ALPHABET)} characters of spoken text",
            f"{count} units were asked for",
            "raise units in the recipe",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(WORD_MARK, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(WORD_MARK, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=count, initial_alphabet=ALPHABET, show_progress=False, special_tokens=[]
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != count:
        raise TrainingError(
            f"the training texts have to yield {count} units",
            f"they yield {tokenizer.get_vocab_size()}",
            "lower units in the recipe or add text",
        )
    return tokenizer


def unit_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a spoken text."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def frames_needed(ids: Sequence[int]) -> int:
    """Fewest encoder frames that CTC can align `ids` to: a repeat needs a blank between."""
    repeats = sum(left == right for left, right in itertools.pairwise(ids))
    return len(ids) + repeats
