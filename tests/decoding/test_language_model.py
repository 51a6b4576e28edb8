"""Language models: probabilities, beginnings of words, and files."""

from __future__ import annotations

import gc
import gzip
import lzma
import math
import weakref
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.decoding.arpa import read_arpa, write_arpa
from auris.decoding.language_model import SPECIAL_WORDS, UNKNOWN, LanguageModel
from auris.decoding.language_model_file import load_language_model, packed_model
from auris.decoding.scoring import text_score
from auris.decoding.word_scorer import WordScorer
from auris.errors import CheckpointError
from tests.decoding.scorers import state_after
from tests.decoding.texts import TEXTS, small_model

ARPA = """\
\\data\\
ngram 1=6
ngram 2=4
ngram 3=1

\\1-grams:
-99 <s> -0.30103
-1.0 </s>
-1.3 <unk> -0.1
-0.5 THE -0.2
-0.9 cat
-1.1 can't -0.05

\\2-grams:
-0.25 <s> THE -0.4
-0.30 THE cat -0.15
-0.70 cat </s>
-0.60 can't THE

\\3-grams:
-0.125 <s> THE cat

\\end\\
"""

WORDS = sorted({word for text in TEXTS for word in text.split()})

text_words = st.lists(st.sampled_from([*WORDS, "zebra", "o'x"]), max_size=5)


def sum_after(model: LanguageModel, words: Sequence[str]) -> float:
    """Sum of the probabilities of the vocabulary after some words."""
    history = model.start()
    for word in words:
        _, history = model.word(history, word)
    return float(np.exp(history.logprobs(np.arange(len(model.vocabulary)))).sum())


@pytest.mark.parametrize("order", [2, 3, 4])
@given(words=text_words)
def test_probabilities_add_up_to_1_after_every_history(order: int, words: list[str]) -> None:
    assert sum_after(small_model(order), words) == pytest.approx(1.0, abs=1e-5)


@given(words=text_words)
def test_quantized_probabilities_add_up_to_almost_1(words: list[str]) -> None:
    assert sum_after(small_model(quantized=True), words) == pytest.approx(1.0, abs=0.02)


@given(words=text_words, word=st.sampled_from(WORDS))
def test_one_probability_equals_that_of_all(words: list[str], word: str) -> None:
    model = small_model()
    history = model.start()
    for before in words:
        _, history = model.word(history, before)
    logprobs = history.logprobs(np.arange(len(model.vocabulary)))
    logprob, _ = model.word(history, word)
    assert logprob == pytest.approx(logprobs[model.id(word)], abs=1e-9)


@given(words=text_words, letters=st.sampled_from(["t", "th", "the", "s", "q", "o'", "zeb"]))
def test_the_probability_of_a_beginning_is_that_of_its_words(
    words: list[str], letters: str
) -> None:
    model = small_model()
    history = model.start()
    for word in words:
        _, history = model.word(history, word)
    begun = [word for word in model.vocabulary[len(SPECIAL_WORDS) :] if word.startswith(letters)]
    expected = sum(math.exp(model.word(history, word)[0]) for word in begun)
    expected += math.exp(history.logprob(UNKNOWN) + model.spelling.prefix(letters))
    assert model.prefix(history, letters) == pytest.approx(math.log(expected), abs=1e-6)


def test_letters_of_a_beginning_add_up_to_the_beginning_before() -> None:
    model = small_model()
    history = model.start()
    for beginning in ("", "t", "the", "mm"):
        letters = model.spelling.letters
        longer = sum(math.exp(model.prefix(history, beginning + letter)) for letter in letters)
        whole_words = 1.0 if beginning == "" else math.exp(model.prefix(history, beginning))
        assert longer <= whole_words + 1e-6


def test_an_unknown_word_is_less_probable_the_stranger_its_letters_are() -> None:
    model = small_model()
    history = model.start()
    assert not model.is_known("sheat")
    logprobs = [model.word(history, word)[0] for word in ("sheat", "mmmmm", "mmmmmmmm")]
    assert sorted(logprobs, reverse=True) == logprobs
    assert all(math.isfinite(logprob) for logprob in logprobs)


def letter_bytes(token: int) -> bytes:
    """Tokens that are bytes."""
    return bytes([token])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the cat sat", "the cat sat"),
        (" The CAT, sat. ", "the cat sat"),
        ("‘the’ cat's 'sat'", "the cat's sat"),
        ("thé cat—sat…", "the cat sat"),
        ("zebra the", "zebra the"),
    ],
)
def test_scores_of_tokens_add_up_to_those_of_the_words(text: str, words: str) -> None:
    model = small_model()
    scorer = WordScorer(model, letter_bytes, weight=0.5, word_bonus=0.25)
    state, total = scorer.start(), 0.0
    for byte in text.encode():
        ((score, state),) = scorer.extend(state, [byte], [0.0])
        total += score
    total += scorer.end(state)
    expected = model.sentence(words.split())[:-1]
    assert total == pytest.approx(0.5 * sum(expected) + 0.25 * len(expected), abs=1e-9)


