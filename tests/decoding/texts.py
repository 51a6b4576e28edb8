"""Texts and language models of toy size."""

from __future__ import annotations

from functools import cache

import numpy as np

from auris.decoding.language_model import SPECIAL_WORDS, LanguageModel
from auris.decoding.spelling import learn_spelling
from auris.training.ngrams import Corpus, count_ngrams, estimate
from auris.training.pruning import build_model, prune_counts

TEXTS = [
    "the cat sat on the mat",
    "the cat's mat",
    "the dog sat on the cat",
    "she sells sea shells on the sea shore",
    "the shells she sells are sea shells",
    "the cat and the dog sat",
    "so the dog sat there then",
    "then she sat on the shore",
]


def toy_corpus() -> Corpus:
    """The texts as a corpus."""
    vocabulary = [*SPECIAL_WORDS, *sorted({word for text in TEXTS for word in text.split()})]
    index = {word: number for number, word in enumerate(vocabulary)}
    ids = [index[word] for text in TEXTS for word in f"<s> {text} </s>".split()]
    spelling = learn_spelling(vocabulary[len(SPECIAL_WORDS) :])
    return Corpus(vocabulary, np.array(ids, np.int32), spelling, len(TEXTS), 0)


@cache
def small_model(order: int = 3, quantized: bool = False) -> LanguageModel:
    """A model of the texts, with the n-grams of three and more words that occur twice."""
    corpus = toy_corpus()
    tables = estimate(count_ngrams(corpus, order))
    return build_model(corpus, tables, prune_counts(tables, [1, 2]), quantized)
