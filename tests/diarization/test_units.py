"""Units of speech: windows of them, and recordings whose speakers a model of voices finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from auris.diarization import clustering
from auris.diarization.clustering import NOBODY, ClusterSettings, clustered
from auris.diarization.diarizer import SpeakerCount
from auris.diarization.live import LiveDiarization
from auris.diarization.windows import (
    FRAME,
    UNIT_SOUND_FRAMES,
    SegmentedWindows,
    VoiceWindow,
    _units,
)
from auris.types import SAMPLE_RATE, Samples, SpeakerTurn
from tests.diarization.test_clustering import agree, windows
from tests.diarization.voices import OneVoice, ToneEncoder, diarizer, space, spoken, units_diarizer

TALK = spoken(
    (None, 1), (0, 7), (None, 0.2), (1, 6), (None, 0.2), (0, 8), (None, 1), (2, 9), (None, 1)
)
BORDERS = [(1.0, 8.0), (8.2, 14.2), (14.4, 22.4), (23.4, 32.4)]
WIDTH = 64


SETTINGS = ClusterSettings(threshold=0.5, space=space(WIDTH))


def read(samples: Samples, size: int) -> list[VoiceWindow]:
    reader = SegmentedWindows(OneVoice(), ToneEncoder(), units=True)
    found = []
    for start in range(0, len(samples), size):
        found += reader.feed(samples[start : start + size])
    return [*found, *reader.finish()]


@pytest.mark.parametrize("seconds", [0.5, 9.0, 10.0, 12.4, 15.0, 17.6, 33.4])
def test_windows_follow_each_other(seconds: float) -> None:
    samples = spoken((0, seconds))
    found = read(samples, 16_000)
    ends = [window.start + len(window.active) for window in found]
    assert [window.start for window in found] == [0, *ends[:-1]]
    assert ends[-1] == len(samples) // FRAME
    for window in found:
        assert window.active.sum(1).max() <= 1  # No frame is of two units.


def test_units_do_not_depend_on_the_sizes_of_blocks() -> None:
    whole = read(TALK, len(TALK))
    for size in (3333, 100_001):
        for one, other in zip(whole, read(TALK, size), strict=True):
            assert one.start == other.start
            np.testing.assert_array_equal(one.active, other.active)
            np.testing.assert_array_equal(one.embeddings, other.embeddings)


def test_the_sound_of_a_unit_stays_between_pauses() -> None:
    state = np.zeros(1000, bool)
    state[100:420] = state[450:540] = state[600:640] = True
    units = _units(state)
    spans = [unit[:2] for unit in units]
    assert [high for _, high in spans[:5]] == [low for low, _ in spans[1:6]]
    assert (spans[0][0], spans[5][1]) == (100, 420)
    assert spans[6:] == [(450, 495), (495, 540), (600, 640)]
    for low, high, begin, end in units:
        phrase = next(one for one in ((100, 420), (450, 540), (600, 640)) if one[0] <= low < one[1])
        assert phrase[0] <= begin <= low < high <= end <= phrase[1]
        assert end - begin == min(UNIT_SOUND_FRAMES, phrase[1] - phrase[0])


def turns_in_blocks(size: int) -> list[SpeakerTurn]:
    session = units_diarizer().session()
    for start in range(0, len(TALK), size):
        session.feed(start, TALK[start : start + size])
    return session.finish()


def test_turns_are_exact_and_do_not_depend_on_the_sizes_of_blocks() -> None:
    turns = units_diarizer().diarize((TALK, SAMPLE_RATE))
    names = ["speaker 1", "speaker 2", "speaker 1", "speaker 3"]
    assert [turn.speaker for turn in turns] == names
    for turn, (start, end) in zip(turns, BORDERS, strict=True):
        assert turn.start == pytest.approx(start, abs=0.1)
        assert turn.end == pytest.approx(end, abs=0.1)
    for size in (3333, 100_001):
        assert turns_in_blocks(size) == turns


def test_live_turns_end_as_those_of_the_recording() -> None:
    live = LiveDiarization(units_diarizer(), SpeakerCount())
    chunk = 4 * SAMPLE_RATE
    seen: set[str | None] = set()
    for end in range(SAMPLE_RATE, len(TALK) + 1, SAMPLE_RATE):
        first = end // chunk * chunk
        if first == end:
            live.feed(first - chunk, TALK[first - chunk : first])
        live.label_newest(first, TALK[first:end])
        seen |= {turn.speaker for turn in live.turns(0.0)}
    live.feed(len(TALK) // chunk * chunk, TALK[len(TALK) // chunk * chunk :])
    assert live.finish() == units_diarizer().diarize((TALK, SAMPLE_RATE))
    assert {"speaker 1", "speaker 2", "speaker 3"} <= seen


@pytest.mark.parametrize("count", [1, 2, 5])
def test_speakers_are_told_apart(count: int) -> None:
    speakers = [unit // 8 % count for unit in range(40 * count)]
    labels, centers = clustered(windows(speakers, frames=50), SETTINGS)
    assert len(centers) == count
    assert agree(labels, speakers)


def test_limits_of_the_number_hold() -> None:
    units = windows([unit // 10 % 4 for unit in range(160)], frames=50)
    assert len(clustered(units, SETTINGS, most=2)[1]) == 2
    assert len(clustered(units, SETTINGS, least=6, most=6)[1]) == 6
    assert len(clustered(units, SETTINGS, least=2, most=8)[1]) == 4


def test_a_voice_of_a_moment_is_given_to_somebody_else() -> None:
    speakers = [0] * 40 + [1] * 40 + [2] * 3
    labels, centers = clustered(windows(speakers, frames=50), SETTINGS)
    assert len(centers) == 2
    assert agree(labels[:80], speakers[:80])


def test_units_without_an_embedding_are_nobodys() -> None:
    short = VoiceWindow(
        2000,
        np.ones((10, 1), bool),
        np.zeros(1, np.int64),
        np.zeros((1, WIDTH), np.float32),
        np.zeros(1, np.int64),
    )
    labels, _ = clustered([*windows([0] * 40, frames=50), short], SETTINGS)
    assert labels[-1].tolist() == [NOBODY]
    assert clustered([short], SETTINGS)[0][0].tolist() == [NOBODY]


def test_the_order_of_windows_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the newest sound of a stream come last and lie between others."""
    given: list[NDArray[np.float64]] = []
    inner = clustering.inferred

    def recorded(points: NDArray[np.float64], *others: Any) -> NDArray[np.float64]:
        given.append(points)
        return inner(points, *others)

    monkeypatch.setattr(clustering, "inferred", recorded)
    units = windows([unit // 8 % 3 for unit in range(120)], frames=50)
    clustered(units, SETTINGS)
    clustered([*units[::2], *units[1::2]], SETTINGS)
    np.testing.assert_array_equal(given[0], given[1])


def test_known_voices_have_their_names() -> None:
    known = units_diarizer().with_known({"Ann": (spoken((1, 4)), SAMPLE_RATE)})
    turns = known.diarize((TALK, SAMPLE_RATE))
    assert [turn.speaker for turn in turns] == ["speaker 1", "Ann", "speaker 1", "speaker 2"]


def test_networks_that_tell_voices_apart_have_no_units() -> None:
    found = list(diarizer().networks.reader().feed(TALK))
    assert [window.start for window in found] == [500 * number for number in range(len(found))]
    assert all(len(window.active) == 1000 for window in found)
