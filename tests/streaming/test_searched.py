"""Words that wait for long settle by a search of the chunk so far."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auris import AsrPipeline
from auris.audio.io import load
from auris.streaming import pool
from auris.streaming import settle as settle_module
from auris.streaming.live_text import LiveChange, LiveText
from auris.streaming.session import StreamUpdate
from auris.streaming.settle import (
    LONG_WAIT,
    SEARCHED_PROBABILITY,
    PartialWord,
    SettleRule,
    SettleState,
    settle,
    settle_searched,
)
from auris.types import SAMPLE_RATE, Segment
from tests.streaming.live import same, stable, updates_of
from tests.streaming.test_live_text import check_deltas

CLIP = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"

NAMES = ("tiny", "tiny-ctc")

RULE = SettleRule(same=0.3, probability=2.0)
"""By this rule words settle by searches alone."""

LONG = LONG_WAIT * RULE.same


def words(*texts: str, probability: float = 1.0) -> list[PartialWord]:
    """Words that end at 1 s, 2 s and so on."""
    return [PartialWord(text, float(at), probability) for at, text in enumerate(texts, 1)]


def test_words_that_ended_long_ago_settle() -> None:
    found = words("one", "two", "three")
    state, first, last = settle_searched(SettleState(), found, 2.0 + LONG, RULE)
    assert (first, last, state.settled, state.ends) == (0, 2, ("one", "two"), (1.0, 2.0))
    state, first, last = settle_searched(state, found, 3.0 + LONG, RULE)
    assert (first, last, state.settled) == (2, 3, ("one", "two", "three"))


def test_an_unsure_word_settles_neither_nor_do_those_behind_it() -> None:
    found = words("one", "two", "three")
    found[1] = PartialWord("two", 2.0, SEARCHED_PROBABILITY - 0.01)
    assert settle_searched(SettleState(), found, 60.0, RULE)[0].settled == ("one",)
    found[1] = PartialWord("two", None)
    assert settle_searched(SettleState(), found, 60.0, RULE)[0].settled == ("one",)


def test_a_search_continues_behind_settled_words_in_both_texts() -> None:
    """`covered` counts words of the step, which differ from those of the search."""
    step = words("won", "and", "two", "too")
    before = settle(SettleState(settled=("one",), ends=(1.0,)), step, 9.0, SettleRule())
    state, first, last = settle_searched(before, words("one", "two"), 60.0, RULE)
    assert (first, last, state.settled) == (1, 2, ("one", "two"))
    assert (state.words, state.covered) == (("won", "and", "two", "too"), 3)
    assert settle_searched(before, [], 60.0, RULE) == (before, 0, 0)


def test_a_word_waits_long_by_the_settle_seconds() -> None:
    assert not RULE.waits_long(PartialWord("one", None), 60.0)
    assert not RULE.waits_long(PartialWord("one", 1.0), 0.9 + LONG)
    assert RULE.waits_long(PartialWord("one", 1.0), 1.0 + LONG)
    assert not SettleRule(2 * RULE.same).waits_long(PartialWord("one", 1.0), 1.0 + LONG)


@cache
def pipeline(name: str) -> AsrPipeline:
    return AsrPipeline.from_pretrained(name, device="cpu")


@cache
def clip() -> np.ndarray:
    """Two sentences in a row, without a pause."""
    return np.concatenate([load(CLIP).samples] * 2)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of the searches of streams that settle words by `RULE`."""
    monkeypatch.setattr(pool, "settle_rule", lambda seconds: RULE if seconds else None)
    done: list[float] = []
    search = LiveText.add_searched

    def recorded(self: LiveText, segment: Segment, seconds: float, *given: Any) -> LiveChange:
        done.append(seconds)
        return search(self, segment, seconds, *given)

    monkeypatch.setattr(LiveText, "add_searched", recorded)
    return done


def described(updates: list[StreamUpdate]) -> list[tuple[Any, ...]]:
    """What a client sees of the updates."""
    return [(one.seconds, one.final, one.delta, one.partial, one.segment.text) for one in updates]


@pytest.mark.parametrize("name", NAMES)
def test_a_search_settles_words_and_the_final_text_is_that_of_the_file(
    name: str, searches: list[float]
) -> None:
    updates = updates_of(pipeline(name).stream(), clip(), [3000])
    check_deltas(updates)
    assert any(update.settled_words for update in updates)
    assert searches == sorted(set(searches))  # At most one for every step.
    seconds = pipeline(name).live_chunk_seconds
    cut: dict[str, Any] = {"chunk_seconds": seconds, "vad": False, "end_at_pauses": True}
    same(stable(updates), pipeline(name).transcribe((clip(), SAMPLE_RATE), **cut).segments, name)
    whole = updates_of(pipeline(name).stream(), clip(), [len(clip())])
    assert described(whole) == described(updates)


def searched_updates(updates: list[StreamUpdate]) -> list[tuple[StreamUpdate, StreamUpdate]]:
    """Updates of steps, and those of the searches behind them."""
    return [
        (step, update)
        for step, update in pairwise(updates)
        if not update.final and (step.seconds, step.chunk) == (update.seconds, update.chunk)
    ]


def test_the_update_of_a_search_has_the_text_of_its_step(searches: list[float]) -> None:
    searched = searched_updates(updates_of(pipeline("tiny").stream(), clip()))
    assert searched
    assert len(searched) <= len(searches)
    for step, update in searched:
        assert update.segment == step.segment
        assert update.delta
        assert update.segment.text.endswith(update.partial.lstrip())
        assert update.cost.encoded == 0


def test_a_search_that_settles_nothing_has_no_update(
    monkeypatch: pytest.MonkeyPatch, searches: list[float]
) -> None:
    monkeypatch.setattr(settle_module, "SEARCHED_PROBABILITY", 2.0)
    updates = updates_of(pipeline("tiny-ctc").stream(), clip())
    assert searches
    assert not searched_updates(updates)
    assert not any(update.settled_words for update in updates)


def test_searches_are_no_closer_than_the_settle_seconds(searches: list[float]) -> None:
    updates_of(pipeline("tiny-ctc").stream(step_seconds=0.1), clip(), [1600])
    assert min(after - before for before, after in pairwise(searches)) > RULE.same - 1e-6


@pytest.mark.parametrize(
    "given", [{"beam_size": 1}, {"settle_seconds": 0}, {"clean": ["punctuation"]}]
)
def test_there_is_no_search_where_words_cannot_settle_by_it(
    given: dict[str, Any], searches: list[float]
) -> None:
    updates_of(pipeline("tiny-ctc").stream(**given), clip())
    assert not searches


@pytest.mark.parametrize("late", [False, True])
def test_a_stream_that_became_late_during_a_step_is_not_searched(
    monkeypatch: pytest.MonkeyPatch, searches: list[float], late: bool
) -> None:
    stream = pipeline("tiny-ctc").stream(skip_late=late)
    samples, fed = clip(), 0
    add_partial = LiveText.add_partial

    def slow(self: LiveText, *given: Any) -> LiveChange:
        """A second of sound arrives during the step."""
        nonlocal fed
        stream.push(samples[fed : fed + SAMPLE_RATE])
        fed += SAMPLE_RATE
        return add_partial(self, *given)

    monkeypatch.setattr(LiveText, "add_partial", slow)
    stream.feed(samples[:0])
    stream.push(samples[:SAMPLE_RATE])
    fed = SAMPLE_RATE
    stream.feed(samples[:0])
    # The last step is never late.
    assert len(searches) <= 1 if late else len(searches) > 1
