"""From texts to the file of a language model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from auris.checkpoints.atomic import new_file
from auris.decoding.arpa import MOST_ORDER, is_arpa, read_arpa, write_arpa
from auris.decoding.language_model import UNKNOWN, LanguageModel
from auris.decoding.language_model_file import packed_model
from auris.errors import OutputError, TrainingError, UsageError
from auris.training.ngrams import count_ngrams, estimate, read_corpus, sentences
from auris.training.pruning import build_model, prune_counts, prune_to_size, quantize

MOST_WORDS = 65_000
"""Largest vocabulary: its words fit into 16 bits."""

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class LanguageModelSettings:
    """How a language model is estimated.

    Attributes:
        order: length of the longest n-grams.
        most_words: size of the vocabulary; the most frequent words are in it.
        least_count: how often a word has to occur to be in it.
        prune: n-grams of two words, of three, and so on stay if they occur more often than this;
            the last number stands for all longer ones.
        most_bytes: size of the file; n-grams that matter least are removed; None for no limit.
        quantized: store values in 8 bits.
    """

    order: int = 3
    most_words: int = 60_000
    least_count: int = 2
    prune: tuple[int, ...] = (0, 1)
    most_bytes: int | None = None
    quantized: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.order <= MOST_ORDER:
            raise UsageError(
                f"--order has to be 2 to {MOST_ORDER}", f"it is {self.order}", "choose 3"
            )
        if not 1 <= self.most_words <= MOST_WORDS:
            raise UsageError(
                f"--vocabulary has to be 1 to {MOST_WORDS} words",
                f"it is {self.most_words}",
                "choose a smaller vocabulary",
            )
        if not self.prune or list(self.prune) != sorted(self.prune) or min(self.prune) < 0:
            raise UsageError(
                "--prune takes counts from 0 on that do not fall, for n-grams of 2 words, of 3, "
                "and so on",
                f"they are {','.join(map(str, self.prune)) or 'empty'}",
                "write for example 0,1",
            )


def train_language_model(
    texts: Sequence[Path],
    settings: LanguageModelSettings,
    report: Callable[[str], object] = lambda _: None,
) -> LanguageModel:
    """Estimate a model from texts.

    Args:
        texts: text files with a sentence a line; a file that is given twice counts twice.
        report: called with a line of text after every step.

    Raises:
        TrainingError: a file cannot be read, or the texts are too small.
    """
    corpus = read_corpus(texts, settings.most_words, settings.least_count)
    unknown = int((corpus.ids == UNKNOWN).sum())
    report(
        f"read {corpus.sentences} sentences, {corpus.words} words; the vocabulary has "
        f"{len(corpus.vocabulary)} words and lacks {unknown / corpus.words:.1%} of the text"
    )
    if corpus.skipped:
        report(f"skipped {corpus.skipped} lines that do not say how they are spoken")
    tables = estimate(count_ngrams(corpus, settings.order))
    report(f"counted n-grams of 1 to {settings.order} words: {_numbers(map(len, tables))}")
    masks = prune_counts(tables, [count + 1 for count in settings.prune])
    if settings.most_bytes is not None:
        masks = prune_to_size(corpus, tables, masks, settings.most_bytes)
        if not masks[1].any():
            raise TrainingError(
                "--max-size has to leave room for the vocabulary and some n-grams",
                f"it is {settings.most_bytes / MEGABYTE:g} MB for {len(corpus.vocabulary)} words",
                "raise it, or choose a smaller --vocabulary",
            )
    model = build_model(corpus, tables, masks, settings.quantized)
    report(f"stored n-grams of 1 to {settings.order} words: {_numbers(_sizes(model))}")
    return model


def load_or_train(
    texts: Sequence[Path],
    settings: LanguageModelSettings,
    report: Callable[[str], object] = lambda _: None,
) -> LanguageModel:
    """Convert a single ARPA file, or estimate a model from texts, see `train_language_model`.

    Raises:
        UsageError: an ARPA file is among several files.
        CheckpointError: the ARPA file is damaged.
    """
    if not any(map(is_arpa, texts)):
        return train_language_model(texts, settings, report)
    if len(texts) > 1:
        raise UsageError(
            "An ARPA file is converted by itself",
            f"{len(texts)} files are named",
            "name one ARPA file, or text files",
        )
    model = read_arpa(texts[0])
    report(f"read n-grams of 1 to {model.order} words: {_numbers(_sizes(model))}")
    return quantize(model) if settings.quantized else model


def _sizes(model: LanguageModel) -> list[int]:
    return [len(level.words) for level in model.levels]


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(str(int(value)) for value in values)


def save_language_model(model: LanguageModel, path: Path) -> int:
    """Write a model, as an ARPA file where the name ends with .arpa; returns its bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    if path.suffix == ".arpa":
        content = ("\n".join(write_arpa(model)) + "\n").encode()
    else:
        content = packed_model(model)
    try:
        with new_file(path) as file:
            file.write(content)
    except OSError as error:
        raise OutputError(
            f"The language model {str(path)!r} cannot be written ({error})",
            "",
            "choose another --out",
        ) from None
    return len(content)


@dataclass(frozen=True)
class TextScore:
    """How well a model predicts a text.

    Attributes:
        words: number of words, and of ends of sentences.
        perplexity: of all words; not a number without any.
        known_perplexity: of the words of the vocabulary alone.
        unknown: share of the words that are not in the vocabulary.
    """

    words: int
    perplexity: float
    known_perplexity: float
    unknown: float


def score_text(model: LanguageModel, paths: Iterable[Path]) -> TextScore:
    """Score text files with a sentence a line; errors as of `train_language_model`."""
    known: list[float] = []
    unknown: list[float] = []
    for lines in sentences(paths):
        for line in filter(None, lines):
            words = line.split()
            for word, logprob in zip([*words, None], model.sentence(words), strict=True):
                is_known = word is None or model.is_known(word)
                (known if is_known else unknown).append(logprob)
    return TextScore(
        len(known) + len(unknown),
        _perplexity(known + unknown),
        _perplexity(known),
        len(unknown) / max(1, len(known) + len(unknown)),
    )


def _perplexity(logprobs: Sequence[float]) -> float:
    return math.exp(-sum(logprobs) / len(logprobs)) if logprobs else math.nan
