"""The rule by which words settle, and the comparison of settled words with final ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.errors import UsageError
from auris.streaming.settle import (
    PartialWord,
    SettleRule,
    SettleState,
    compare_words,
    normalized,
    settle,
    settle_rule,
)

RULE = SettleRule(same=1.0, margin=0.8)


def words(text: str, first: float = 0.0, each: float = 0.5) -> list[PartialWord]:
    """The words of a text, one after the other."""
    return [PartialWord(word, first + each * number) for number, word in enumerate(text.split(), 1)]


def after(*texts: str, step: float = 0.5, rule: SettleRule = RULE) -> SettleState:
    """The state after steps with these texts."""
    state = SettleState()
    for number, text in enumerate(texts, 1):
        state = settle(state, words(text), number * step, rule)
    return state


def test_a_word_settles_once_it_was_the_same_for_some_time() -> None:
    assert after("one", "one two").settled == ()
    assert after("one", "one two", "one two").settled == ("one",)
    assert after("one", "one two", "one two", "one two").settled == ("one", "two")


def test_a_changed_word_starts_again_with_all_words_behind_it() -> None:
    assert after("one two", "a two", "a two").settled == ()
    assert after("one two", "a two", "a two", "a two").settled == ("a", "two")


def test_case_and_punctuation_are_no_change() -> None:
    assert after("one", "One,", "One, two").settled == ("one",)
    assert normalized("Émile!") == normalized("emile")
    assert normalized("?") == "?"


def test_a_word_near_the_newest_sound_does_not_settle() -> None:
    late = SettleRule(same=1.0, margin=1.2)
    assert after("one", "one", "one", rule=late).settled == ()
    assert after("one", "one", "one", "one", rule=late).settled == ("one",)


def test_a_word_without_a_known_end_ended_when_it_came() -> None:
    state = SettleState()
    for second in (1.0, 1.5, 2.0):
        assert state.settled == ()
        state = settle(state, [PartialWord("one", None)], second, RULE)
    assert state.settled == ("one",)


def test_a_word_settles_only_if_two_steps_agree() -> None:
    """A step may be left out on a slow machine."""
    state = settle(SettleState(), words("one"), 9.0, SettleRule(0.01, 0.0))
    assert state.settled == ()
    assert settle(state, words("one"), 9.5, SettleRule(0.01, 0.0)).settled == ("one",)


def test_words_settle_behind_settled_ones_that_the_text_has_no_more() -> None:
    texts = ["one", "one", "one", "a two", "a two", "a two"]
    assert after(*texts[:4]).settled == after(*texts[:3], "").settled == ("one",)
    state = after(*texts)
    assert (state.settled, state.covered) == (("one", "two"), 2)
    longer = after(*texts[:3], *["one and two"] * 4)
    assert (longer.settled, longer.covered) == (("one", "and", "two"), 3)


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=5), max_size=12))
def test_settled_words_stay(texts: list[list[str]]) -> None:
    """Whatever the texts of the steps are."""
    state, seen = SettleState(), tuple[str, ...]()
    for number, text in enumerate(texts, 1):
        state = settle(state, words(" ".join(text)), number * 0.5, RULE)
        assert state.settled[: len(seen)] == seen
        assert state.covered <= len(text)
        seen = state.settled


def test_the_rule_of_the_option() -> None:
    assert settle_rule(0) is None
    assert settle_rule(2) == SettleRule(2.0)
    for wrong in (-1, 61, float("nan"), "soon"):
        with pytest.raises(UsageError, match="settle_seconds"):
            settle_rule(wrong)


@pytest.mark.parametrize(
    ("settled", "final", "covered", "revised"),
    [
        ("one two", "one two three", 2, 0),
        ("one two", "one too three", 2, 1),
        ("one two", "one and two three", 3, 1),
        ("one and two", "one two three", 2, 1),
        ("one", "", 0, 1),
        ("", "one", 0, 0),
    ],
)
def test_settled_words_are_compared_with_final_ones(
    settled: str, final: str, covered: int, revised: int
) -> None:
    found = compare_words(settled.split(), final.split())
    assert (found.covered, found.revised) == (covered, revised)


def test_settled_words_behind_a_cut_are_told_from_those_in_front_of_it() -> None:
    state = SettleState(settled=("one", "two", "three"), ends=(1.0, None, 2.0))
    assert [state.within(end) for end in (0.5, 1.0, 1.9, 2.0)] == [0, 2, 2, 3]


def test_a_word_of_which_the_model_is_not_sure_does_not_settle() -> None:
    """Nor do those behind it."""
    state = SettleState()
    unsure = [PartialWord("one", 0.5), PartialWord("two", 1.0, 0.4), PartialWord("three", 1.5)]
    for second in (2.0, 2.5, 3.0, 3.5):
        state = settle(state, unsure, second, SettleRule(1.0, 0.8, probability=0.5))
    assert state.settled == ("one",)
    assert settle(state, unsure, 4.0, SettleRule(1.0, 0.8, 0.3)).settled == ("one", "two", "three")
