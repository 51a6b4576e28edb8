"""Numbers as digits, and plain punctuation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.errors import UnsupportedOption, UsageError
from auris.text.cleanup import STEPS, check_steps, clean, plain_punctuation
from auris.text.numbers import DIGITS, ORDINALS, SCALES, TEENS, TENS, in_digits

WORDS = [*DIGITS, *TEENS, *TENS, *ORDINALS, *SCALES, "hundred", "and", "a", "oh", "half"]
WORDS += ["point", "percent", "per", "cent", "people", "Twenty"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("twenty two", "22"),
        ("Twenty-two people", "22 people"),
        ("ten, eleven and twelve", "10, 11 and 12"),
        ("one of them", "one of them"),
        ("five or six", "five or six"),
        ("one hundred", "100"),
        ("a hundred people and a thousand more", "100 people and 1000 more"),
        ("half a million", "half a million"),
        ("one hundred and five", "105"),
        ("one hundred and", "100 and"),
        ("one hundred and two hundred", "100 and 200"),
        ("two hundred and three thousand and four", "203004"),
        ("five thousand and two thousand", "5000 and 2000"),
        ("fifteen hundred", "1500"),
        ("twenty five hundred", "2500"),
        ("two million three hundred thousand and one", "2300001"),
        ("six thousand fifteen hundred", "6000 1500"),
        ("nine trillion", "9000000000000"),
        ("five five five one", "5551"),
        ("call four oh seven now", "call 407 now"),
        ("two one", "two one"),
        ("nineteen eighty four", "1984"),
        ("in twenty twenty four", "in 2024"),
        ("twenty ten", "2010"),
        ("nineteen oh five", "1905"),
        ("nineteen hundred", "1900"),
        ("nineteen twenty twenty one", "19 20 21"),
        ("two thousand twenty four", "2024"),
        ("three point one four", "3.14"),
        ("zero point five percent", "0.5%"),
        ("five percent", "5%"),
        ("fifty per cent", "50%"),
        ("five point guards", "five point guards"),
        ("twenty first", "21st"),
        ("the one hundred and third", "the 103rd"),
        ("one hundred and eleven", "111"),
        ("a hundred second wait", "100 second wait"),
        ("twenty second delay", "20 second delay"),
        ("twenty-second of May", "22nd of May"),
        ("the first and the tenth", "the first and the tenth"),
        ("none, oneself, anyone", "none, oneself, anyone"),
        ("tenö zwölf", "tenö zwölf"),
        ("someone said twenty.", "someone said 20."),
        ("twenty\ntwo", "20\ntwo"),
        ("zero hundred", "zero hundred"),
        ("hundred", "hundred"),
        ("", ""),
    ],
)
def test_numbers(text: str, written: str) -> None:
    assert in_digits(text) == written


def english(number: int) -> str:
    """A number in words."""
    tables = {value: word for table in (DIGITS, TEENS, TENS) for word, value in table.items()}
    if number in tables:
        return tables[number]
    if number < 100:
        return f"{tables[number // 10 * 10]} {tables[number % 10]}"
    for size, name in [(v, k) for k, v in reversed(SCALES.items())] + [(100, "hundred")]:
        if number >= size:
            rest = f" {english(number % size)}" if number % size else ""
            return f"{english(number // size)} {name}{rest}"
    raise AssertionError(number)


@given(st.integers(10, 10**15 - 1))
def test_every_number(number: int) -> None:
    assert in_digits(english(number)) == str(number)
    hyphens = english(number).replace(" ", "-")
    assert in_digits(f"about {hyphens}, or so") == f"about {number}, or so"


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_numbers_are_idempotent(text: str) -> None:
    once = in_digits(text)
    assert in_digits(once) == once
    others = [word for word in text.split() if word in ("people", "half")]
    assert [word for word in once.split() if word in ("people", "half")] == others


@given(st.text())
def test_text_without_numbers_is_not_changed(text: str) -> None:
    if not any(word.lower() in text.lower() for word in WORDS):
        assert in_digits(text) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\u201cIt\u2019s\u201d", '"It\'s"'),
        ("wait\u2026 what", "wait... what"),
        ("one\u2014two", "one - two"),
        ("one \u2014 two", "one - two"),
        ("1990\u20131995", "1990-1995"),
        ("hello , world !", "hello, world!"),
        ("hello,world;you", "hello, world; you"),
        ("what??? no!!", "what? no!"),
        ("so..... well.. yes...", "so... well. yes..."),
        ("3.14, 1,000 and .5", "3.14, 1,000 and .5"),
        ("(well , yes !)", "(well, yes!)"),
        ("你好,世界", "你好,世界"),
        ("  two \n lines ", "two lines"),
        ("", ""),
    ],
)
def test_punctuation(text: str, plain: str) -> None:
    assert plain_punctuation(text) == plain


def test_french_spacing_is_preserved() -> None:
    assert plain_punctuation("Quoi\u00a0? Non , rien !", "French") == "Quoi ? Non, rien !"


@given(st.text(st.one_of(st.sampled_from("ab1 .,;:!?-\u2014\u2026\u2019'\")"), st.characters())))
def test_punctuation_is_idempotent(text: str) -> None:
    for language in (None, "French"):
        once = plain_punctuation(text, language)
        assert plain_punctuation(once, language) == once


def test_steps() -> None:
    text = "It\u2019s twenty two , isn\u2019t it"
    assert clean(text, [], "English") == text
    assert clean(text, ["numbers"], "English") == "It\u2019s 22 , isn\u2019t it"
    assert clean(text, STEPS, "English") == "It's 22, isn't it"
    assert clean(text, STEPS, "German") == "It's twenty two, isn't it"
    assert check_steps(["punctuation"], "German") == ("punctuation",)


@pytest.mark.parametrize("steps", ["numbers", ["casing"], [1], True, None])
def test_unknown_steps(steps: Any) -> None:
    with pytest.raises(UsageError, match="traditional and punctuation"):
        check_steps(steps, None)


def test_numbers_of_another_language() -> None:
    with pytest.raises(UnsupportedOption, match="the language is German"):
        check_steps(["numbers"], "German")
