"""Languages by code and by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.errors import LanguageError, UsageError
from auris.text.languages import LANGUAGES, language_name, language_names


def test_the_list_equals_that_of_the_reference() -> None:
    reference = pytest.importorskip("transformers.models.qwen3_asr.processing_qwen3_asr")
    assert reference.LANGUAGE_CODE_TO_NAME == LANGUAGES


@pytest.mark.parametrize(("code", "name"), LANGUAGES.items())
def test_code_and_name_in_any_case(code: str, name: str) -> None:
    for language in (code, code.upper(), name, name.lower(), name.upper(), f" {name}\n"):
        assert language_name(language) == name


@pytest.mark.parametrize("language", [None, "", "auto", "AUTO", " Auto "])
def test_the_models_choice(language: str | None) -> None:
    assert language_name(language) is None


@pytest.mark.parametrize(
    "language", ["xx", "Klingon", "en-US", "zh_CN", "None", "  ", "eng", "English."]
)
def test_errors_name_the_language_and_the_supported_ones(language: str) -> None:
    with pytest.raises(LanguageError) as caught:
        language_name(language)
    assert repr(language) in str(caught.value)
    assert "yue (Cantonese)" in str(caught.value)


@given(st.text())
def test_any_text_is_a_known_name_or_an_error(language: str) -> None:
    try:
        name = language_name(language)
    except LanguageError:
        return
    assert name is None or name in LANGUAGES.values()


@pytest.mark.parametrize("languages", [3, [], ["en", 3], ["auto"], [None]])
def test_candidate_languages_must_be_a_list(languages: Any) -> None:
    with pytest.raises(UsageError, match="languages has to be a list"):
        language_names(languages)


def test_candidate_languages() -> None:
    assert language_names(None) is None
    assert language_names("de") == ("German",)
    assert language_names(code for code in ("zh", "English", "zh")) == ("Chinese", "English")
