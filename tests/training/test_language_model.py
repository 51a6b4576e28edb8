"""Estimation of language models: Kneser-Ney by its definition, pruning, and the command."""

from __future__ import annotations

import gzip
import lzma
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from auris.decoding.language_model import SENTENCE_BEGIN, SPECIAL_WORDS
from auris.decoding.language_model_file import load_language_model
from auris.errors import AurisError, TrainingError, UsageError
from auris.training.language_model import (
    LanguageModelSettings,
    load_or_train,
    save_language_model,
    score_text,
    train_language_model,
)
from auris.training.ngrams import Corpus, count_ngrams, estimate, read_corpus
from auris.training.pruning import build_model, entropy_losses, prune_counts, prune_to_size
from tests.decoding.texts import TEXTS, small_model, toy_corpus

Gram = tuple[str, ...]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """The texts as a file."""
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


def discounts(counts: Mapping[Gram, int]) -> list[float]:
    """Equation 26 of Chen and Goodman."""
    n = [sum(count == k for count in counts.values()) for k in range(1, 5)]
    share = n[0] / (n[0] + 2 * n[1])
    return [0.0, *(k - (k + 1) * share * n[k] / n[k - 1] for k in range(1, 4))]


def by_definition(order: int) -> dict[Gram, float]:
    """Interpolated probabilities of all n-grams of the texts, from dictionaries of counts."""
    sentences = [f"<s> {line} </s>".split() for line in TEXTS]
    raw: dict[int, Counter[Gram]] = {
        length: Counter(
            tuple(sentence[i : i + length])
            for sentence in sentences
            for i in range(len(sentence) - length + 1)
        )
        for length in range(1, order + 1)
    }
    words = {gram[0] for gram in raw[1]} | {"<unk>"}
    result: dict[Gram, float] = {("<s>",): 0.0}
    for length in range(1, order + 1):
        counts: dict[Gram, int] = dict(raw[length])
        if length < order:
            before = Counter(gram[1:] for gram in raw[length + 1])
            counts = {
                gram: raw[length][gram] if gram[0] == "<s>" and length > 1 else before[gram]
                for gram in counts
            }
        taken = discounts(counts)
        if not all(0 <= taken[k] <= k for k in range(4)):
            taken = [0.0, 0.5, 1.0, 1.5]
        for gram in [*counts, *([("<unk>",)] if length == 1 else [])]:
            if gram == ("<s>",):
                continue
            followers = {g: c for g, c in counts.items() if g[:-1] == gram[:-1]}
            total = sum(followers.values())
            count = counts.get(gram, 0)
            left = sum(taken[min(c, 3)] for c in followers.values()) / total
            shorter = result[gram[1:]] if length > 1 else 1.0 / (len(words) - 1)
            result[gram] = (count - taken[min(count, 3)]) / total + left * shorter
    return result


@pytest.mark.parametrize("order", [2, 3])
def test_probabilities_equal_their_definition(order: int) -> None:
    corpus = toy_corpus()
    tables = estimate(count_ngrams(corpus, order))
    expected = by_definition(order)
    spelled: list[Gram] = [()]
    count = 0
    for table in tables:
        spelled = [
            (*spelled[parent], corpus.vocabulary[word])
            for parent, word in zip(table.parents, table.words, strict=True)
        ]
        for gram, probability in zip(spelled, table.probabilities, strict=True):
            assert probability == pytest.approx(expected[gram], abs=1e-12), gram
            count += 1
    assert count == len(expected)


def test_without_pruning_the_model_has_the_probabilities_of_the_counts() -> None:
    corpus = toy_corpus()
    tables = estimate(count_ngrams(corpus, 3))
    model = build_model(corpus, tables, prune_counts(tables, [1]), quantized=False)
    expected = by_definition(3)
    words = ["<s>", *TEXTS[0].split(), "</s>"]
    found = model.sentence(words[1:-1])
    for number, logprob in enumerate(found):
        gram = tuple(words[max(0, number - 1) : number + 2])
        assert math.exp(logprob) == pytest.approx(expected[gram], rel=1e-5)


def test_n_grams_that_change_little_go_first() -> None:
    corpus = toy_corpus()
    tables = estimate(count_ngrams(corpus, 3))
    masks = prune_counts(tables, [1])
    losses = entropy_losses(tables, masks)
    full = sum(
        map(sum, (build_model(corpus, tables, masks, False).sentence(t.split()) for t in TEXTS))
    )
    changes = []
    for index in (int(losses[2].argmax()), int(losses[2].argmin())):
        fewer = [mask.copy() for mask in masks]
        fewer[2][index] = False
        model = build_model(corpus, tables, fewer, False)
        changes.append(full - sum(sum(model.sentence(line.split())) for line in TEXTS))
    assert changes[0] > changes[1]


