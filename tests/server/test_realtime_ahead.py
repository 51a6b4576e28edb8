"""Items of a realtime session that are recognized while the one before has no final text: a real
server and client."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socket import SHUT_RDWR
from typing import Any

import numpy as np
import pytest

from auris import AsrPipeline
from auris.errors import EngineError
from auris.streaming.pool import StreamPool
from tests.server.live import EXAMPLE_TEXT, Live, until
from tests.server.talk import DONE, FAILED, Event, Talk, spoken, talk
from tests.server.view import FINAL, PROVISIONAL, WORDS, View

SPEAKERS = "auris.speakers"
CUT = {"vad": False, "end_at_pauses": True, "chunk_seconds": 8}


class Searches:
    """The searches of a pool, which wait while they are held."""

    def __init__(self, pool: StreamPool) -> None:
        self.held = True
        self.error: EngineError | None = None
        self._queue = pool._searches
        self._step = self._queue.step

    def step(self) -> list[Any]:
        """A pass, or none."""
        if self.held:
            time.sleep(0.005)
            return []
        error, self.error = self.error, None
        if error is None:
            return self._step()
        search = self._queue._waiting.pop(0)
        search.session.searches -= 1
        return [(search, error)]


@contextmanager
def held_searches(live: Live, monkeypatch: pytest.MonkeyPatch) -> Iterator[Searches]:
    """The searches of the server's model; final texts wait for them."""
    pool = live.server.serving.pick("tiny").pool
    searches = Searches(pool)
    monkeypatch.setattr(pool._searches, "step", searches.step)
    try:
        yield searches
    finally:
        searches.held = False
        until(lambda: not pool._sessions)
        monkeypatch.undo()


def _see(view: View, session: Talk, kind: str, number: int = 1) -> Event:
    """The next event of a kind, or the one after so many."""
    while True:
        event = session.next()
        view.take(event)
        number -= event["type"] == kind
        if not number:
            return event


def _said(session: Talk, *parts: np.ndarray) -> None:
    for part in parts:
        session.append(part)
        session.send("input_audio_buffer.commit")


def test_partial_text_comes_before_the_final_text_of_the_item_before(
    live: Live, offline: AsrPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, view = live.server.serving.pick("tiny").pool, View()
    voices = [spoken(), spoken(2, pause=0.3), spoken()[4800:]]
    with held_searches(live, monkeypatch) as searches, talk(live.url) as session:
        session.update(include=(PROVISIONAL, FINAL, WORDS))
        _said(session, *voices)
        while not any(item.ahead and "fan" in item.ahead[-1] for item in view.items.values()):
            view.take(session.next())
        first, second = view.order[:2]
        assert not view.items[first].deltas
        assert not view.over()
        words = [event for event in view.events if event["type"] == PROVISIONAL][-1]["words"]
        assert words[0]["start_ms"] >= 1000 * len(voices[0]) / 24_000
        assert len(pool._sessions) == 2, "the third item waits"
        searches.held = False
        _see(view, session, DONE, 3)
    assert view.items[second].ahead[0] != ""
    for voice, last in zip(voices, view.over(), strict=True):
        assert last["transcript"] == offline.transcribe((voice, 24_000), **CUT).text


def test_a_failure_releases_the_next_item(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    view = View()
    with held_searches(live, monkeypatch) as searches, talk(live.url) as session:
        session.update(include=(PROVISIONAL,))
        _said(session, spoken(), spoken())
        while not any(item.ahead for item in view.items.values()):
            view.take(session.next())
        searches.error = EngineError("It failed", "", "try again")
        searches.held = False
        _see(view, session, DONE)
    assert [last["type"] for last in view.over()] == [FAILED, DONE]
    assert view.over()[1]["transcript"] == EXAMPLE_TEXT


def test_turns_of_the_server_are_recognized_ahead(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = View()
    with held_searches(live, monkeypatch) as searches, talk(live.url, manual=False) as session:
        session.update(include=(PROVISIONAL,))
        session.append(spoken(2, pause=1.2), 4800)
        while not any(item.ahead for item in view.items.values()):
            view.take(session.next())
        kinds = [event["type"].rpartition(".")[2] for event in view.events]
        assert kinds.count("committed") == kinds.count("speech_stopped") >= 1
        searches.held = False
        while len(view.over()) < 2:
            view.take(session.next())
    assert [last["transcript"] for last in view.over()] == [EXAMPLE_TEXT] * 2


def test_cleared_audio_ahead_makes_room_for_the_next_item(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = View()
    with held_searches(live, monkeypatch) as searches, talk(live.url) as session:
        session.update(include=(PROVISIONAL,))
        _said(session, spoken())
        session.append(spoken(2))
        while not any(item.ahead for item in view.items.values()):
            view.take(session.next())
        session.send("input_audio_buffer.clear")
        session.send("input_audio_buffer.commit")
        assert _see(view, session, "input_audio_buffer.cleared")
        assert _see(view, session, "error")["error"]["code"] == "input_audio_buffer_commit_empty"
        _said(session, spoken())
        while not view.items[list(view.items)[-1]].ahead:
            view.take(session.next())
        searches.held = False
        _see(view, session, DONE, 2)
    assert [last["transcript"] for last in view.over()] == [EXAMPLE_TEXT] * 2
    assert len(view.items) == 3


def test_a_disconnect_frees_both_streams(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = live.server.serving.pick("tiny").pool
    with held_searches(live, monkeypatch):
        with talk(live.url) as session:
            _said(session, spoken(), spoken())
            session.append(spoken())
            until(lambda: len(pool._sessions) == 2)
            session.socket.socket.shutdown(SHUT_RDWR)
        until(lambda: live.server.realtime_sessions == 0)
        until(lambda: not pool._sessions)


def test_speakers_are_told_apart_item_by_item(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item with speakers begins when the one before is over, and they are corrected at last."""
    pool, view = live.server.serving.pick("tiny").pool, View()
    with held_searches(live, monkeypatch) as searches, talk(live.url) as session:
        session.update(include=(PROVISIONAL, SPEAKERS))
        _said(session, spoken(), spoken())
        session.send("auris.speakers.correct")
        _said(session, spoken())
        _see(view, session, "input_audio_buffer.committed", 3)
        until(lambda: len(pool._sessions) == 1 and pool._searches.pending == 1)
        searches.held = False
        _see(view, session, "auris.speakers.corrected")
        assert len(view.over()) == 2
        corrected = view.events[-1]["items"]
        _see(view, session, DONE)
    assert [item["item_id"] for item in corrected] == view.order[:2]
    assert not any(item.ahead for item in view.items.values())


@pytest.mark.parametrize("seed", range(4))
def test_any_messages_give_events_in_order(live: Live, offline: AsrPipeline, seed: int) -> None:
    """Items of all lengths, as fast as the network takes them, and some that are dropped."""
    chance, view = random.Random(seed), View()
    voice, kept = spoken(8, pause=0.3), []
    with talk(live.url) as session:
        include = ((PROVISIONAL,), (PROVISIONAL, FINAL, WORDS), (FINAL,), ())[seed]
        session.update(include=include)
        for _ in range(10):
            start = chance.randrange(len(voice) // 2)
            part = voice[start : start + chance.randrange(2400, 70_000)]
            if chance.random() < 0.2:
                session.append(part)
                session.send("input_audio_buffer.clear")
                continue
            _said(session, part)
            kept.append(part)
        _see(view, session, DONE, len(kept))
    files = [offline.transcribe((part, 24_000), **CUT).text for part in kept]
    assert [last["transcript"] for last in view.over()] == files
