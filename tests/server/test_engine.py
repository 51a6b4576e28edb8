"""Concurrent requests in one engine: texts, order, and no blocking."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
from torch import Tensor

from auris import AsrPipeline, Transcript
from auris.errors import DeviceError, EngineError
from auris.recognition.recognizer import ChunkBatch, Recognizer
from auris.recognition.requests import ChunkRequest, ChunkResult, DecodeOptions
from auris.server.engine import CallerQueue, ChunkQueue, Engine, EngineBatch, Priority
from auris.types import Chunk, Samples, Segment
from tests.recordings import BUDGET, clip
from tests.server.live import until
from tests.tiny_models import tone_speech


@pytest.fixture
def engine(qwen: AsrPipeline) -> Iterator[Engine]:
    engine = Engine(qwen.recognizer, rows=3)
    engine.start()
    yield engine
    engine.stop()


def _over(engine: Engine, model: AsrPipeline, priority: Priority = Priority.FILE) -> AsrPipeline:
    batch = partial(EngineBatch, engine, priority)
    return AsrPipeline.over(model.recognizer, model.model, model.backend, open_batch=batch)


def _chunk(seconds: float = 1.0, cancelled: Callable[[], bool] = lambda: False) -> ChunkRequest:
    return ChunkRequest(
        0, Chunk(0, tone_speech(seconds)), DecodeOptions(max_new_tokens=BUDGET), cancelled
    )


def comparable(transcript: Transcript) -> list[object]:
    """The parts of a segment that do not depend on the batch, to the last bit."""
    return [(s.start, s.end, s.text, s.tokens, s.finish_reason) for s in transcript.segments]


class Watched:
    """A recognizer that records the requests of its batches, and may fail."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.config = recognizer.config
        self.tokenizer = recognizer.tokenizer
        self.check = recognizer.check
        self._recognizer = recognizer
        self.begun = 0
        self.order: list[float] = []
        self.fault: Callable[[list[ChunkRequest]], None] = lambda chunks: None

    def batch(self, rows: int) -> ChunkBatch:
        self.begun += 1
        batch = self._recognizer.batch(rows)
        taken: list[ChunkRequest] = []
        add, step = batch.add, batch.step

        def watched(request: ChunkRequest) -> None:
            taken.append(request)
            self.order.append(request.chunk.start)
            add(request)

        def failing() -> list[ChunkResult]:
            self.fault(taken)
            return step()

        batch.add, batch.step = watched, failing
        return batch


def test_texts_equal_those_of_the_pipeline(qwen: AsrPipeline, engine: Engine) -> None:
    shared = _over(engine, qwen)
    clips = [clip(0.5 + 0.7 * (number % 4), number) for number in range(12)]
    given = {"max_new_tokens": BUDGET, "chunk_seconds": 1.0}
    with ThreadPoolExecutor(12) as callers:
        ours = list(callers.map(lambda one: shared.transcribe(one, **given), clips))
    assert list(map(comparable, ours)) == [
        comparable(qwen.transcribe(one, **given)) for one in clips
    ]


def test_a_ctc_model_serves_concurrent_requests(ctc: AsrPipeline) -> None:
    engine = Engine(ctc.recognizer, rows=2)
    engine.start()
    shared = _over(engine, ctc)
    clips = [clip(1.0 + number / 4, number) for number in range(6)]
    with ThreadPoolExecutor(6) as callers:
        ours = list(callers.map(shared.transcribe, clips))
    assert list(map(comparable, ours)) == [comparable(ctc.transcribe(one)) for one in clips]
    engine.stop()


def test_a_chunk_joins_a_running_batch(qwen: AsrPipeline) -> None:
    """The second chunk is submitted during the first, and both are in one run."""
    watched = Watched(qwen.recognizer)
    engine = Engine(watched, rows=2)
    done: list[object] = []

    def submit_another(taken: list[ChunkRequest]) -> None:
        if len(taken) == 1:
            engine.submit(_chunk(), Priority.FILE, done.append)

    watched.fault = submit_another
    engine.start()
    engine.submit(_chunk(), Priority.FILE, done.append)
    until(lambda: len(done) == 2)
    assert watched.begun == 1
    engine.stop()


def test_an_idle_engine_does_not_poll(qwen: AsrPipeline) -> None:
    watched = Watched(qwen.recognizer)
    engine = Engine(watched, rows=2)
    engine.start()
    done: list[object] = []
    engine.submit(_chunk(), Priority.FILE, done.append)
    until(lambda: done and engine.load().active == 0)
    begun = watched.begun
    time.sleep(0.2)
    assert watched.begun == begun
    engine.stop()


