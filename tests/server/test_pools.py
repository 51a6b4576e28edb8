"""Work outside the event loop: cheap work does not wait for expensive work."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import pytest

from auris.server import pools as pools_module
from auris.server.errors import ApiError
from auris.server.pools import Lane, Pools
from tests.server.live import lower_this_thread, until


class BlockingWork:
    """Work that lasts until it is released."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self) -> str:
        self.begun.release()
        assert self.go.wait(30)
        return "done"


@pytest.fixture
def held() -> Iterator[BlockingWork]:
    held = BlockingWork()
    yield held
    held.go.set()


def _clock(now: Callable[[], float]) -> SimpleNamespace:
    """The module `time` for lanes; the event loops of other servers keep the real one."""
    return SimpleNamespace(monotonic=now)


def test_a_full_lane_does_not_delay_other_lanes(held: BlockingWork) -> None:
    pools = Pools()
    for lane in (*pools.decoding, pools.fetch, pools.disk):
        for _ in range(64):
            lane.submit(held)
    assert pools.quick.submit(lambda: 7).result(30) == 7
    assert pools.calls.submit(lambda: 8).result(30) == 8
    pools.close()


def test_results_and_errors_are_returned() -> None:
    lane = Lane("test", 1)
    assert lane.submit(lambda: "a").result(30) == "a"
    with pytest.raises(ZeroDivisionError):
        lane.submit(lambda: 1 // 0).result(30)
    assert lane.submit(lambda: "b").result(30) == "b"
    lane.close()


def test_threads_are_started_as_needed(held: BlockingWork) -> None:
    lane = Lane("test", 3)
    works = [lane.submit(held) for _ in range(5)]
    for _ in range(3):
        assert held.begun.acquire(timeout=30)
    assert not held.begun.acquire(timeout=0.1)
    held.go.set()
    assert [work.result(30) for work in works] == ["done"] * 5
    lane.close()


def test_work_cancelled_while_queued_is_not_run(held: BlockingWork) -> None:
    lane = Lane("test", 1, waiting=1)
    first = lane.submit(held)
    assert held.begun.acquire(timeout=30)
    done: list[int] = []
    assert lane.submit(lambda: done.append(1)).cancel()
    second = lane.submit(lambda: done.append(2))  # It replaces the cancelled one.
    held.go.set()
    second.result(30)
    assert first.result(30) == "done"
    assert done == [2]
    lane.close()


def test_a_full_lane_refuses_with_retry_after(held: BlockingWork) -> None:
    lane = Lane("test", 1, waiting=2)
    lane.submit(held)
    assert held.begun.acquire(timeout=30)
    lane.submit(held)
    lane.submit(held)
    with pytest.raises(ApiError) as refused:
        lane.submit(held)
    assert refused.value.status == 429
    assert int(refused.value.headers["Retry-After"]) >= 3
    lane.close()


def test_retry_after_counts_running_work(
    held: BlockingWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While all threads are busy for minutes, no finished work gives a duration."""
    lane = Lane("test", 1, waiting=1)
    lane.submit(held)
    assert held.begun.acquire(timeout=30)
    until(lambda: lane._began)
    lane.submit(held)
    later = time.monotonic() + 200
    monkeypatch.setattr(pools_module, "time", _clock(lambda: later))
    with pytest.raises(ApiError) as refused:
        lane.submit(held)
    assert 400 <= int(refused.value.headers["Retry-After"]) <= 410
    lane.close()


def test_clients_are_served_in_turn(held: BlockingWork) -> None:
    lane, done = Lane("test", 1), []
    lane.submit(held)
    assert held.begun.acquire(timeout=30)
    works = [
        lane.submit(partial(done.append, f"{client}{number}"), client)
        for client, count in (("a", 5), ("b", 2), ("c", 1))
        for number in range(count)
    ]
    held.go.set()
    for work in works:
        work.result(30)
    assert done == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]
    lane.close()


def test_small_uploads_overtake_large_ones(
    held: BlockingWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane, done = Lane("test", 1), []
    lane.submit(held)
    assert held.begun.acquire(timeout=30)
    works = []
    for second, size in ((0, 9_000_000), (1, 300_000_000), (2, 100_000), (8, 200_000), (20, 0)):
        monkeypatch.setattr(pools_module, "time", _clock(lambda now=1e6 + second: now))
        works.append(lane.submit(partial(done.append, second), size=size))
    held.go.set()
    for work in works:
        work.result(30)
    assert done == [2, 8, 0, 1, 20]
    lane.close()


def test_closing_does_not_wait_for_work(held: BlockingWork) -> None:
    lane = Lane("test", 1)
    under_way = lane.submit(held)
    assert held.begun.acquire(timeout=30)
    waiting = lane.submit(held)
    lane.close()
    assert waiting.cancelled()
    with pytest.raises(ApiError, match="stopping"):
        lane.submit(held)
    held.go.set()
    assert under_way.result(30) == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads")
def test_threads_for_expensive_work_have_lower_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools_module, "lower_this_thread", lower_this_thread)

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    lane, before = Lane("test", 1, niceness=3), niceness()
    assert lane.submit(niceness).result(30) == min(before + 3, 19)
    assert niceness() == before
    lane.close()