def many_words(words: int, sentences: int) -> Corpus:
    """Random text of a vocabulary."""
    random = np.random.default_rng(5)
    vocabulary = [*SPECIAL_WORDS, *(f"w{number:05}" for number in range(words))]
    ids = random.zipf(1.3, (sentences, 12)) % words + len(SPECIAL_WORDS)
    ids[:, 0], ids[:, -1] = SENTENCE_BEGIN, SENTENCE_BEGIN + 1
    spelling = small_model().spelling
    return Corpus(vocabulary, ids.reshape(-1).astype(np.int32), spelling, sentences, 0)


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_a_file_has_at_most_the_bytes_that_are_allowed(tmp_path: Path, share: float) -> None:
    corpus = many_words(2_000, 3_000)
    tables = estimate(count_ngrams(corpus, 3))
    masks = prune_counts(tables, [1])
    path = tmp_path / "words.ngrams"
    whole = save_language_model(build_model(corpus, tables, masks, True), path)
    limit = int(whole * share)
    fewer = prune_to_size(corpus, tables, masks, limit)
    size = save_language_model(build_model(corpus, tables, fewer, True), path)
    assert 0.8 * limit <= size <= limit


def test_texts_are_normalized_and_what_is_not_spoken_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "text.txt.xz"
    path.write_bytes(lzma.compress("The cat’s HERE!\n\nIn 1984 he left.\nDon't, ‘café’\n".encode()))
    corpus = read_corpus([path], 100, 1)
    assert corpus.vocabulary[3:] == sorted(["the", "cat's", "here", "don't", "cafe"])
    assert (corpus.sentences, corpus.words, corpus.skipped) == (2, 5, 1)


def test_rare_words_become_the_unknown_word(text: Path) -> None:
    model = train_language_model([text], LanguageModelSettings(most_words=5))
    assert model.vocabulary[3:] == ["cat", "dog", "on", "sat", "the"]
    (logprob, *_) = model.sentence(["unheard"])
    assert -40 < logprob < model.sentence(["the"])[0]


def test_texts_are_more_probable_than_their_words_in_another_order(text: Path) -> None:
    model = train_language_model([text], LanguageModelSettings(least_count=1))
    for line in TEXTS:
        words = line.split()
        assert sum(model.sentence(words)) > sum(model.sentence(words[::-1]))


@pytest.mark.parametrize("name", ["words.ngrams", "words.arpa"])
def test_a_saved_model_scores_as_before(tmp_path: Path, text: Path, name: str) -> None:
    model = train_language_model([text], LanguageModelSettings(least_count=1))
    save_language_model(model, tmp_path / name)
    again = load_language_model(tmp_path / name)
    for one, other in zip(
        model.sentence(TEXTS[0].split()), again.sentence(TEXTS[0].split()), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-4)


def test_an_arpa_file_is_converted(tmp_path: Path, text: Path) -> None:
    model = train_language_model([text], LanguageModelSettings(least_count=1, quantized=False))
    save_language_model(model, tmp_path / "words.arpa")
    converted = load_or_train([tmp_path / "words.arpa"], LanguageModelSettings())
    assert converted.levels[0].logprob_table is not None
    one, other = (score_text(m, [text]).perplexity for m in (model, converted))
    assert one == pytest.approx(other, rel=0.02)


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_damaged_texts_are_refused(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    whole = bytearray(compress(b"one two three\n" * 20))
    whole[10:20] = b"\xff" * 10  # Behind the marks of the formats.
    damaged = tmp_path / f"text.txt{suffix}"
    damaged.write_bytes(whole)
    with pytest.raises(TrainingError, match="cannot be read"):
        train_language_model([damaged], LanguageModelSettings())


def test_missing_texts_are_refused(tmp_path: Path, text: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        train_language_model([tmp_path / "none.txt"], LanguageModelSettings())
    save_language_model(small_model(), tmp_path / "a.arpa")
    with pytest.raises(UsageError, match="ARPA file is converted by itself"):
        load_or_train([text, tmp_path / "a.arpa"], LanguageModelSettings())
    with pytest.raises(AurisError, match="correct the path"):
        load_language_model(tmp_path / "none.ngrams")
