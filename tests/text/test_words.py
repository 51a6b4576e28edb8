"""Joining the texts of neighbouring pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.text.words import join_texts


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        ([], ""),
        ([""], ""),
        (["hello", "world"], "hello world"),
        ([" hello ", "\nworld "], "hello world"),
        (["hello.", "", "  ", "World"], "hello. World"),
        (["你好", "世界"], "你好世界"),
        (["你好。", "世界"], "你好。世界"),
        (["你好，", "world"], "你好， world"),
        (["hello", "世界"], "hello 世界"),
        (["こんにちは", "カタカナ"], "こんにちはカタカナ"),
        (["안녕하세요", "세계"], "안녕하세요 세계"),
        (["漢字", "한글"], "漢字 한글"),
        (["Привет", "мир"], "Привет мир"),
        (["สวัสดี", "โลก"], "สวัสดี โลก"),
        (["你", "", "好"], "你好"),
    ],
)
def test_joined(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined
    assert join_texts(iter(texts)) == joined


@given(st.lists(st.text()))
def test_no_letter_is_lost(texts: list[str]) -> None:
    def letters(text: str) -> str:
        return "".join(text.split())

    joined = join_texts(texts)
    assert letters(joined) == letters("".join(texts))
    assert joined == joined.strip()
    assert join_texts([joined]) == joined