def test_files_have_priority_over_jobs(qwen: AsrPipeline) -> None:
    watched = Watched(qwen.recognizer)
    engine = Engine(watched, rows=1)
    done: list[object] = []
    first = threading.Event()

    def wait(taken: list[ChunkRequest]) -> None:
        if len(taken) == 1 and not done:
            first.wait(60)

    watched.fault = wait
    engine.start()
    given = [Priority.FILE, Priority.JOB, Priority.JOB, Priority.FILE]
    for number, priority in enumerate(given):
        piece = ChunkRequest(0, Chunk(number, tone_speech(0.5)), DecodeOptions(max_new_tokens=3))
        engine.submit(piece, priority, done.append)
        until(lambda: bool(watched.order))
    first.set()
    until(lambda: len(done) == len(given))
    assert watched.order == [0, 3, 1, 2]
    engine.stop()


def test_a_cancelled_request_frees_its_row_at_once(qwen: AsrPipeline, engine: Engine) -> None:
    """A text without end is stopped as soon as it is cancelled."""
    shared = _over(engine, qwen)
    gone = threading.Event()
    ended: list[object] = []

    def call() -> None:
        ended.append(shared.transcribe(clip(2.0), max_new_tokens=1 << 19, cancel=gone))

    caller = threading.Thread(target=call)
    caller.start()
    until(lambda: engine.load().active == 1)
    gone.set()
    until(lambda: engine.load().active == 0)
    caller.join(10)
    assert not caller.is_alive()
    assert shared.transcribe(clip(1.0), max_new_tokens=BUDGET).finish_reason != "cancelled"


def test_ending_the_iteration_cancels_the_request(qwen: AsrPipeline, engine: Engine) -> None:
    batch = EngineBatch(engine, Priority.FILE, 2)
    options = DecodeOptions(max_new_tokens=1 << 19)
    batch.add(ChunkRequest(1, Chunk(0, tone_speech(1.0)), options))
    until(lambda: engine.load().active == 1)
    batch.cancel()
    until(lambda: engine.load().active == 0)


def test_a_chunk_cancelled_while_queued_is_not_started(qwen: AsrPipeline) -> None:
    watched = Watched(qwen.recognizer)
    engine = Engine(watched, rows=1)
    engine.start()
    done: list[object] = []
    engine.submit(_chunk(cancelled=lambda: True), Priority.FILE, done.append)
    until(lambda: bool(done))
    assert done == [None]
    assert watched.order == []
    engine.stop()


def test_only_the_failing_request_gets_the_error(qwen: AsrPipeline) -> None:
    watched = Watched(qwen.recognizer)

    def fault(taken: list[ChunkRequest]) -> None:
        if any(piece.chunk.start == 7 for piece in taken):
            raise DeviceError("Memory has to suffice", "it does not", "buy more")

    watched.fault = fault
    engine = Engine(watched, rows=3)
    done: dict[int, object] = {}
    engine.start()
    for number in (3, 5, 7):
        piece = ChunkRequest(
            0, Chunk(number, tone_speech(0.5)), DecodeOptions(max_new_tokens=BUDGET)
        )
        engine.submit(piece, Priority.FILE, lambda got, number=number: done.update({number: got}))
    until(lambda: len(done) == 3)
    assert isinstance(done[7], DeviceError)
    assert isinstance(done[3], ChunkResult)
    assert isinstance(done[5], ChunkResult)
    assert done[3].segment.tokens == done[5].segment.tokens
    engine.stop()


def test_an_internal_error_is_reported_as_one(qwen: AsrPipeline) -> None:
    watched = Watched(qwen.recognizer)

    def fault(taken: list[ChunkRequest]) -> None:
        raise ZeroDivisionError

    watched.fault = fault
    engine = Engine(watched, rows=2)
    engine.start()
    with pytest.raises(EngineError, match="ZeroDivisionError"):
        _over(engine, qwen).transcribe(clip(0.5))
    watched.fault = lambda pieces: None
    assert _over(engine, qwen).transcribe(clip(0.5), max_new_tokens=3) is not None
    engine.stop()


@dataclass(frozen=True)
class HeldStep:
    """The first step of an engine's batch, which waits until it may go on."""

    entered: threading.Event = field(default_factory=threading.Event)
    leave: threading.Event = field(default_factory=threading.Event)

    def wait(self, pieces: list[ChunkRequest]) -> None:
        self.entered.set()
        assert self.leave.wait(30)


@contextmanager
def held_step(model: AsrPipeline, rows: int) -> Iterator[tuple[Engine, HeldStep]]:
    """A running engine, and its first step."""
    watched, step = Watched(model.recognizer), HeldStep()
    watched.fault = step.wait
    engine = Engine(watched, rows)
    engine.start()
    try:
        yield engine, step
    finally:
        step.leave.set()
        engine.stop()


def test_a_stopped_engine_refuses_requests(qwen: AsrPipeline) -> None:
    engine = Engine(qwen.recognizer, rows=2)
    engine.start()
    shared = _over(engine, qwen)
    outcome: list[object] = []

    def call() -> None:
        outcome.append(shared.transcribe(clip(2.0), max_new_tokens=1 << 19))

    caller = threading.Thread(target=call)
    caller.start()
    until(lambda: engine.load().active == 1)
    engine.stop()
    caller.join(10)
    assert [result.finish_reason for result in outcome] == ["cancelled"]
    with pytest.raises(EngineError, match="stopped"):
        shared.transcribe(clip(0.5))


