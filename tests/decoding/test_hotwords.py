"""Hotwords: what they add to the score of a text does not depend on its tokens."""

from __future__ import annotations

import re
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.decoding.hotwords import LEAST_MARGIN, Hotwords, LocatedHotwords, Location, spellings
from auris.decoding.scoring import State
from tests.decoding.scorers import state_after

PHRASES = ["Ana", "ana b", "b ana c", "a b", "ab", "你好", "好 a", "é"]


def token_bytes(token: int) -> bytes:
    """Each byte is a token; larger ones are all pairs of bytes."""
    return bytes([token]) if token < 256 else bytes([(token - 256) >> 8, (token - 256) & 255])


def tokens_of(data: bytes, cuts: set[int]) -> list[int]:
    """Tokens that write some bytes, some of them pairs."""
    tokens, place = [], 0
    while place < len(data):
        if place in cuts and place + 1 < len(data):
            tokens.append(256 + (data[place] << 8) + data[place + 1])
            place += 2
        else:
            tokens.append(data[place])
            place += 1
    return tokens


def walk(hotwords: Hotwords, tokens: list[int], margin: float = 0.0) -> tuple[list[float], State]:
    """The score of each token, and the state after them."""
    state, scores = hotwords.start(), []
    for token in tokens:
        ((score, state),) = hotwords.extend(state, [token], [margin])
        scores.append(score)
    return scores, state


def score(hotwords: Hotwords, text: str, cuts: set[int] | None = None) -> float:
    """The score of a whole text."""
    scores, state = walk(hotwords, tokens_of(text.encode(), cuts or set()))
    return sum(scores) + hotwords.end(state)


def by_definition(phrases: list[str], text: str) -> float:
    """The bonus of phrases from left to right, the longest first, at boundaries of words."""
    bonus: dict[str, float] = {}
    for phrase in phrases:
        for spelling in spellings(phrase):
            alone = score(Hotwords([phrase], token_bytes), spelling)
            bonus[spelling] = max(alone, bonus.get(spelling, 0.0))
    letter = "[A-Za-zé]"
    pattern = "|".join(
        (f"(?<!{letter})" if re.match(letter, one) else "")
        + re.escape(one)
        + (f"(?!{letter})" if re.match(letter, one[-1]) else "")
        for one in sorted(bonus, key=len, reverse=True)
    )
    return sum(bonus[match.group()] for match in re.finditer(pattern, text))


@given(
    st.lists(st.sampled_from(PHRASES), min_size=1, unique=True),
    st.lists(st.sampled_from([*"aAnbcé你好 -", "ana", " ana b", "ab "]), max_size=14).map("".join),
    st.sets(st.integers(0, 40)),
)
def test_a_text_has_the_bonus_of_its_phrases_whatever_its_tokens(
    phrases: list[str], text: str, cuts: set[int]
) -> None:
    hotwords = Hotwords(phrases, token_bytes)
    expected = by_definition(phrases, text)
    assert score(hotwords, text, cuts) == pytest.approx(expected, abs=1e-9)


def test_every_token_of_a_phrase_adds_to_the_score_and_a_break_takes_it_back() -> None:
    hotwords = Hotwords(["Auris"], token_bytes)
    scores, _ = walk(hotwords, tokens_of(b"Auris", set()))
    assert min(scores) > 0
    scores, _ = walk(hotwords, tokens_of(b"Aural", set()))
    assert min(scores[:3]) > 0
    assert list(accumulate(scores))[-2:] == pytest.approx([0.0, 0.0])
    complete, broken = (score(hotwords, text) for text in ("an Auris.", "an Aurist."))
    assert complete > 0
    assert broken == pytest.approx(0.0)


