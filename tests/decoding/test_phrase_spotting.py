"""Phrases that frames may say: against all paths of small examples, and where they are found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auris.decoding import phrase_spotting
from auris.decoding.hotwords import Hotwords, LocatedHotwords, Location, spellings
from auris.decoding.phrase_spotting import PhraseSpotter, Spot, UnitTable
from auris.decoding.scoring import text_score

UNITS = ["a", "b", "A", " a", "ab", "c", "", " b"]
BLANK = len(UNITS)
TABLE = UnitTable(lambda unit: UNITS[unit].encode(), BLANK)


def writings(text: str) -> Iterator[list[int]]:
    """All units that write a text."""
    if not text:
        yield []
    for unit, written in enumerate(UNITS):
        if written and text.startswith(written):
            for rest in writings(text[len(written) :]):
                yield [unit, *rest]


def best_path(scores: NDArray[np.float64], units: list[int]) -> float:
    """The best path of some units from the first of some frames on; it may end early."""
    best = -math.inf if units else 0.0
    if not units or not len(scores):
        return best
    run = 0.0
    for frame, score in enumerate(scores[:, units[0]].tolist(), 1):
        run += score
        blanks = 0.0
        for after in range(frame, len(scores) + 1):
            best = max(best, run + blanks + best_path(scores[after:], units[1:]))
            if after < len(scores):
                blanks += float(scores[after, BLANK])
    return best


def by_definition(logits: NDArray[np.float64], phrase: str) -> float:
    """The best score of a phrase at any frames."""
    scores = logits - logits.max(1, keepdims=True)
    texts = [space + text for text in spellings(phrase) for space in ("", " ")]
    ways = [units for text in texts for units in writings(text)]
    begins = range(len(logits))
    return max((best_path(scores[begin:], units) for begin in begins for units in ways), default=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_the_score_of_a_phrase_is_that_of_its_best_path(seed: int, frames: int) -> None:
    logits = np.random.default_rng(seed).normal(0.0, 3.0, (frames, BLANK + 1))
    phrases = ["ab", "Ab", "b", "aba", "ba"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phrase_spotting, "LOSS_PER_BYTE", 1e6)
        patch.setattr(phrase_spotting, "SHORT_LOSS_PER_BYTE", 1e6)
        found = PhraseSpotter(phrases, TABLE).find(logits)
    for phrase in phrases:
        expected = by_definition(logits, phrase)
        if phrase in found:
            assert found[phrase].score == pytest.approx(expected, abs=1e-9)
        else:
            # "Ab" may be one of the ways to write "ab", which is listed first.
            assert expected == -math.inf or phrase in ("Ab",)


def said(units: list[int], certainty: float = 9.0) -> NDArray[np.float64]:
    """Frames that say units, each followed by a blank."""
    logits = np.zeros((2 * len(units), BLANK + 1))
    logits[np.arange(0, 2 * len(units), 2), units] = certainty
    logits[1::2, BLANK] = certainty
    return logits


def offsets_of(spot: Spot) -> set[int]:
    """How many tokens may precede a phrase."""
    return {offset for location in spot.locations for offset in location.offsets}


def test_a_phrase_is_found_where_it_is_said() -> None:
    before = [UNITS.index("c")] * 30
    logits = said([*before, UNITS.index(" a"), UNITS.index("b")])
    found = PhraseSpotter(["ab", "bbbb", "ca"], TABLE).find(logits)
    assert set(found) == {"ab"}
    spot = found["ab"]
    assert spot.score == pytest.approx(0.0)
    (only,) = spot.locations
    assert (only.begin, only.end) == (30, 32)
    assert 30 in only.offsets
    assert 20 not in only.offsets


def test_phrases_that_are_not_said_are_not_found() -> None:
    spotter = PhraseSpotter(["bb", "ba"], TABLE)
    assert spotter.find(said([UNITS.index("c")] * 8)) == {}
    assert spotter.find(np.zeros((0, BLANK + 1))) == {}
    assert PhraseSpotter([], TABLE).find(said([0, 1])) == {}
    assert PhraseSpotter(["", "zz"], TABLE).find(said([0, 1])) == {}


def test_a_phrase_of_a_long_list_has_to_fit_better() -> None:
    frames = said([UNITS.index("a"), UNITS.index("b")], 3.0)
    others = [f"z{number}" for number in range(5000)]
    alone = PhraseSpotter(["abb"], TABLE).find(said([0, 1, 1], 3.0))["abb"]
    assert alone.score == pytest.approx(0.0)
    assert "ab" in PhraseSpotter(["ab"], TABLE).find(frames)
    assert "ab" not in PhraseSpotter(["ab", *others], TABLE).find(frames)


@pytest.mark.parametrize(("length", "found"), [(2, False), (8, True)])
def test_a_short_phrase_may_lack_less_for_each_byte(length: int, found: bool) -> None:
    loss = 1.2
    logits = said([UNITS.index("c")] * length)
    logits[::2] = -20.0
    logits[::2, UNITS.index("c")] = 0.0
    logits[::2, [UNITS.index("a"), UNITS.index("b")]] = -loss
    phrase = "ab" * (length // 2)
    assert (phrase in PhraseSpotter([phrase], TABLE).find(logits)) == found


def test_a_phrase_is_found_wherever_it_is_said() -> None:
    name, other = [UNITS.index(" a"), UNITS.index("b")], [UNITS.index("c")] * 25
    spot = PhraseSpotter(["ab"], TABLE).find(said([*name, *other, *name, *other]))["ab"]
    assert [(location.begin, location.end) for location in spot.locations] == [(0, 2), (27, 29)]
    assert {0, 27} <= offsets_of(spot)
    assert not {12, 46} & offsets_of(spot)


def test_the_offset_may_be_wrong_by_more_later() -> None:
    name, other = [UNITS.index(" a"), UNITS.index("b")], [UNITS.index("c")]
    early, late = (
        offsets_of(PhraseSpotter(["ab"], TABLE).find(said([*other * count, *name]))["ab"])
        for count in (4, 90)
    )
    assert early == set(range(1, 10)), "the best path may lack tokens of the text"
    assert len(late) > len(early)


NAME, OTHER = [UNITS.index(" a"), UNITS.index("b")], UNITS.index(" b")


def location(begin: int, offsets: Iterable[int]) -> Location:
    """A location of two tokens."""
    return Location(begin, begin + 2, frozenset(offsets))


def _scores(locations: dict[str, list[Location]], tokens: list[int]) -> list[float]:
    """The score of each token of a text, and of its end."""
    placed = LocatedHotwords(Hotwords(locations, lambda unit: UNITS[unit].encode()), locations)
    state, scores = placed.start(), []
    for token in tokens:
        may_add = placed.may_add(state)
        ((score, state),) = placed.extend(state, [token], [0.0])
        scores.append(score)
        assert may_add or score == 0.0
    return [*scores, placed.end(state)]


def _raises(locations: dict[str, list[Location]], tokens: list[int]) -> list[bool]:
    """Which tokens of a text are raised."""
    return [score > 0 for score in _scores(locations, tokens)[:-1]]


def test_located_hotwords_begin_only_at_their_offsets() -> None:
    locations = {"ab": [location(3, {3})]}
    assert _raises(locations, [*NAME, OTHER] * 3) == [False] * 3 + [True, True] + [False] * 4
    assert sum(_scores(locations, [*NAME, OTHER])) == 0.0


def test_one_phrase_is_raised_at_a_location() -> None:
    twice = [*NAME, OTHER, *NAME, OTHER]
    assert _raises({"ab": [location(0, range(7))]}, twice) == [True, True] + [False] * 4
    two = [location(0, {0, 1}), location(3, {3, 4})]
    assert _raises({"ab": two}, twice) == [True, True, False, True, True, False]


def test_after_a_phrase_that_breaks_off_another_is_raised_there() -> None:
    locations = {"ab": [location(0, range(7))]}
    first, second = NAME
    assert _raises(locations, [first, OTHER, first, second]) == [True, False, True, True]


NEXT = [UNITS.index(" b"), UNITS.index("b")]
"""The phrase "bb"."""


@pytest.mark.parametrize(("begin", "both"), [(2, True), (1, False)])
def test_phrases_after_each_other_are_both_raised_unless_they_overlap(
    begin: int, both: bool
) -> None:
    locations = {"ab": [location(0, range(5))], "bb": [location(begin, range(5))]}
    one, other = (sum(_scores(locations, text)) for text in (NAME, NEXT))
    assert min(one, other) > 0
    expected = one + other if both else one
    assert sum(_scores(locations, [*NAME, *NEXT])) == pytest.approx(expected)
    # The next token begins the second phrase and shows that the first one is complete.
    if both:
        assert _raises(locations, [*NAME, *NEXT])[2:] == [True, True]


def test_a_longer_phrase_is_raised_instead_of_a_shorter_one_before_it() -> None:
    """As "americano" after "an", whose frames overlap."""
    locations = {"a": [location(0, {0})], "bbb": [location(1, {1})]}
    first, long = UNITS.index("a"), [UNITS.index(" b"), *[UNITS.index("b")] * 2]
    alone = sum(_scores(locations, [OTHER, *long]))
    assert sum(_scores(locations, [first, OTHER])) > 0
    assert sum(_scores(locations, [first, *long])) == pytest.approx(alone)
    assert alone > sum(_scores(locations, [first, OTHER]))


def test_a_whole_text_has_the_bonus_of_phrases_anywhere_in_it() -> None:
    locations = {"ab": [location(3, {3})]}
    placed = LocatedHotwords(Hotwords(locations, lambda unit: UNITS[unit].encode()), locations)
    expected = text_score(placed, [*[OTHER] * 3, *NAME])
    assert expected > 0 == text_score(placed, NAME)
    anywhere = placed.without_locations()
    assert text_score(anywhere, NAME) == pytest.approx(expected)
    assert text_score(anywhere, [*NAME, *NAME]) == pytest.approx(expected), "it has one location"
    assert text_score(placed, NAME) == 0, "which stays as it was"


def located(locations: dict[str, list[Location]]) -> LocatedHotwords:
    """Hotwords at their locations."""
    return LocatedHotwords(Hotwords(locations, lambda unit: UNITS[unit].encode()), locations)


def test_a_phrase_that_is_said_twice_is_raised_twice() -> None:
    """Where both locations are possible for the first one, it takes the first location."""
    placed = located({"ab": [location(0, range(9)), location(6, range(3, 13))]})
    once, twice = ([*[OTHER] * 3, *NAME, *[OTHER] * 5, *end] for end in ((), NAME))
    assert text_score(placed, twice) == pytest.approx(2 * text_score(placed, once)) != 0


def test_a_whole_text_has_at_least_what_the_search_raised() -> None:
    placed = located(
        {
            "a": [Location(0, 1, frozenset({0})), Location(5, 6, frozenset({5}))],
            "bbb": [Location(5, 8, frozenset({5}))],
        }
    )
    text = [UNITS.index("a"), *[OTHER] * 4, UNITS.index(" b"), *[UNITS.index("b")] * 2]
    assert text_score(placed.without_locations(), text) >= text_score(placed, text) > 0


def test_a_phrase_at_the_location_of_another_has_no_bonus() -> None:
    locations = {"ab": [location(0, {0})], "bb": [location(4, {4})]}
    assert sum(_scores(locations, NEXT)) == pytest.approx(0.0)
    assert sum(_scores(locations, [OTHER] * 4 + NEXT)) > 0
    assert sum(_scores(locations, [*NEXT, OTHER])) == pytest.approx(0.0)
