"""The hidden Markov model of speakers, against its definition and with artificial voices."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from auris.diarization import voice_model
from auris.diarization.voice_model import STAYS, VoiceSpace, _smoothed, inferred

VARIANCES = np.linspace(8.0, 4.0, 12).astype(np.float32)


def spoken(speakers: list[int], seed: int = 0) -> NDArray[np.float64]:
    """A point for each unit: the voice of its speaker, and noise with a variance of 1."""
    generator = np.random.default_rng(seed)
    voices = generator.standard_normal((max(speakers) + 1, 12)) * np.sqrt(VARIANCES)
    return np.asarray(voices[speakers] + generator.standard_normal((len(speakers), 12)))


def turns(count: int, length: int, units: int) -> list[int]:
    """Speakers in turn, who speak for as many units each."""
    return [unit // length % count for unit in range(units)]


def found(points: NDArray[np.float64], groups: list[int] | NDArray[np.int64]) -> list[int]:
    weights = np.ones(len(points))
    return list(inferred(points, weights, VARIANCES, np.asarray(groups)).argmax(1))


def test_probabilities_are_those_of_all_sequences() -> None:
    generator = np.random.default_rng(1)
    scores, shares = generator.standard_normal((5, 3)), np.array([0.5, 0.3, 0.2])
    states, begins = np.zeros((5, 3)), np.zeros(3)
    total = 0.0
    for path in product(range(3), repeat=5):
        # Whether each unit begins anew is hidden, too: the same speaker can begin again.
        for anew in product((True, False), repeat=4):
            begun = (True, *anew)
            likely = np.exp(sum(scores[time, speaker] for time, speaker in enumerate(path)))
            for time, speaker in enumerate(path):
                if begun[time]:
                    likely *= shares[speaker] * (1 if time == 0 else 1 - STAYS)
                else:
                    likely *= STAYS * (path[time - 1] == speaker)
            total += likely
            for time, speaker in enumerate(path):
                states[time, speaker] += likely
                begins[speaker] += likely * begun[time]
    actual, expected = _smoothed(scores, shares)
    np.testing.assert_allclose(actual, states / total, rtol=1e-9)
    np.testing.assert_allclose(expected, begins / total, rtol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_number_of_speakers_is_found(count: int) -> None:
    speakers = turns(count, 8, 160)
    # It begins with three groups of each speaker.
    groups = [3 * speaker + unit % 3 for unit, speaker in enumerate(speakers)]
    labels = found(spoken(speakers), groups)
    assert len(set(labels)) == count
    assert len(set(zip(labels, speakers, strict=True))) == count


def test_long_recordings_need_more_evidence_of_a_speaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A voice that changes a little in the middle of an hour is one speaker."""
    points = spoken([0] * 4000)
    points[2000:, 0] += 1.0
    groups = [unit // 2000 for unit in range(4000)]
    assert len(set(found(points, groups))) == 1
    monkeypatch.setattr(voice_model, "COST_GROWTH", 0.0)
    assert len(set(found(points, groups))) == 2


def test_a_unit_without_weight_has_the_speaker_around_it() -> None:
    speakers = turns(2, 10, 40)
    points, weights = spoken(speakers), np.ones(40)
    points[5], weights[5] = points[15], 0.0
    labels = inferred(points, weights, VARIANCES, np.array(speakers)).argmax(1)
    assert labels[5] == labels[4] != labels[15]


def test_a_lower_share_of_the_cost_finds_more_speakers() -> None:
    points = spoken([0] * 40)
    points[20:, 0] += 2.0
    groups, weights = np.repeat([0, 1], 20), np.ones(40)
    whole = inferred(points, weights, VARIANCES, groups).argmax(1)
    part = inferred(points, weights, VARIANCES, groups, 1 / 32).argmax(1)
    assert (len(set(whole)), len(set(part))) == (1, 2)


def test_points_lie_around_the_mean() -> None:
    axes = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 3.0]], np.float32)
    space = VoiceSpace(np.array([1.0, 0.0, 0.0], np.float32), axes, VARIANCES[:2])
    points = space.points(np.array([[1.0, 5.0, 0.0], [2.0, 0.0, 1.0]], np.float32))
    np.testing.assert_allclose(points, [[0, 0], [2, 3]])
