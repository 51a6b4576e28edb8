"""Phrases of lists of hotwords, and how models that know few letters write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.text.hotword_phrases import has_letters, hotword_phrases, written_in_lower_case


@pytest.mark.parametrize(
    ("given", "phrases"),
    [
        ([], ()),
        (["", " ", ",", "\n"], ()),
        (
            ["New  York", "Ada,Grace, Ada", "北京，上海、Zoë"],
            ("New York", "Ada", "Grace", "北京", "上海", "Zoë"),
        ),
        (["1,000 names, 7"], ("1,000 names", "7")),
        (["علی، رضا", "Ada; Grace"], ("علی", "رضا", "Ada", "Grace")),
        (['"Ada" and "Bob"'], ('"Ada" and "Bob"',)),
        (["O’Brien"], ("O’Brien", "O'Brien")),
        (
            ["- Ada", "* Grace", "• Zoë", "-40", "C++", ".NET"],
            ("Ada", "Grace", "Zoë", "-40", "C++", ".NET"),
        ),
        (['"Ada"', "“Grace”", "'Zoë'", "«Kay»", "'tis"], ("Ada", "Grace", "Zoë", "Kay", "'tis")),
        (
            ["\ufeffAda", "Gr\u00adace", "Z\u200boë", "\u202bKay\u202c", "A\x00l\x1ban"],
            ("Ada", "Grace", "Zoë", "Kay", "Alan"),
        ),
        (["می\u200cخواهم"], ("می\u200cخواهم",)),
        (["a\nb\tc"], ("a b c",)),
    ],
)
def test_phrases_of_a_list(given: list[str], phrases: tuple[str, ...]) -> None:
    assert hotword_phrases(given) == phrases


@given(st.lists(st.text()))
def test_phrases_are_distinct_and_have_single_spaces(listed: list[str]) -> None:
    phrases = hotword_phrases(listed)
    assert len(set(phrases)) == len(phrases)
    assert all(phrases)
    for phrase in phrases:
        assert phrase == " ".join(phrase.split())


def test_marks_alone_are_no_phrase_that_can_be_said() -> None:
    given = ["!!!", "...", "😀", "-", "a", "7", "北"]
    assert list(map(has_letters, given)) == [False] * 4 + [True] * 3


@pytest.mark.parametrize(
    ("phrase", "english", "other"),
    [
        ("Zoë", ["zoe"], ["zoë"]),
        ("Zoe\u0308", ["zoe"], ["zoe\u0308"]),
        ("Mr. O’Brien (junior)", ["mr o'brien junior"], ["mr. o’brien (junior)"]),
        ("Jean-Luc", ["jean luc"], ["jean-luc"]),
        ("ＡＢＣ", ["abc"], ["ａｂｃ"]),
        ("Qwen3", [], ["qwen3"]),
        ("AT&T", [], ["at&t"]),
        ("Москва", [], ["москва"]),
    ],
)
def test_phrases_in_lower_case(phrase: str, english: list[str], other: list[str]) -> None:
    assert list(written_in_lower_case([phrase], letters_of_english=True)) == english
    assert list(written_in_lower_case([phrase], letters_of_english=False)) == other
