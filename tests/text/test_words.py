"""Splitting texts into words, and joining the texts of neighbouring chunks."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.errors import MissingExtra
from auris.text.words import WordSpan, join_texts, reference_spelling, split_words


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
        (["สวัสดี", "โลก"], "สวัสดีโลก"),
        (["你", "", "好"], "你好"),
    ],
)
def test_joined(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined
    assert join_texts(iter(texts)) == joined


@given(st.lists(st.text()))
def test_no_letter_is_dropped(texts: list[str]) -> None:
    def letters(text: str) -> str:
        return "".join(text.split())

    joined = join_texts(texts)
    assert letters(joined) == letters("".join(texts))
    assert joined == joined.strip()
    assert join_texts([joined]) == joined


WORDS = {
    "": [],
    "  \n": [],
    "!? … 😀 — ***": [],
    "Hello, world!": ["Hello", "world"],
    "don't-stop": ["don'tstop"],
    "a . b": ["a", "b"],
    "you have 42 €": ["you", "have", "42"],
    "你好，world": ["你", "好", "world"],
    "我爱Python3吧": ["我", "爱", "Python3", "吧"],
    "カタカナ と漢字": ["カタカナ", "と", "漢", "字"],
    "हिन्दी में": ["हिन्दी", "में"],
    "cafe\u0301s": ["cafe\u0301s"],
    "1\ufe0f\u20e3": ["1"],
}


@pytest.mark.parametrize(("text", "words"), WORDS.items(), ids=repr)
def test_words(text: str, words: list[str]) -> None:
    assert [span.text for span in split_words(text)] == words


@given(st.text("ab1'-. 你好é\u0301\n"))
def test_words_are_in_order_of_their_text(text: str) -> None:
    end = 0
    for span in split_words(text):
        assert end <= span.start < span.end <= len(text)
        shown = text[span.start : span.end]
        assert span.text[0] == shown[0]
        assert reference_spelling(shown) == reference_spelling(span.text)
        end = span.end


@given(st.text())
def test_words_equal_the_reference_except_for_punctuation(text: str) -> None:
    processor = pytest.importorskip("transformers", minversion="5.23").Qwen3ASRProcessor
    expected = processor.split_words_for_alignment(None, text)
    assert [reference_spelling(span.text) for span in split_words(text)] == expected


def fake_packages(monkeypatch: pytest.MonkeyPatch, words: list[str] | None) -> None:
    """nagisa and soynlp that split every text into `words`; or neither of them."""
    modules: dict[str, Any] = dict.fromkeys(("nagisa", "soynlp", "soynlp.tokenizer"))
    if words is not None:
        tokenizer = SimpleNamespace(LTokenizer=lambda: SimpleNamespace(tokenize=lambda _: words))
        modules["nagisa"] = SimpleNamespace(tagging=lambda _: SimpleNamespace(words=words))
        modules |= {"soynlp": SimpleNamespace(), "soynlp.tokenizer": tokenizer}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("language", ["Japanese", "Korean"])
class TestOtherPackages:
    def test_words_have_their_positions(
        self, monkeypatch: pytest.MonkeyPatch, language: str
    ) -> None:
        fake_packages(monkeypatch, ["今日", "は", "\u3000", "晴れ", "。"])
        assert split_words(" 今日は 晴れ。", language) == [
            WordSpan("今日", 1, 3),
            WordSpan("は", 3, 4),
            WordSpan("晴れ", 5, 7),
        ]

    def test_a_respelled_word_has_no_position(
        self, monkeypatch: pytest.MonkeyPatch, language: str
    ) -> None:
        fake_packages(monkeypatch, ["テスト", "です"])
        respelled, found = split_words("ﾃｽﾄです", language)
        assert respelled.start == respelled.end
        assert found == WordSpan("です", 3, 5)

    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch, language: str) -> None:
        fake_packages(monkeypatch, None)
        assert split_words("", language) == []
        with pytest.raises(MissingExtra, match="pip install 'auris-asr"):
            split_words("今日", language)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("Japanese", "今日は良い 天気ですね。ﾃｽﾄ　ABC １２３"),
        ("Korean", "안녕하세요 세계, 저는 학생입니다."),
    ],
)
def test_words_of_the_packages_equal_the_reference(language: str, text: str) -> None:
    pytest.importorskip({"Japanese": "nagisa", "Korean": "soynlp"}[language])
    processor = pytest.importorskip("transformers", minversion="5.23").Qwen3ASRProcessor
    expected = processor.split_words_for_alignment(None, text, language)
    assert [span.text for span in split_words(text, language)] == expected


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["one", "two"], "one two"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["ສະບາຍດີ", "ເຈົ້າ"], "ສະບາຍດີເຈົ້າ"),
        (["你好", "世界"], "你好世界"),
        (["안녕", "하세요"], "안녕 하세요"),
        (["नमस्ते", "दुनिया"], "नमस्ते दुनिया"),
        (["สวัสดี", "hello", "ครับ"], "สวัสดี hello ครับ"),
        (["one ", "", " two"], "one two"),
    ],
)
def test_texts_are_joined_as_their_script_requires(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined
