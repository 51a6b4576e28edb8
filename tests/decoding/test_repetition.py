"""Loops in token ids: which are detected, and that the decode loop stops them at once."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.checkpoints.hub import bundled_models
from auris.decoding.loop import decode
from auris.decoding.repetition import (
    LONGEST_PERIOD,
    LOOP_TOKENS,
    Repetition,
    cut_loop,
    repeats_needed,
)
from auris.decoding.requests import Request
from auris.text.normalize import spoken
from auris.text.tokenizer import Tokenizer
from tests.backends.fake import FakeBackend

SPEECH = Path(__file__).parents[3] / "shared" / "speech"

SPOKEN = [
    "no no no no",
    "no no no no no no no no no no",
    "zero zero zero",
    "zero zero zero zero zero zero zero zero",
    "one one one two two two three three three three three",
    "ha ha ha ha ha ha ha ha ha ha",
    "very very very very good",
    "new york new york new york",
    "turn it off turn it off turn it off",
    "da da da da da da da da da",
]
"""What people do say."""


def defined(ids: Sequence[int]) -> int | None:
    """The period of the loop that a text ends in, by definition."""
    for period in range(1, LONGEST_PERIOD + 1):
        span = period * repeats_needed(period)
        tail = list(ids[-span:])
        if len(tail) == span and tail[:period] * repeats_needed(period) == tail:
            return period
    return None


@given(
    st.lists(st.integers(0, 2), max_size=30),
    st.lists(st.integers(0, 2), min_size=1, max_size=40),
    st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_repetition_equals_its_definition(before: list[int], unit: list[int], repeats: int) -> None:
    ids = (before + unit * repeats)[:300]
    watch = Repetition()
    told = [watch.add(token) for token in ids]
    assert told == [defined(ids[: place + 1]) for place in range(len(ids))]


def test_a_copy_goes_on_by_itself() -> None:
    watch = Repetition()
    unit = [1, 2] * (LOOP_TOKENS // 2)
    for token in unit[:-1]:
        watch.add(token)
    copy = watch.copy()
    assert copy.add(3) is None
    assert watch.add(2) == 2
    assert (watch.ids, copy.ids) == (unit, [*unit[:-1], 3])


@given(
    st.lists(st.integers(100, 200), max_size=40),
    st.lists(st.integers(0, 99), min_size=1, max_size=LONGEST_PERIOD),
)
@settings(max_examples=60, deadline=None)
def test_every_loop_is_detected_at_its_last_repeat(before: list[int], unit: list[int]) -> None:
    unit = [*unit[:-1], 99]
    found = cut_loop(before + unit * 70)
    assert found is not None
    first, end, seen = found
    assert first == len(before)
    assert len(unit) % (end - first) == 0
    assert seen <= len(before) + len(unit) * repeats_needed(len(unit))
    assert cut_loop((before + unit * 70)[: seen - 1]) is None


def test_thresholds() -> None:
    for period in range(1, LONGEST_PERIOD + 1):
        assert repeats_needed(period) >= 4
        assert LOOP_TOKENS <= period * repeats_needed(period) <= max(LOOP_TOKENS + period, 256)


@pytest.mark.parametrize("model", ["tiny", "tiny-ctc"])
@pytest.mark.parametrize("text", SPOKEN)
def test_usual_speech_is_not_a_loop(text: str, model: str) -> None:
    tokenizer = Tokenizer.from_directory(bundled_models()[model])
    assert cut_loop(tokenizer.encode(text)) is None


@pytest.mark.parametrize("name", ["barista", "fsdd", "keywords", "librispeech", "speechocean762"])
def test_transcripts_are_not_loops(name: str) -> None:
    """All texts of a set, alone and concatenated in groups of six."""
    path = SPEECH / f"{name}_dev.csv"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        texts = [spoken(row["text"]) or row["text"].lower() for row in csv.DictReader(lines)]
    texts += [" ".join(texts[place : place + 6]) for place in range(0, len(texts), 6)]
    tokenizer = Tokenizer.from_directory(bundled_models()["tiny"])
    assert [text for text in texts if cut_loop(tokenizer.encode(text)) is not None] == []


def test_a_loop_is_stopped_at_once() -> None:
    scripts = {40: [5, 6, 7] * 99, 41: list(range(1, 40)) * 2, 42: [8] * 99, 43: [9, 10]}
    requests = [Request(key, [key], 300) for key in scripts]
    said: dict[int, list[int]] = {key: [] for key in scripts}
    ends = {}
    for step in decode(FakeBackend(scripts, 64, 0), requests, {0}, rows=2):
        if step.token is not None:
            said[step.key].append(step.token)
        if step.finish is not None:
            ends[step.key] = step.finish
    assert ends == {40: "loop", 41: "stop", 42: "loop", 43: "stop"}
    assert (len(said[40]), len(said[42])) == (66, 64)
    assert (said[41], said[43]) == (scripts[41], scripts[43])
