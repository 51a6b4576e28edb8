"""Words near cuts: counts of lost, repeated, split and joined words."""

from __future__ import annotations

import pytest

from cuts import CutScore, score_cuts

pytest.importorskip("jiwer")

SPOKEN = ["we", "turn", "off", "the", "light", "in", "the", "kitchen", "now"]


def scored(*pieces: str) -> CutScore:
    return score_cuts(SPOKEN, [piece.split() for piece in pieces])


def test_correct_texts_have_no_errors() -> None:
    score = scored("we turn off", "", "the light in the", "kitchen now")
    assert score == CutScore(2, 0, 0, 0, 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("pieces", "count"),
    [
        (("we turn off", "light in the kitchen now"), "lost"),
        (("we turn off the", "the light in the kitchen now"), "doubled"),
        (("we turn off the light in the kit", "chen now"), "broken"),
        (("we turn offthe", "light in the kitchen now"), "glued"),
    ],
)
def test_errors_at_a_cut_are_classified(pieces: tuple[str, ...], count: str) -> None:
    score = scored(*pieces)
    found = {name: getattr(score, name) for name in ("lost", "doubled", "broken", "glued")}
    assert found.pop(count) == 1
    assert not any(number for name, number in found.items() if name != "lost")
    assert score.cuts == 1
    assert score.next_to_cuts > 0.0
    assert score.elsewhere == 0.0


def test_errors_away_from_cuts_are_counted_separately() -> None:
    score = scored("we turn off", "the light in kitten now")
    assert (score.lost, score.next_to_cuts) == (0, 0.0)
    assert score.elsewhere > 0.0


def test_an_empty_text_has_no_cuts() -> None:
    assert scored("", "") == CutScore(0, 0, 0, 0, 0, 0.0, 0.0)
    assert score_cuts([], [["so"], ["what"]]).next_to_cuts == 1.0