def test_a_word_of_other_characters_is_an_unknown_word() -> None:
    model = small_model()
    scorer = WordScorer(model, letter_bytes)
    state, total = scorer.start(), 0.0
    for byte in "42 字".encode():
        ((score, state),) = scorer.extend(state, [byte], [0.0])
        total += score
    total += scorer.end(state)
    assert total == pytest.approx(sum(model.sentence(["42", "字"])[:-1]), abs=1e-9)
    assert math.isfinite(total)


def test_a_score_acts_inside_of_a_word() -> None:
    model = small_model()
    scorer = WordScorer(model, letter_bytes)
    ((likely, _), (unlikely, _)) = scorer.extend(scorer.start(), [ord("t"), ord("q")], [0.0, 0.0])
    assert likely > unlikely + 1.0


PARTS = [
    "t",
    " t",
    "he",
    " cat",
    "'",
    "' ",
    "'s ",
    "s, ",
    " o",
    " zq",
    "x y z",
    "\u0301",
    "é",
    " 字",
]


@given(
    st.lists(st.integers(0, len(PARTS) - 1), max_size=8),
    st.sampled_from([-0.5, 0.0, 0.5]),
    st.booleans(),
)
def test_no_score_is_larger_than_the_most(
    text: list[int], word_bonus: float, quantized: bool
) -> None:
    model = small_model(quantized=quantized)
    scorer = WordScorer(model, lambda token: PARTS[token].encode(), 0.5, word_bonus)
    state, tokens = state_after(scorer, text), range(len(PARTS))
    scores = [score for score, _ in scorer.extend(state, tokens, [0.0] * len(PARTS))]
    (most,) = scorer.most([state], np.array([tokens])).tolist()
    for part, score, bound in zip(PARTS, scores, most, strict=True):
        assert score <= bound + 1e-9, part
    written = "".join(PARTS[one] for one in text).replace("\u0301", "")
    assert math.isfinite(max(most)) or written.endswith("'")


def test_scores_do_not_depend_on_what_was_scored_before() -> None:
    used, fresh = (WordScorer(small_model(), letter_bytes) for _ in range(2))
    for text in (b"the cat", b"sat on", b"zebra"):
        state = used.start()
        for byte in text:
            ((_, state),) = used.extend(state, [byte], [0.0])
    one, other = used.start(), fresh.start()
    for byte in b"on the mat":
        ((first, one),) = used.extend(one, [byte], [0.0])
        ((second, other),) = fresh.extend(other, [byte], [-3.0])
        assert first == second


def count_states() -> int:
    """States of scorers that are in memory, in use or not."""
    return sum(type(thing).__name__ == "_WordState" for thing in gc.get_objects())


def test_caches_stay_small_over_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    def cached_after_texts(most: int) -> int:
        monkeypatch.setattr("auris.decoding.word_scorer.MOST_STATES", most)
        monkeypatch.setattr("auris.decoding.language_model.MOST_HISTORIES", most)
        scorer = WordScorer(small_model(), letter_bytes)
        gc.collect()
        gc.disable()  # What is left to the garbage collector counts, too.
        try:
            before = count_states()
            scores = [text_score(scorer, tuple(text)) for text in texts]
            cached = count_states() - before
        finally:
            gc.enable()
        assert scores[-1] == text_score(WordScorer(small_model(), letter_bytes), tuple(texts[-1]))
        return cached

    texts = [" ".join(words).encode() for words in product(WORDS[:8], repeat=3)]
    longest = max(map(len, texts))
    assert cached_after_texts(most=10) <= 10 + longest + 2
    assert cached_after_texts(most=10**6) > 100


