"""Runs of words that a text shares with its context."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.text.leak import common_run, is_spoken

CONTEXT = "Names: Ada Lovelace, Grace Hopper, Alan Turing; words: 今天天气很好我们去公园"


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("ada lovelace grace hopper", ["ada", "lovelace", "grace", "hopper"]),
        ("Yes. Ada Lovelace, Grace Hopper! Alan", ["ada", "lovelace", "grace", "hopper", "alan"]),
        ("ada lovelace grace", None),
        ("grace hopper and ada lovelace", None),
        ("今天天气很好", list("今天天气很好")),
        ("今天天气", None),
        ("", None),
    ],
)
def test_runs_of_context_words(text: str, run: list[str] | None) -> None:
    assert common_run(text, CONTEXT) == run


def test_short_words_are_not_a_run() -> None:
    assert common_run("a b c d e", "a b c d e") is None
    assert common_run("a b c d e", "") is None


@given(st.lists(st.sampled_from(["alpha", "bravo", "charlie", "delta", "echo"]), max_size=9))
def test_a_run_occurs_in_context_and_text(words: list[str]) -> None:
    context = "echo delta charlie bravo alpha alpha bravo charlie"
    run = common_run(" ".join(words), context)
    if run is not None:
        assert " ".join(run) in " ".join(words)
        assert " ".join(run) in context
        assert is_spoken(run, " ".join(words))


def test_spoken_context_is_not_removed() -> None:
    run = ["ada", "lovelace", "grace", "hopper"]
    assert is_spoken(run, "well Ada Lovelace, Grace Opper")
    assert not is_spoken(run, "well ada love lace grace")
    assert not is_spoken(run, "")
