"""Width of characters, line breaks, and lines."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.text.wrap import Break, columns, one_line, rows, units, wrap

TEXTS = st.text(
    st.one_of(
        st.sampled_from("ab cd  .,!?。，「」好한の\u0301\t\n\u200d"),
        st.characters(exclude_categories=("Cs",)),
    ),
    max_size=80,
)
WIDTHS = st.integers(10, 40)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0),
        ("abc", 3),
        ("你好", 4),
        ("한", 2),
        ("e\u0301", 1),
        ("ｱ", 1),
        ("Ａ", 2),
        ("a\u200b", 1),
    ],
)
def test_columns(text: str, width: int) -> None:
    assert columns(text) == width


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\tb\r\nc", "a b c"), ("  a ", "a"), ("a\x00b\x1bc\u2028d", "a b c d"), ("\n", "")],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


@pytest.mark.parametrize(
    ("word", "after"),
    [
        ("end.", Break.SENTENCE),
        ("really?!", Break.SENTENCE),
        ('end."', Break.SENTENCE),
        ("好。", Break.SENTENCE),
        ("wait\u2026", Break.SENTENCE),
        ("Mr.", Break.WORD),
        ("J.", Break.WORD),
        ("e.g.", Break.WORD),
        ("3.14", Break.WORD),
        ("one,", Break.CLAUSE),
        ("one,)", Break.CLAUSE),
        ("word", Break.WORD),
        ('"', Break.WORD),
    ],
)
def test_characters_after_which_a_line_may_end(word: str, after: Break) -> None:
    assert units(word, 40)[-1].after is after


def test_words_are_not_split_and_text_without_spaces_is() -> None:
    assert [unit.text for unit in units("a long word", 40)] == ["a", "long", "word"]
    assert [unit.text for unit in units("你好，世界。", 40)] == ["你", "好，", "世", "界。"]
    assert [unit.text for unit in units("说「好」吧", 40)] == ["说", "「好」", "吧"]
    assert [unit.text for unit in units("用iPhone吗", 40)] == ["用", "iPhone", "吗"]
    assert [unit.text for unit in units("한국어 문장", 40)] == ["한국어", "문장"]
    assert [unit.text for unit in units("キャット", 40)] == ["キャッ", "ト"]


def test_a_word_wider_than_a_line_is_broken_between_letters() -> None:
    assert [unit.text for unit in units("abcdefghijklm", 10)] == ["abcdefghij", "klm"]
    word = "e\u0301" * 12
    assert [unit.text for unit in units(word, 10)] == ["e\u0301" * 10, "e\u0301" * 2]


def test_lines_are_few_and_balanced() -> None:
    text = "the quick brown fox jumps over the lazy dog"
    assert wrap(units(text, 40), 40) == ["the quick brown fox", "jumps over the lazy dog"]
    assert wrap(units(text, 80), 80) == [text]
    assert wrap([], 40) == []


@given(TEXTS, WIDTHS)
def test_units_join_to_the_text(text: str, width: int) -> None:
    line = one_line(text)
    parts = units(line, width)
    again = "".join(" " * unit.spaced + unit.text for unit in parts)
    assert again == line
    assert all(line[unit.start : unit.end] == unit.text for unit in parts)
    assert all(unit.text and not unit.text.isspace() for unit in parts)
    for unit in parts[1:]:
        assert unit.spaced or unicodedata.category(unit.text[0]) not in ("Mn", "Mc", "Me")


@given(TEXTS, WIDTHS)
def test_lines_have_the_width_and_join_to_the_text(text: str, width: int) -> None:
    parts = units(one_line(text), width)
    lines = wrap(parts, width)
    assert all(columns(line) <= width for line in lines)
    assert all(line == line.strip(" ") for line in lines)
    assert "".join(lines).replace(" ", "") == one_line(text).replace(" ", "")
    assert len(lines) == len(rows(parts, width))
