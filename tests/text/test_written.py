"""Written form by the grammars of libraries, and the scripts of Chinese."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.errors import MissingExtra, UnsupportedOption, UsageError
from auris.text import written as module
from auris.text.cleanup import check_steps, clean
from auris.text.languages import LANGUAGE_CODES
from auris.text.written import CHINESE, GRAMMARS, written

WRITTEN = [
    ("English", "i paid twenty five dollars on may third", "i paid $25 on May 3"),
    ("English", "It weighs three point five kilograms.", "It weighs 3.5 kilograms."),
    ("English", "one of them", "one of them"),
    ("German", "Es kostet fünfundzwanzig Euro am dritten Mai.", "Es kostet 25 Euro am 3. Mai."),
    ("Spanish", "el tres de mayo de dos mil veinticuatro", "el 3 de mayo de 2024"),
    ("French", "vingt cinq euros", "25 euros"),
    ("Italian", "tre virgola cinque chili", "3,5 chili"),
    ("Russian", "двадцать пять рублей", "25 рублей"),
    ("Turkish", "yirmi beş lira", "25 TL"),
    ("Portuguese", "paguei vinte e cinco reais", "paguei 25 reais"),
    ("Dutch", "ik heb vijfentwintig euro", "ik heb 25 euro"),
    ("Danish", "jeg har femogtyve kroner", "jeg har 25 kroner"),
    ("Chinese", "三点五公斤", "3.5kg"),
    ("Chinese", "一个人", "一个人"),
    ("Japanese", "二十五円", "25円"),
    ("Korean", "이십오 달러", "이십오 달러"),
]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Grammars and converters of other tests are forgotten."""
    module._grammar.cache_clear()
    module._converter.cache_clear()


@pytest.mark.parametrize(("language", "text", "expected"), WRITTEN)
def test_texts_in_written_form(language: str, text: str, expected: str) -> None:
    if language in GRAMMARS:
        pytest.importorskip(GRAMMARS[language])
    assert clean(text, ["written"], language) == expected


def test_every_language_with_a_grammar_has_an_example() -> None:
    assert set(GRAMMARS) <= {language for language, *_ in WRITTEN}
    assert set(GRAMMARS) | set(CHINESE) <= set(LANGUAGE_CODES)
    assert len(GRAMMARS) >= 10


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.sampled_from(sorted(GRAMMARS)))
def test_any_text_has_a_written_form(text: str, language: str) -> None:
    for package in set(GRAMMARS.values()):
        pytest.importorskip(package)
    assert isinstance(written(text, language), str)


def test_scripts_of_chinese() -> None:
    pytest.importorskip("opencc")
    assert clean("汉字", ["traditional"], "Chinese") == "漢字"
    assert clean("漢字", ["simplified"], "Cantonese") == "汉字"
    assert clean("漢字", ["simplified"], "Japanese") == "漢字"
    assert clean("三點五公斤。。", ["simplified", "punctuation"], "Chinese") == "三点五公斤。。"


def test_grammars_are_those_of_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three libraries are called as they want to be, without being there."""

    def damga(lang: str, backend: str) -> SimpleNamespace:
        return SimpleNamespace(normalize=lambda text: f"{lang} {backend} {text}")

    def wetext(lang: str, operator: str) -> SimpleNamespace:
        return SimpleNamespace(normalize=lambda text: f"{lang} {operator} {text}")

    def opencc(conversion: str) -> SimpleNamespace:
        return SimpleNamespace(convert=lambda text: f"{conversion} {text}")

    fakes = {
        "damga": SimpleNamespace(InverseNormalizer=damga),
        "wetext": SimpleNamespace(Normalizer=wetext),
        "text_to_num": SimpleNamespace(alpha2digit=lambda text, code: f"{code} {text}"),
        "opencc": SimpleNamespace(OpenCC=opencc),
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    assert clean("a", ["written"], "English") == "en native a"
    assert clean("a", ["written"], "Chinese") == "zh itn a"
    assert clean("a", ["written"], "Dutch") == "nl a"
    assert clean("a", ["simplified"], "Chinese") == "t2s a"
    assert clean("a", ["written", "simplified"], "Greek") == "a"


def test_a_text_stays_where_a_library_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(text: str, code: str) -> str:
        raise ValueError("odd text")

    monkeypatch.setitem(sys.modules, "text_to_num", SimpleNamespace(alpha2digit=fail))
    with caplog.at_level(logging.WARNING):
        assert written("vijf", "Dutch") == "vijf"
    assert "odd text" in caplog.text


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"auris-asr\[written\]"):
        check_steps(["written"], "Dutch")
    with pytest.raises(MissingExtra, match="damga"):
        check_steps(["written"], None)
    with pytest.raises(MissingExtra, match="opencc"):
        check_steps(["simplified"], None)
    assert check_steps(["punctuation"], None) == ("punctuation",)


def test_steps_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="one script"):
        check_steps(["simplified", "traditional"], None)
    with pytest.raises(UnsupportedOption, match="Korean"):
        check_steps(["written"], "Korean")
    with pytest.raises(UnsupportedOption, match="'simplified' changes texts in Chinese"):
        check_steps(["simplified"], "Japanese")
