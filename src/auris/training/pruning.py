"""Counted n-grams to a language model: which n-grams stay, backoff weights, 8-bit values.

Sources: Stolcke, "Entropy-based pruning of backoff language models" (1998), with histories
weighted by their counts, since lower orders of Kneser-Ney are no distributions of histories;
Chelba, Brants, Neveitt and Xu, "Study on interaction between entropy pruning and Kneser-Ney
smoothing" (2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.decoding.language_model import (
    IMPOSSIBLE,
    LanguageModel,
    Level,
)
from auris.training.ngrams import Corpus, Floats, Ints, NgramTable

Mask = NDArray[np.bool_]

EXACT = (0.0, IMPOSSIBLE)
"""Values that quantization does not change."""

BINS = 256 - len(EXACT)
"""Bins of a quantized array."""

LEAST_LEFT = 1e-6
"""Probability that the listed words of a history leave to others, at least."""

SEARCH_STEPS = 40


def prune_counts(tables: Sequence[NgramTable], least_counts: Sequence[int]) -> list[Mask]:
    """Which n-grams occur often enough; all of one word.

    Args:
        tables: the n-grams.
        least_counts: for n-grams of two words, of three, and so on; the last one is used for all
            longer ones.
    """
    needed = [1, *least_counts]
    needed += [needed[-1]] * (len(tables) - len(needed))
    masks = [t.counts >= least for t, least in zip(tables, needed, strict=False)]
    masks[0][:] = True
    return _with_histories(tables, masks)


def _with_histories(tables: Sequence[NgramTable], masks: Sequence[Mask]) -> list[Mask]:
    """Masks in which the first words of every n-gram are an n-gram, too."""
    masks = [mask.copy() for mask in masks]
    for number in range(len(tables) - 1, 0, -1):
        masks[number - 1][tables[number].parents[masks[number]]] = True
    return masks


def entropy_losses(tables: Sequence[NgramTable], masks: Sequence[Mask]) -> list[Floats]:
    """Relative entropy that the model loses with each n-gram, if it alone were removed."""
    losses = [np.full(len(tables[0]), np.inf)]
    words = float(tables[0].counts.sum())
    for shorter, table, mask in zip(tables, tables[1:], masks[1:], strict=False):
        own, lower = table.probabilities, shorter.probabilities[table.suffixes]
        history = table.parents
        left = _left_over(history, own, mask, len(shorter))[history]
        left_lower = _left_over(history, lower, mask, len(shorter))[history]
        backoff = np.log(left / left_lower)
        without = np.log((left + own) / (left_lower + lower))
        with np.errstate(divide="ignore"):
            change = own * (np.log(own) - np.log(lower) - without) + left * (backoff - without)
        losses.append(shorter.counts[history] / words * change)
    return losses


def _left_over(history: Ints, values: Floats, mask: Mask, size: int) -> Floats:
    """What the listed words of each history leave of a probability of 1."""
    listed = np.bincount(history[mask], values[mask], minlength=size)
    rest: Floats = np.maximum(1.0 - listed, LEAST_LEFT)
    return rest


def prune_entropy(
    tables: Sequence[NgramTable], masks: Sequence[Mask], losses: Sequence[Floats], least: float
) -> list[Mask]:
    """Masks without the n-grams whose loss is smaller, as far as longer ones do not need them."""
    pairs = zip(masks, losses, strict=True)
    return _with_histories(tables, [mask & (loss >= least) for mask, loss in pairs])


def prune_to_size(
    corpus: Corpus, tables: Sequence[NgramTable], masks: Sequence[Mask], most_bytes: int
) -> list[Mask]:
    """Masks with which the file of the quantized model has at most some bytes."""
    if _file_bytes(corpus, masks) <= most_bytes:
        return list(masks)
    losses = entropy_losses(tables, masks)
    low, high = -40.0, 0.0
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2.0
        fits = _file_bytes(corpus, prune_entropy(tables, masks, losses, float(np.exp(middle))))
        low, high = (low, middle) if fits <= most_bytes else (middle, high)
    return prune_entropy(tables, masks, losses, float(np.exp(high)))


def _file_bytes(corpus: Corpus, masks: Sequence[Mask]) -> int:
    """Size of the file of a quantized model."""
    word = np.min_scalar_type(len(corpus.vocabulary) - 1).itemsize
    letters = sum(len(spelled.encode()) + 1 for spelled in corpus.vocabulary)
    size = letters + corpus.spelling.logprobs.size * 2 + 4 * len(masks) * 2 * 256 + 4096
    for number, mask in enumerate(masks, 1):
        last = number == len(masks)
        entry = (0 if number == 1 else word) + 1 + (0 if last else 3)
        size += int(mask.sum()) * entry
    return size


def build_model(
    corpus: Corpus, tables: Sequence[NgramTable], masks: Sequence[Mask], quantized: bool
) -> LanguageModel:
    """The model of the n-grams that stay.

    Backoff weights are computed from the probabilities as they are stored, so that the
    probabilities after every history add up to 1, apart from the rounding of the weight.
    """
    word_type = np.min_scalar_type(len(corpus.vocabulary) - 1)
    levels: list[Level] = []
    # Probabilities that the model gives to the counted n-grams of a length, those that go too.
    effective = np.empty(0)
    for number, (table, mask) in enumerate(zip(tables, masks, strict=True)):
        logprobs, logprob_table = _stored(_logarithm(table.probabilities[mask]), quantized)
        own = np.exp(_values(logprobs, logprob_table))
        probabilities = np.zeros(len(table))
        if number:
            shorter = effective[table.suffixes]
            weights, children = _backoffs(table, mask, own, shorter, masks[number - 1])
            backoffs, backoff_table = _stored(weights, quantized)
            levels[-1] = replace(
                levels[-1], children=children, backoffs=backoffs, backoff_table=backoff_table
            )
            all_weights = np.zeros(len(masks[number - 1]))
            all_weights[masks[number - 1]] = _values(backoffs, backoff_table)
            probabilities = np.exp(all_weights[table.parents]) * shorter
        probabilities[mask] = own
        effective = probabilities
        words = table.words[mask].astype(word_type)
        levels.append(Level(words, logprobs, logprob_table=logprob_table))
    return LanguageModel(corpus.vocabulary, levels, corpus.spelling)


def _backoffs(
    table: NgramTable, mask: Mask, own: Floats, shorter: Floats, history_mask: Mask
) -> tuple[Floats, Ints]:
    """Log backoff weights of the histories that stay, and how many n-grams continue each.

    Args:
        table: counted n-grams.
        mask: which of them stay.
        own: probabilities of these.
        shorter: probabilities of all counted n-grams after the shorter history.
        history_mask: which histories stay.
    """
    size = len(history_mask)
    listed = np.zeros(len(table))
    listed[mask] = own
    left = _left_over(table.parents, listed, mask, size)
    left_shorter = _left_over(table.parents, shorter, mask, size)
    children = np.bincount(table.parents[mask], minlength=size)
    weights = np.where(children > 0, np.log(left / left_shorter), 0.0)
    return weights[history_mask], children[history_mask]


def _logarithm(probabilities: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        logarithms: Floats = np.maximum(np.log(probabilities), IMPOSSIBLE)
    return logarithms


def _stored(values: Floats, quantized: bool) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Values as float32; or quantized as indices of a table of 256 values.

    The bins are equally wide, and each stands for the mean of its values.
    """
    if not quantized:
        return values.astype(np.float32), None
    table = np.zeros(BINS + len(EXACT), np.float32)
    table[BINS:] = EXACT
    others = ~np.isin(values, EXACT)
    binned = values[others]
    codes = np.full(len(values), BINS, np.uint8)
    for number, exact in enumerate(EXACT):
        codes[values == exact] = BINS + number
    if len(binned):
        low, high = float(binned.min()), float(binned.max())
        width = max(high - low, 1e-9) / BINS
        bins = np.minimum((binned - low) / width, BINS - 1).astype(np.uint8)
        counts = np.bincount(bins, minlength=BINS)
        table[:BINS] = np.bincount(bins, binned, minlength=BINS) / np.maximum(counts, 1)
        codes[others] = bins
    return codes, table


def _values(stored: NDArray[Any], table: NDArray[np.float32] | None) -> Floats:
    return np.asarray(stored if table is None else table[stored], np.float64)


def quantize(model: LanguageModel) -> LanguageModel:
    """The model with values in 8 bits and words in as few bytes as they need."""
    word_type = np.min_scalar_type(len(model.vocabulary) - 1)
    levels = []
    for level in model.levels:
        logprobs, logprob_table = _stored(_values(level.logprobs, level.logprob_table), True)
        backoffs, backoff_table = None, None
        if level.backoffs is not None:
            backoffs, backoff_table = _stored(_values(level.backoffs, level.backoff_table), True)
        words = level.words.astype(word_type)
        levels.append(
            Level(words, logprobs, level.children, backoffs, logprob_table, backoff_table)
        )
    return LanguageModel(model.vocabulary, levels, model.spelling, model.unknown_penalty)
