"""Speakers while a recording grows: turns at once, names that stay, and little work."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from auris.diarization import live as module
from auris.diarization.diarizer import Diarizer, SpeakerCount
from auris.diarization.live import LiveDiarization
from auris.types import SAMPLE_RATE, Samples, SpeakerTurn
from tests.diarization.voices import diarizer, spoken

TALK = spoken((0, 6), (None, 1), (1, 5), (None, 1), (0, 5), (None, 1), (2, 7))
CHUNK = 4 * SAMPLE_RATE


def live(networks: Diarizer | None = None, count: SpeakerCount | None = None) -> LiveDiarization:
    return LiveDiarization(networks or diarizer(), count or SpeakerCount())


def grown(
    session: LiveDiarization, samples: Samples, start: int = 0
) -> Iterator[list[SpeakerTurn]]:
    """The newest turns after every second, where chunks of four seconds are fed."""
    for end in range(SAMPLE_RATE, len(samples) + 1, SAMPLE_RATE):
        first = end // CHUNK * CHUNK
        if first == end:
            session.feed(start + first - CHUNK, samples[first - CHUNK : first])
        session.label_newest(start + first, samples[first:end])
        yield session.turns((start + max(end - CHUNK, 0)) / SAMPLE_RATE)


def speaker_at(turns: list[SpeakerTurn], seconds: float) -> str | None:
    found = [turn.speaker for turn in turns if turn.start <= seconds < turn.end]
    return found[-1] if found else None


def test_the_newest_speaker_is_known_after_a_second() -> None:
    expected = {3: "speaker 1", 9: "speaker 2", 16: "speaker 1", 23: "speaker 3"}
    found = dict(enumerate(grown(live(), TALK), 1))
    assert {s: speaker_at(found[s], s - 0.5) for s in expected} == expected


def test_the_turns_at_the_end_are_those_of_the_recording() -> None:
    session = live()
    list(grown(session, TALK))
    end = len(TALK) // CHUNK * CHUNK
    session.feed(end, TALK[end:])
    assert session.finish() == diarizer().diarize((TALK, SAMPLE_RATE))


def test_live_labels_do_not_change_the_result() -> None:
    """Nor does asking for it in the middle."""
    session = live()
    for _ in grown(session, TALK):
        session.finish()
    session.feed(len(TALK) // CHUNK * CHUNK, TALK[len(TALK) // CHUNK * CHUNK :])
    assert session.finish() == diarizer().diarize((TALK, SAMPLE_RATE))


def test_speakers_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the numbers of the groups change with every clustering."""
    clustered = module.clustered

    def reversed_groups(*given: object) -> tuple[list[np.ndarray], np.ndarray]:
        labels, centers = clustered(*given)
        last = len(centers) - 1
        return [np.where(label < 0, label, last - label) for label in labels], centers[::-1]

    monkeypatch.setattr(module, "clustered", reversed_groups)
    found = dict(enumerate(grown(live(), TALK), 1))
    assert speaker_at(found[4], 3.5) == speaker_at(found[16], 15.5)
    assert len({speaker_at(found[s], s - 0.5) for s in (4, 10, 23)}) == 3


def test_known_speakers_have_their_names_at_once() -> None:
    known = diarizer().with_known({"Ann": (spoken((1, 4)), SAMPLE_RATE)})
    found = dict(enumerate(grown(live(known), TALK), 1))
    assert speaker_at(found[3], 2.5) == "speaker 1"
    assert speaker_at(found[10], 9.5) == "Ann"


def test_names_by_order_are_given_once() -> None:
    count = SpeakerCount.of(["Ann", "Bob", "Cid"])
    *_, last = grown(live(count=count), TALK)
    assert speaker_at(last, 25.0) in {"Ann", "Bob", "Cid"}


def test_streams_of_a_recording_may_begin_later_and_leave_gaps() -> None:
    """Times are those of the recording, and what lies between two streams is silent."""
    session, first = live(), 30 * SAMPLE_RATE
    assert session.turns(0.0) == []
    *_, turns = grown(session, spoken((0, 4)), first)
    assert (turns[0].start, turns[-1].end) == pytest.approx((30.0, 34.0), abs=0.2)
    later = 50 * SAMPLE_RATE
    *_, turns = grown(session, spoken((0, 3), (1, 5)), later)
    assert speaker_at(turns, 55.0) == "speaker 2"
    assert {turn.speaker for turn in session.finish()} == {"speaker 1", "speaker 2"}


def test_clustering_becomes_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of clusterings grows with the logarithm of the length."""
    counts: list[int] = []
    clustered = module.clustered

    def counted(*given: object) -> object:
        counts.append(1)
        return clustered(*given)

    monkeypatch.setattr(module, "clustered", counted)
    session = live()
    minutes = []
    for _ in range(4):
        list(grown(session, np.tile(TALK, 3)[: 60 * SAMPLE_RATE], session._end))
        minutes.append(len(counts))
    steps = np.diff(minutes)
    assert steps[-1] < minutes[0] / 2
    assert len(session._newest) <= 10


def test_sound_that_was_only_fed_has_turns_too() -> None:
    session = live()
    session.feed(0, TALK)
    assert session.turns(0.0) == []  # No speaker is known yet.
    session.label_newest(len(TALK))
    assert speaker_at(session.turns(0.0), 2.5) == "speaker 1"