def test_live_steps_run_between_the_steps_of_files(qwen: AsrPipeline) -> None:
    """They do not wait for the end of a file or for a free row."""
    with held_step(qwen, rows=3) as (engine, step):
        done: list[object] = []
        for _ in range(6):
            engine.submit(_chunk(2.0), Priority.FILE, done.append)
        assert step.entered.wait(30)
        seen: list[int] = []
        live = engine.between(lambda: seen.append(len(done)))
        step.leave.set()
        live.result(30)
        assert seen[0] < 6
        until(lambda: len(done) == 6)
        assert engine.load().live_seconds > 0


def test_live_steps_run_without_files_and_report_errors(engine: Engine) -> None:
    threads: list[str] = []
    engine.between(lambda: threads.append(threading.current_thread().name)).result(30)
    assert threads == ["auris-engine"]
    with pytest.raises(ZeroDivisionError):
        engine.between(lambda: [][1 // 0]).result(30)
    assert engine.running


def test_live_work_gets_an_error_when_the_engine_stops(qwen: AsrPipeline) -> None:
    engine = Engine(qwen.recognizer, rows=1)
    engine.start()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        leave.wait(30)

    first = engine.between(hold)
    assert entered.wait(30)
    second = engine.between(lambda: None)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    until(lambda: not engine.running)
    leave.set()
    stopping.join(30)
    first.result(30)
    # It either ran before the engine stopped or got an error.
    assert second.exception(30) is None or isinstance(second.exception(), EngineError)
    with pytest.raises(EngineError):
        engine.between(lambda: None)


def test_cancelled_live_work_does_not_delay_shutdown(qwen: AsrPipeline) -> None:
    watched = Watched(qwen.recognizer)
    engine = Engine(watched, rows=1)
    entered, leave = threading.Event(), threading.Event()

    def hold(pieces: list[ChunkRequest]) -> None:
        entered.set()
        leave.wait(30)
        raise DeviceError("A device has to work", "it does not", "choose another")

    watched.fault = hold
    engine.start()
    engine.submit(_chunk(), Priority.FILE, lambda result: None)
    assert entered.wait(30)
    cancelled, waiting = engine.between(lambda: None), engine.between(lambda: None)
    assert cancelled.cancel()
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    until(lambda: not engine.running)
    leave.set()
    stopping.join(30)
    assert isinstance(waiting.exception(30), EngineError)


def test_short_recordings_go_first_and_clients_take_turns() -> None:
    queue = ChunkQueue()
    taken: list[str] = []

    def put(name: str, count: int, priority: Priority) -> None:
        caller = CallerQueue()
        for _ in range(count):
            queue.put(_chunk(), priority, lambda _: taken.append(name), caller)

    def take(count: int) -> None:
        for _ in range(count):
            ticket = queue.pop()
            assert ticket is not None
            ticket.deliver(None)

    for name, priority in (("j", Priority.JOB), ("a", Priority.FILE)):
        put(name, 3, priority)
    take(2)
    put("b", 2, Priority.FILE)
    put("s", 1, Priority.SHORT)
    take(7)
    assert "".join(taken) == "aasbabjjj"
    assert queue.pop() is None


def test_long_recordings_are_not_starved_by_short_ones() -> None:
    queue = ChunkQueue()
    queue.put(_chunk(), Priority.FILE, lambda _: None, CallerQueue())
    taken = []
    for _ in range(20):
        queue.put(_chunk(), Priority.SHORT, lambda _: None, CallerQueue())
        ticket = queue.pop()
        assert ticket is not None
        taken.append(ticket.priority)
    assert taken.count(Priority.FILE) == 1


def test_busy_seconds_grow_during_a_batch(qwen: AsrPipeline) -> None:
    """A counter that is updated only between batches would stand still during one."""
    with held_step(qwen, rows=1) as (engine, step):
        done: list[object] = []
        engine.submit(_chunk(), Priority.FILE, done.append)
        assert step.entered.wait(30)
        before = engine.load().busy_seconds
        until(lambda: engine.load().busy_seconds > before)
        step.leave.set()
        until(lambda: done)
    after = engine.load().busy_seconds
    assert engine.load().busy_seconds == after > before


def test_words_are_aligned_in_the_engine_thread(qwen: AsrPipeline, engine: Engine) -> None:
    threads: list[str] = []

    class Placing:
        def check(self, language: str | None) -> None:
            pass

        def with_words(
            self, segment: Segment, samples: Samples, states: Tensor | None = None
        ) -> Segment:
            threads.append(threading.current_thread().name)
            return segment

    given = {"max_new_tokens": BUDGET, "word_timestamps": True, "aligner": Placing()}
    _over(engine, qwen).transcribe(clip(2.0, 1), chunk_seconds=1.0, **given)
    assert set(threads) == {"auris-engine"}
