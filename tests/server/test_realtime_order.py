"""The order of the events of a session with two items in work, without a model."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from auris.errors import EngineError
from auris.server.realtime.config import Session
from auris.server.realtime.deferred import DeferredText
from auris.server.realtime.items import Item
from auris.server.realtime.order import AT_ONCE
from auris.server.realtime.session import RealtimeSession
from auris.streaming.decoder import StepCost
from auris.streaming.session import StreamUpdate
from auris.types import Segment, Word
from tests.server.talk import DONE, FAILED, audio
from tests.server.view import FINAL, PROVISIONAL, WORDS, View

BLOCK = 2400
APPEND = {"type": "input_audio_buffer.append", "audio": audio(np.zeros(BLOCK, "<i2"))}
COMMIT = {"type": "input_audio_buffer.commit"}
CLEAR = {"type": "input_audio_buffer.clear"}


class Stream:
    """A stream that recognizes a block when it is told to: a word for each. All but the newest one
    settle."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.notify: Callable[[], object] = lambda: None
        self.blocks = self.done = 0
        self.ended = self.over = self.fails = self.closed = False
        self.news: list[StreamUpdate] = []

    @property
    def behind(self) -> bool:
        return not self.fails and (self.done < self.blocks or (self.ended and not self.over))

    @property
    def seconds(self) -> float:
        return 0.1 * self.done

    def push(self, samples: np.ndarray) -> None:
        self.blocks += len(samples) // BLOCK

    def push_end(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def updates(self) -> list[StreamUpdate]:
        if self.fails:
            raise EngineError("It failed", "", "try again")
        news, self.news = self.news, []
        return news

    def text(self, first: int, last: int) -> str:
        """Words of this stream as they stand behind the ones before."""
        return "".join(f"{' ' * (n > 0)}{self.name}{n}" for n in range(first, last))

    def work(self) -> None:
        """Recognize a block, or the end."""
        if not self.behind:
            return
        settled = max(self.done - 1, 0)
        if self.done < self.blocks:
            self.done += 1
            self._add(False, settled, self.done - 1)
        else:
            self.over = True
            self._add(True, settled, self.done)
        self.notify()

    def _add(self, final: bool, before: int, after: int) -> None:
        words = tuple(Word(f"w{n}", 0.1 * n, 0.1 * n + 0.1) for n in range(self.done))
        text, end = self.text(0, self.done), 0.1 * self.done
        segment = Segment(0.0, end, text, "English", (), (), "stop", words=words)
        partial, delta = self.text(after, self.done), self.text(before, after)
        change = {"settled": self.text(0, after), "partial": partial, "delta": delta}
        self.news.append(StreamUpdate(0, final, segment, end, StepCost(0, 0, 0), **change))


class Bench:
    """A session whose streams recognize when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, include: tuple[str, ...]) -> None:
        self.streams: list[Stream] = []
        self.most_open = 0
        self.view = View()
        self.pace: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        monkeypatch.setattr(Item, "_open", lambda item: self._open())
        monkeypatch.setattr("auris.server.realtime.items.tokens_used", lambda *_: None)
        served = SimpleNamespace(
            pool=SimpleNamespace(drive=lambda stream: None),
            engine=SimpleNamespace(recognizer=None, between=_between),
            fitted=lambda request: request,
        )
        server: Any = SimpleNamespace(
            serving=SimpleNamespace(pick=lambda name: served),
            metrics=SimpleNamespace(count=lambda *_: None),
            settings=SimpleNamespace(vad_model="energy"),
        )
        self.session = RealtimeSession(server, "tiny", True, self._send)
        heard = {"turn_detection": None}
        settings = {"type": "transcription", "include": list(include), "audio": {"input": heard}}
        self.session._settings = Session.model_validate(settings)
        self.session._cutter = None

    def say(self, *messages: dict[str, Any]) -> None:
        """Have the session read messages, one after the other."""
        for message in messages:
            self._messages.put_nowait(message)

    async def run(self, play: Callable[[], Awaitable[None]]) -> None:
        """Run the session while a test plays with it."""
        jobs = [self._read(), *(self.session.transcribe() for _ in range(AT_ONCE))]
        tasks = [asyncio.create_task(job) for job in jobs]
        playing = asyncio.create_task(play())
        done, _ = await asyncio.wait({*tasks, playing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, playing):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert done == {playing}

    async def settle(self) -> None:
        """Let everything happen that can happen."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def finish(self) -> None:
        """Recognize everything."""
        quiet = 0
        while quiet < 3:
            await self.settle()
            quiet = 0 if any(stream.behind for stream in self.open) else quiet + 1
            for stream in self.open:
                stream.work()

    @property
    def open(self) -> list[Stream]:
        return [stream for stream in self.streams if not stream.closed]

    def _open(self) -> Any:
        self.streams.append(Stream(f"s{len(self.streams)}w"))
        self.most_open = max(self.most_open, len(self.open))
        return self.streams[-1]

    async def _read(self) -> None:
        while True:
            await self.session.handle({"text": json.dumps(await self._messages.get())})

    async def _send(self, text: str) -> None:
        await self.pace()
        self.view.take(json.loads(text))


def _between(job: Callable[[], None]) -> Future[None]:
    future: Future[None] = Future()
    job()
    future.set_result(None)
    return future


def _kinds(view: View) -> list[str]:
    return [event["type"].rpartition(".")[2] for event in view.events]


def test_an_item_is_shown_before_the_one_before_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text is partial until then, and stays shown when the held events come."""
    bench = Bench(monkeypatch, (PROVISIONAL, FINAL, WORDS))

    async def play() -> None:
        bench.say(APPEND, APPEND, COMMIT, APPEND, APPEND, APPEND)
        await bench.settle()
        first, second = bench.streams
        for _ in range(3):
            second.work()
            await bench.settle()
        items = list(bench.view.items.values())
        assert items[1].ahead == ["s1w0", "s1w0 s1w1", "s1w0 s1w1 s1w2"]
        words = [event for event in bench.view.events if event["type"] == PROVISIONAL][-1]["words"]
        assert [word["start_ms"] for word in words] == [200, 300, 400]
        assert items[1].deltas == items[0].text == ""
        for _ in range(3):
            first.work()
            await bench.settle()
        assert items[0].final == "s0w0 s0w1"
        assert (items[1].deltas, items[1].partial) == ("s1w0 s1w1", " s1w2")
        bench.say(COMMIT)
        await bench.finish()
        assert items[1].final == "s1w0 s1w1 s1w2"

    asyncio.run(bench.run(play))


def test_an_item_that_is_recognized_ahead_is_completed_in_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, (PROVISIONAL, FINAL))

    async def play() -> None:
        bench.say(APPEND, COMMIT, APPEND, COMMIT, APPEND, COMMIT)
        await bench.settle()
        first, second = bench.streams
        while second.behind:
            second.work()
        await bench.settle()
        assert second.closed
        assert bench.view.items[bench.view.order[1]].ahead == ["s1w0"]
        assert len(bench.streams) == AT_ONCE, "the third one waits"
        assert not bench.view.over()
        while first.behind:
            first.work()
        await bench.settle()
        assert [last["transcript"] for last in bench.view.over()] == ["s0w0", "s1w0"]
        assert len(bench.streams) == 3
        await bench.finish()

    asyncio.run(bench.run(play))


def test_without_partial_text_nothing_is_sent_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, ())

    async def play() -> None:
        bench.say(APPEND, COMMIT, APPEND, APPEND, COMMIT)
        await bench.settle()
        while bench.streams[1].behind:
            bench.streams[1].work()
        await bench.settle()
        assert set(_kinds(bench.view)) == {"committed", "added", "done"}
        await bench.finish()
        assert _kinds(bench.view)[-5:] == ["delta", "completed", "delta", "delta", "completed"]

    asyncio.run(bench.run(play))


def test_an_item_that_fails_ahead_says_so_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What had settled of it is sent before."""
    bench = Bench(monkeypatch, (PROVISIONAL,))

    async def play() -> None:
        bench.say(APPEND, COMMIT, APPEND, APPEND, COMMIT, APPEND, COMMIT)
        await bench.settle()
        first, second = bench.streams
        for _ in range(2):
            second.work()
            await bench.settle()
        second.fails = True
        second.notify()
        await bench.settle()
        assert not bench.view.over()
        while first.behind:
            first.work()
        await bench.settle()
        assert [last["type"] for last in bench.view.over()] == [DONE, FAILED]
        assert bench.view.items[bench.view.order[1]].deltas == "s1w0"
        await bench.finish()

    asyncio.run(bench.run(play))


def test_an_item_that_fails_releases_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, (PROVISIONAL,))

    async def play() -> None:
        bench.say(APPEND, COMMIT, APPEND, APPEND)
        await bench.settle()
        first, second = bench.streams
        for _ in range(2):
            second.work()
            await bench.settle()
        first.fails = True
        first.notify()
        await bench.settle()
        shown = list(bench.view.items.values())[1]
        assert (shown.deltas, shown.partial) == ("s1w0", " s1w1")

    asyncio.run(bench.run(play))


