"""The order of searches that wait."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from auris.recognition.requests import ChunkRequest
from auris.streaming.decoder import StepCost, StreamStep
from auris.streaming.searches import Search, SearchQueue


@dataclass(eq=False)
class FakeSession:
    searches: int = 0


class FakeBatch:
    """Takes one chunk, whose search is over after a pass."""

    def __init__(self) -> None:
        self.requests: list[ChunkRequest] = []

    def has_room(self) -> bool:
        return not self.requests

    def add(self, request: ChunkRequest) -> None:
        self.requests.append(request)

    def step(self) -> list[Any]:
        done = [SimpleNamespace(key=one.key, segment=one.chunk) for one in self.requests]
        self.requests.clear()
        return done


def search(session: FakeSession, name: str, ends: bool, cancelled: bool = False) -> Search:
    request = ChunkRequest(0, name, None, cancelled=lambda: cancelled)
    step = StreamStep(None, request, ends)
    return Search(session, step, StepCost(0, 0, 0))


def order(*searches: Search) -> list[Any]:
    """What the queue found, in order."""
    queue = SearchQueue(SimpleNamespace(batch=lambda rows: FakeBatch()))
    for one in searches:
        queue.add(one)
    found = []
    while queue.pending:
        found += [segment for _, segment in queue.step()]
    assert not any(one.session.searches for one in searches)
    return found


def test_chunks_that_are_over_are_searched_first() -> None:
    first, second = FakeSession(), FakeSession()
    assert order(
        search(first, "early", ends=False),
        search(second, "over", ends=True),
        search(second, "over, too", ends=True),
    ) == ["over", "over, too", "early"]


def test_a_later_search_of_words_that_wait_replaces_one_that_has_not_begun() -> None:
    first, second = FakeSession(), FakeSession()
    assert order(
        search(first, "over", ends=True),
        search(second, "early", ends=False),
        search(second, "later", ends=False),
    ) == ["over", "later"]


def test_a_cancelled_search_is_not_begun() -> None:
    one = FakeSession()
    assert order(search(one, "early", ends=False, cancelled=True)) == []
