"""Phrases in place of words of a CTC text: where they fit the frames nearly as well."""

from __future__ import annotations

import torch
from torch import Tensor

from auris.decoding.ctc import greedy
from auris.decoding.hotwords import Location
from auris.decoding.phrase_placing import PhrasePlacer, PlacedPhrase
from tests.decoding.scorers import TableScorer

UNITS = [" a", "b", " c", "d", " x", "y", "字"]
A, B, C, D, X, Y, CHARACTER = range(len(UNITS))
BLANK = len(UNITS)
EVERYWHERE = Location(0, 99, frozenset())


def frames(*alternatives: dict[int, float]) -> Tensor:
    """Frames with the scores of some units, each followed by a blank."""
    logits = torch.full((2 * len(alternatives), BLANK + 1), -20.0)
    logits[1::2, BLANK] = 0.0
    for number, scores in enumerate(alternatives):
        for unit, score in scores.items():
            logits[2 * number, unit] = score
    return logits


AB_CD = frames({A: 0.0, X: -2.0}, {B: 0.0, Y: -2.0}, {C: 0.0}, {D: 0.0})
"""Two words, of which the first may be another one that is less probable by 4."""


def placed(
    logits: Tensor, *phrases: PlacedPhrase, scorer: TableScorer | None = None
) -> tuple[int, ...]:
    placer = PhrasePlacer(logits, BLANK, lambda unit: UNITS[unit].encode(), scorer)
    path = placer.write(greedy(logits, BLANK), phrases)
    assert len(path.ids) == len(path.first) == len(path.last) == len(path.logprobs)
    return path.ids


def phrase(
    bonus: float,
    *locations: Location,
    units: tuple[int, ...] = (X, Y),
    inner: tuple[int, ...] = (),
) -> PlacedPhrase:
    return PlacedPhrase(units, inner or units, locations, bonus)


FIRST = Location(0, 2, frozenset())


def test_a_phrase_replaces_the_word_at_its_frames_if_its_bonus_covers_what_it_lacks() -> None:
    assert placed(AB_CD, phrase(4.5, FIRST)) == (X, Y, C, D)
    assert placed(AB_CD, phrase(3.5, FIRST)) == (A, B, C, D)


def test_what_the_scorer_adds_to_the_phrase_alone_does_not_count() -> None:
    rare = TableScorer({(X, Y): -50.0})
    assert placed(AB_CD, phrase(4.5, FIRST), scorer=rare) == (X, Y, C, D)
    assert placed(AB_CD, phrase(4.5, FIRST), scorer=TableScorer({(-1, A): 3.0})) == (A, B, C, D)
    assert placed(AB_CD, phrase(3.5, FIRST), scorer=TableScorer({(-1, A): -3.0})) == (X, Y, C, D)


def test_of_phrases_that_overlap_only_the_first_is_written() -> None:
    other = phrase(90.0, Location(1, 2, frozenset()), units=(X,))
    assert placed(AB_CD, phrase(9.0, FIRST), other) == (X, Y, C, D)
    assert placed(AB_CD, other, phrase(9.0, FIRST)) != (X, Y, C, D)


def test_a_phrase_that_is_written_already_is_not_written_again() -> None:
    written = phrase(90.0, FIRST, units=(A, B))
    assert placed(AB_CD, written) == (A, B, C, D)
    assert placed(AB_CD, written, phrase(9.0, FIRST)) == (A, B, C, D)


def test_a_phrase_may_stand_where_the_text_has_no_word() -> None:
    logits = frames({A: 0.0}, {B: 0.0}, {BLANK: 0.0, X: -3.0})
    assert placed(logits, phrase(4.0, Location(2, 3, frozenset()), units=(X,))) == (A, B, X)


def test_a_phrase_behind_other_words_has_units_of_its_own() -> None:
    logits = frames({A: 0.0}, {B: 0.0}, {C: 0.0, X: -1.0, Y: -1.0})
    last = phrase(3.0, Location(2, 3, frozenset()), units=(Y,), inner=(X,))
    assert placed(logits, last) == (A, B, X)
    first = phrase(3.0, Location(0, 1, frozenset()), units=(Y,), inner=(X,))
    assert placed(frames({C: 0.0, X: -1.0, Y: -1.0}), first) == (Y,)


def test_a_word_begins_without_a_space_where_a_script_has_none() -> None:
    logits = frames({A: 0.0}, {CHARACTER: 0.0, X: -1.0}, {CHARACTER: 0.0})
    assert placed(logits, phrase(2.0, Location(1, 2, frozenset()), units=(X,))) == (
        A,
        X,
        CHARACTER,
    )


def test_too_few_frames_have_no_phrase() -> None:
    short = frames({A: 0.0})
    assert placed(short, phrase(500.0, EVERYWHERE, units=(X, Y, X))) == (A,)
    assert placed(short[:0], phrase(500.0, EVERYWHERE, units=(X,))) == ()