def test_audio_is_cleared_while_the_item_before_is_not_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next item then begins in its place."""
    bench = Bench(monkeypatch, (PROVISIONAL,))

    async def play() -> None:
        bench.say(APPEND, COMMIT, APPEND, APPEND)
        await bench.settle()
        bench.streams[1].work()
        bench.streams[1].work()
        await bench.settle()
        bench.say(CLEAR, COMMIT, APPEND)
        await bench.settle()
        assert _kinds(bench.view)[-2:] == ["cleared", "error"]
        third = bench.streams[2]
        third.work()
        await bench.settle()
        assert bench.view.events[-1]["text"] == "s2w0"
        bench.say(COMMIT)
        await bench.finish()
        assert [last["transcript"] for last in bench.view.over()] == ["s0w0", "s2w0"]

    asyncio.run(bench.run(play))


def test_audio_ahead_counts_until_its_text_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the events that are held are those of a limited length of audio."""
    monkeypatch.setattr("auris.server.realtime.session.BACKLOG_SECONDS", 1.0)
    bench = Bench(monkeypatch, (PROVISIONAL,))

    async def play() -> None:
        bench.say(APPEND, COMMIT, *[APPEND] * 40, COMMIT)
        for _ in range(60):
            await bench.settle()
            bench.streams[1].work()
        assert bench.streams[1].done == 10
        await bench.finish()
        assert len(bench.view.over()) == 2
        assert bench.view.over()[1]["transcript"].count("w") == 40

    asyncio.run(bench.run(play))


def test_a_client_that_reads_slowly_gets_all_events_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While an event of one item is being sent, none of the other is."""
    bench = Bench(monkeypatch, (PROVISIONAL, FINAL))
    reads = asyncio.Semaphore(0)

    async def play() -> None:
        bench.pace = reads.acquire  # type: ignore[assignment]
        bench.say(APPEND, APPEND, COMMIT, APPEND, APPEND, APPEND, COMMIT)
        for _ in range(3):
            reads.release()  # The events of a commit.
        await bench.settle()
        for stream in bench.streams:
            for _ in range(4):
                stream.work()
        await bench.settle()
        assert len(bench.view.events) == 3
        for _ in range(40):
            reads.release()
            await bench.settle()
        bench.pace = lambda: asyncio.sleep(0)
        await bench.finish()
        assert len(bench.view.over()) == 2

    asyncio.run(bench.run(play))


def test_deferred_text_is_that_of_all_chunks() -> None:
    """With the words of chunks that are over and of the open one."""
    deferred = DeferredText()
    parts = [(True, "one", "", 0.0), (True, " two", "", 1.0), (False, " three", " four", 2.0)]
    shown = []
    for number, (final, delta, partial, start) in enumerate(parts):
        words = (Word(str(number), start, start + 1.0),)
        reason: Any = "stop"
        segment = Segment(start, start + 1.0, "", "English", (), (), reason, words=words)
        cost = StepCost(0, 0, 0)
        update = StreamUpdate(number, final, segment, 0.0, cost, partial=partial, delta=delta)
        deferred.add(update, [{"type": delta}])
        text, so_far = deferred.shown()
        shown.append((text, so_far.start, so_far.end, [word.text for word in so_far.words or ()]))
    assert shown == [
        ("one", 0.0, 1.0, ["0"]),
        ("one two", 0.0, 2.0, ["0", "1"]),
        ("one two three four", 0.0, 3.0, ["0", "1", "2"]),
    ]
    assert [event["type"] for event in deferred.events] == ["one", " two", " three"]


@pytest.mark.parametrize("include", [(), (PROVISIONAL,), (PROVISIONAL, FINAL, WORDS)])
def test_any_order_of_work_gives_events_in_order(
    monkeypatch: pytest.MonkeyPatch, include: tuple[str, ...]
) -> None:
    for seed in range(12):
        _play_at_random(Bench(monkeypatch, include), random.Random(seed))


def _play_at_random(bench: Bench, chance: random.Random) -> None:
    """Clients and streams do what comes into their minds; each item must have its text."""
    failed: set[str] = set()

    async def pace() -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)

    async def play() -> None:
        bench.pace = pace
        for _ in range(chance.randrange(40, 120)):
            bench.say(chance.choices([APPEND, COMMIT, CLEAR], [12, 3, 1])[0])
            for stream in chance.choices(bench.open, k=2) if bench.open else ():
                stream.work()
                if chance.random() < 0.02:
                    stream.fails = True
                    failed.add(stream.name)
                    stream.notify()
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
        bench.say(COMMIT)
        await bench.finish()

    asyncio.run(bench.run(play))
    view = bench.view
    assert bench.most_open <= AT_ONCE
    assert not bench.open
    assert len(view.over()) == len(view.order)
    assert bench.session._backlog == pytest.approx(0)
    names = [last["transcript"].split("w")[0] for last in view.over() if last["type"] == DONE]
    assert names == sorted(names, key=lambda name: int(name[1:]))
    assert len(names) >= len(view.order) - len(failed)
    for last in view.over():
        if last["type"] == DONE:
            name = last["transcript"].split("w")[0] + "w"
            stream = next(one for one in bench.streams if one.name == name)
            assert last["transcript"] == stream.text(0, stream.blocks)
            assert view.items[last["item_id"]].deltas == last["transcript"]
