"""Normalization to spoken words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.text.normalize import spoken


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Look, the SEAM is now broken!", "look the seam is now broken"),
        ("It\u2019s five o'clock", "it's five o'clock"),
        ("\u2018quoted\u2019 and 'quoted'", "quoted and quoted"),
        ("caf\u00e9 na\u00efve Stra\u00dfe \u00c6gir", "cafe naive strasse aegir"),
        ("twenty-two\u2014or so", "twenty two or so"),
        ("two\tlines\nhere\u00a0too", "two lines here too"),
        ("dogs' bones", "dogs bones"),
        (" ... ' - ", ""),
        ("", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert spoken(text) == expected


@pytest.mark.parametrize(
    "text", ["room 22", "50%", "you & me", "a\u00b2", "\u4f60\u597d", "\u0434\u0430"]
)
def test_ambiguous_spoken_forms(text: str) -> None:
    assert spoken(text) is None


@given(st.text())
def test_normalization_is_idempotent(text: str) -> None:
    result = spoken(text)
    if result:
        assert re.fullmatch(r"[a-z']+( [a-z']+)*", result)
        assert spoken(result) == result