def test_arpa_probabilities_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA, encoding="utf-8")
    model = read_arpa(path)
    sentence = ["THE", "cat", "can't", "dog"]
    found = [logprob / math.log(10) for logprob in model.sentence(sentence)]
    spelled = model.spelling.word("dog") / math.log(10)
    # cat after "<s> THE"; can't after cat, whose backoff weight is 0.15 after THE; the unknown
    # word after can't; the end after the unknown word.
    expected = [-0.25, -0.125, -0.15 - 1.1, -0.05 - 1.3 + spelled, -0.1 - 1.0]
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_case_of_an_arpa_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA.replace("cat", "CAT").replace("can't", "CAN'T"), encoding="utf-8")
    scorer = WordScorer(read_arpa(path), letter_bytes)
    state, total = scorer.start(), 0.0
    for byte in "the Cat can’t".encode():
        ((score, state),) = scorer.extend(state, [byte], [0.0])
        total += score
    expected = (-0.25 - 0.125 - 0.15 - 1.1) * math.log(10)
    assert total + scorer.end(state) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_arpa_files_give_the_same_model_again(tmp_path: Path, suffix: str) -> None:
    model = small_model()
    content = "\n".join(write_arpa(model)).encode()
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    path = tmp_path / f"model.arpa{suffix}"
    path.write_bytes(pack(content))
    again = read_arpa(path)
    assert again.vocabulary == model.vocabulary
    for text in [*TEXTS, "zebra the mat"]:
        words = text.split()
        known = [model.is_known(word) for word in words]
        pairs = zip(model.sentence(words), again.sentence(words), [*known, True], strict=True)
        for one, other, is_known in pairs:
            assert not is_known or one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_damaged_compressed_files_are_refused(tmp_path: Path, suffix: str) -> None:
    content = bytearray({".gz": gzip.compress, ".xz": lzma.compress}[suffix](ARPA.encode()))
    content[len(content) // 4 : -8] = bytes(len(content) - 8 - len(content) // 4)
    path = tmp_path / f"model.arpa{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_arpa(path)
    with pytest.raises(CheckpointError, match="is neither"):
        load_language_model(path)


@pytest.mark.parametrize("quantized", [False, True])
def test_files_give_the_same_model_again(tmp_path: Path, quantized: bool) -> None:
    model = small_model(quantized=quantized)
    path = tmp_path / "words.ngrams"
    path.write_bytes(packed_model(model))
    again = load_language_model(path)
    assert again.vocabulary == model.vocabulary
    for text in TEXTS:
        assert again.sentence(text.split()) == model.sentence(text.split())


@pytest.mark.parametrize("size", [0, 7, 100, 3000])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    content = packed_model(small_model())
    path = tmp_path / "words.ngrams"
    path.write_bytes(content[:size])
    with pytest.raises(CheckpointError, match="auris train lm"):
        load_language_model(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"order":"3"', b'"order":1e9999'),
        (b'"shape":[', b'"shape":["ab",99999999999,'),
        (b'"shape":[', b'"shape":["ab",9999999999999999999999,'),
    ],
)
def test_impossible_numbers_in_the_header_are_refused(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    content = packed_model(small_model())
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].replace(old, new)
    assert header != content[8 : 8 + length]
    path = tmp_path / "words.ngrams"
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    with pytest.raises(CheckpointError, match="auris train lm"):
        load_language_model(path)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("ngram 3=1", "ngram 3=2", "line 23"),
        ("<s> THE cat\n", "cat THE cat\n", "first words"),
        ("-0.30 THE cat -0.15", "-0.30 THE dog -0.15", "dog"),
        ("-0.30 THE", "x THE", "line 16"),
        ("\\end\\", "", "ends early"),
        ("\\2-grams:", "\\4-grams:", "4-grams"),
        ("-0.30 THE cat", "nan THE cat", "line 16 .* is nan"),
        ("-0.30 THE cat", "0.3 THE cat", "line 16 .* is 0.3"),
        ("THE cat -0.15", "THE cat inf", "line 16 .* backoff weight is inf"),
        ("THE cat -0.15", "THE cat -1e39", "line 16 .* backoff weight is -1e39"),
        ("ngram 1=", "ngram 1=0\nngram 1=", "length is 1"),
        ("THE", "\udce9", "can't decode"),
    ],
)
def test_damaged_arpa_files_are_refused_with_the_line(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA.replace(old, new), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(CheckpointError, match=fault):
        load_language_model(path)


def test_an_arpa_file_without_words_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    path.write_text("\\data\\\nngram 1=0\n\n\\1-grams:\n\n\\end\\\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="no words"):
        load_language_model(path)


@pytest.mark.parametrize("logprob", ["-inf", "-1e39"])
def test_impossible_n_grams_of_an_arpa_file_have_finite_scores(
    tmp_path: Path, logprob: str
) -> None:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA.replace("-0.30 THE cat", f"{logprob} THE cat"), encoding="utf-8")
    scorer = WordScorer(load_language_model(path), letter_bytes)
    scores = [text_score(scorer, tuple(text)) for text in (b"THE cat", b"THE dog", b"cat THE cat")]
    assert all(map(math.isfinite, scores))
    assert scores[2] < -200


@pytest.mark.parametrize("before", ["\ufeff", "# of a program\n\n", "\r\n"])
def test_an_arpa_file_may_begin_with_other_lines(tmp_path: Path, before: str) -> None:
    path = tmp_path / "model.arpa"
    path.write_text(before + ARPA, encoding="utf-8")
    assert load_language_model(path).vocabulary == read_arpa(path).vocabulary


def test_a_scorer_does_not_wait_for_the_garbage_collector() -> None:
    scorer = WordScorer(small_model(), letter_bytes)
    scorer.most([scorer.start()], np.array([[0, 1, 2]]))
    reference = weakref.ref(scorer)
    gc.disable()
    try:
        del scorer
        assert reference() is None
    finally:
        gc.enable()
