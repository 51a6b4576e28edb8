"""The words and names of a context as hotwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.text.context_phrases import phrases_of_context


@pytest.mark.parametrize(
    ("context", "phrases"),
    [
        ("", ()),
        (" ,\n;. ", ()),
        ("Zoë", ("Zoë",)),
        ("Zoë, Kubernetes,New  York ,", ("Zoë", "Kubernetes", "New York")),
        ("Ada Lovelace\nGrace Hopper\r\nAda Lovelace", ("Ada Lovelace", "Grace Hopper")),
        ("Names: Ada, Grace.", ("Names", "Ada", "Grace")),
        ("A talk by Zoë on 4K at MIT and v1.5", ("talk", "Zoë", "4K", "MIT", "v1.5")),
        ("The talk is about J. R. R. Tolkien.", ("talk", "about", "Tolkien")),
        ("MIT is far from here", ("MIT", "from", "here")),
        ("- Ada Byron\n* Zoë\n• Kay\n2. Alan Turing", ("Ada Byron", "Zoë", "Kay", "Alan Turing")),
        (
            "'Baskerville' ‘Dartmoor’, home… *Ada* C# @zoe",
            ("Baskerville Dartmoor", "home", "Ada C# zoe"),
        ),
        ("Terms = Ada, x, 7, …", ("Terms", "Ada")),
        ("김민수 씨가 어제 서울 대학교 에서", ("김민수", "씨가", "어제", "서울", "대학교", "에서")),
        ("Version 3.5. Next", ("Version 3.5", "Next")),
        ("“Kitchen” (fan) - lamp", ("Kitchen", "fan", "lamp")),
        ("well-known don't", ("well-known don't",)),
        ("今天天气，北京、上海。", ("今天天气", "北京", "上海")),
    ],
)
def test_words_and_names(context: str, phrases: tuple[str, ...]) -> None:
    assert phrases_of_context(context) == phrases


@given(st.text(alphabet="aB é4.,-\n你", max_size=60))
def test_phrases_are_distinct_parts_of_the_context(context: str) -> None:
    phrases = phrases_of_context(context)
    assert len(set(phrases)) == len(phrases)
    for phrase in phrases:
        assert phrase.strip() == phrase != ""
        assert all(word in context for word in phrase.split())


@given(st.lists(st.from_regex(r"[a-z]{2,9}( [a-z]{1,9}){0,2}", fullmatch=True), unique=True))
def test_a_list_of_names_is_read_as_it_is(names: list[str]) -> None:
    assert phrases_of_context(", ".join(names)) == tuple(names)