@given(
    st.lists(st.sampled_from(PHRASES), min_size=1, unique=True),
    st.lists(st.sampled_from([*"aAnbcé你好 -", "ana", " ana b"]), max_size=8).map("".join),
    st.lists(st.sampled_from([*"aAnbcé你好 -"]), min_size=2, max_size=12).map("".join),
    st.sets(st.integers(0, 40)),
    st.sampled_from([0.0, -1.0, -20.0]),
)
def test_tokens_that_are_not_affected_score_nothing(
    phrases: list[str], text: str, following: str, cuts: set[int], margin: float
) -> None:
    hotwords = Hotwords(phrases, token_bytes)
    located = LocatedHotwords(hotwords, {phrases[0]: [Location(0, 2, frozenset({0, 1, 3}))]})
    tokens = tokens_of(following.encode(), cuts)
    margins = [margin] * len(tokens)
    for scorer in (hotwords, located):
        state = state_after(scorer, tokens_of(text.encode(), cuts))
        scores = [score for score, _ in scorer.extend(state, tokens, margins)]
        affected = scorer.affected(state, tokens, margins)
        assert [score for n, score in enumerate(scores) if n not in affected and score] == []


def test_a_token_that_begins_a_phrase_is_affected() -> None:
    hotwords = Hotwords(["ana", "好"], token_bytes)
    tokens = [*b"aAbn", *tokens_of(b" axa", {0, 2}), *"好".encode()]
    begins = [token_bytes(token) in (b"a", b"A", b" a", "好".encode()[:1]) for token in tokens]
    affected = hotwords.affected(hotwords.start(), tokens, [0.0] * len(tokens))
    assert affected == [number for number, begin in enumerate(begins) if begin]
    assert hotwords.affected(hotwords.start(), tokens, [-20.0] * len(tokens)) == []


def test_one_token_is_scored_as_among_others() -> None:
    hotwords = Hotwords(["ab", "Ana"], token_bytes)
    located = LocatedHotwords(hotwords, {"ab": [Location(0, 2, frozenset({0, 1}))]})
    tokens, margins = [*b"abA n"], [0.0, -1.0, -20.0, 0.0, -8.0]
    for scorer in (hotwords, located):
        for text in (b"", b"a", b"ab", b"x "):
            state = state_after(scorer, [*text])
            pairs = zip(tokens, margins, strict=True)
            alone = [scorer.follow(state, *one) for one in pairs]
            assert alone == scorer.extend(state, tokens, margins)


def test_the_given_letter_case_has_the_largest_bonus() -> None:
    hotwords = Hotwords(["iPhone"], token_bytes)
    given_case, lower, title, other = (
        score(hotwords, text) for text in ("iPhone", "iphone", "IPhone", "IPHONE")
    )
    assert given_case > lower == title > other == 0


@pytest.mark.parametrize("text", ["xanax", "banana", "an a", "Bananas ana-x"])
def test_parts_of_other_words_are_no_hotwords(text: str) -> None:
    expected = text.count("ana-")
    assert bool(score(Hotwords(["ana"], token_bytes), text)) == expected


@pytest.mark.parametrize("text", ["我说你好吗", "말하기 카카오톡은", "これはテスト中"])
def test_scripts_without_spaces_have_hotwords_inside_other_text(text: str) -> None:
    for phrase in ("你好", "카카오톡", "テスト"):
        assert bool(score(Hotwords([phrase], token_bytes), text)) == (phrase in text)


def test_unlikely_tokens_are_no_part_of_a_phrase() -> None:
    hotwords = Hotwords(["Auris"], token_bytes)
    scores, _ = walk(hotwords, tokens_of(b" Auris", set()), LEAST_MARGIN - 0.1)
    assert scores == [0.0] * 6
    begun, state = walk(hotwords, tokens_of(b" Aur", set()))
    ((score_of_break, state),) = hotwords.extend(state, [ord("i")], [LEAST_MARGIN - 0.1])
    assert score_of_break == pytest.approx(-sum(begun))
    assert hotwords.extend(state, [ord("s")], [0.0])[0][0] == 0.0


def test_tokens_without_text_change_nothing() -> None:
    hotwords = Hotwords(["Auris"], lambda token: b"" if token == 0 else bytes([token]))
    _, state = walk(hotwords, tokens_of(b"Aur", set()))
    assert hotwords.extend(state, [0], [0.0]) == [(0.0, state)]


def test_empty_phrases_and_spaces_are_ignored() -> None:
    assert score(Hotwords(["", "  "], token_bytes), "a b") == 0.0
    spaced, plain = (Hotwords([phrase], token_bytes) for phrase in ("  New \t York ", "New York"))
    assert score(spaced, "in New York.") == score(plain, "in New York.") > 0
