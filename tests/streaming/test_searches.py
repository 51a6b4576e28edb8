"""Searches of streams run together, and streams go on meanwhile where they are not to be late."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from auris import AsrPipeline
from auris.decoding.loop import DecodeLoop
from auris.decoding.requests import Request, Step
from auris.errors import AurisError, CheckpointError, EngineError
from auris.recognition.requests import ChunkRequest
from auris.recognition.segments import SegmentWriter
from auris.streaming.decoder import StreamStep
from auris.streaming.pool import StreamPool
from auris.streaming.searches import Search, SearchQueue
from auris.streaming.session import StreamSession
from auris.text.words import join_texts
from auris.types import SAMPLE_RATE, Segment
from tests.streaming.live import blocks, same, stable, updates_of
from tests.tiny_models import tone_speech

CUT = {"chunk_seconds": 1.0, "end_at_pauses": True, "beam_size": 3}

KINDS = ("qwen", "windows", "joined", "ctc")


def given(kind: str) -> dict[str, Any]:
    """Options of a search for few tokens."""
    return dict(CUT) if kind == "ctc" else {**CUT, "max_new_tokens": 8}


def file_of(pipeline: AsrPipeline, samples: np.ndarray, **options: Any) -> Sequence[Segment]:
    return pipeline.transcribe((samples, SAMPLE_RATE), vad=False, **options).segments


def finish_all(pool: StreamPool, streams: dict[StreamSession, np.ndarray]) -> None:
    """Push all samples, and do all work at once."""
    for stream, samples in streams.items():
        stream.push(samples)
        stream.push_end()
    pool.work()


def test_searches_that_are_due_together_are_one_batch(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, options = pipelines["qwen"], given("qwen")
    clips = [tone_speech(0.6 + 0.1 * number, number) for number in range(3)]
    files = [file_of(pipeline, clip, **options) for clip in clips]
    counts = []
    admit = DecodeLoop.admit

    def counted(self: DecodeLoop, requests: Sequence[Request]) -> list[Step]:
        counts.append(len(requests))
        return admit(self, requests)

    monkeypatch.setattr(DecodeLoop, "admit", counted)
    pool = pipeline.streams(3)
    streams = [pipeline.stream(pool=pool, partial_text=False, **options) for _ in clips]
    finish_all(pool, dict(zip(streams, clips, strict=True)))
    assert counts == [3]
    for stream, segments in zip(streams, files, strict=True):
        same(stable(stream.updates()), segments, "searched together")


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_encodes_nothing(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It has what the steps of the chunk have encoded."""
    pipeline, samples = pipelines[kind], tone_speech(3.3, 2)
    segments = file_of(pipeline, samples, batch_size=1, **given(kind))
    monkeypatch.setattr(pipeline.recognizer.backend, "encode", lambda *_: pytest.fail("encoded"))
    updates = updates_of(pipeline.stream(**given(kind)), samples, [5000])
    assert len(stable(updates)) > 1
    same(stable(updates), segments, kind)
    assert all(update.cost.frames for update in updates if update.final)
    if kind != "windows":  # A chunk without a complete window is computed as that of a file is.
        assert [one.logprobs for one in stable(updates)] == [one.logprobs for one in segments]


def test_halves_of_a_chunk_that_loops_are_decoded_in_the_same_batch(
    pipelines: dict[str, AsrPipeline],
) -> None:
    pipeline, options = pipelines["qwen"], {"chunk_seconds": 5.0, "beam_size": 2}
    options["end_at_pauses"] = False
    clips = [tone_speech(seconds, number) for number, seconds in enumerate([4.4, 4.9])]
    pool = pipeline.streams(2)
    streams = [pipeline.stream(pool=pool, partial_text=False, **options) for _ in clips]
    finish_all(pool, dict(zip(streams, clips, strict=True)))
    for stream, clip in zip(streams, clips, strict=True):
        segments = file_of(pipeline, clip, **options)
        finals = stable(stream.updates())
        same(finals, segments, "with halves")
        assert [one.retries for one in finals] == [one.retries for one in segments]
        assert bool(finals[0].retries)


def test_an_error_in_a_search_ends_one_stream(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, options = pipelines["qwen"], given("qwen")
    short, long = tone_speech(0.6, 1), tone_speech(0.8, 2)
    segments = file_of(pipeline, long, **options)
    write = SegmentWriter.segment

    def damaged(self: SegmentWriter, request: ChunkRequest, *rest: Any) -> Segment:
        if len(request.chunk.samples) == len(short):
            raise CheckpointError("Scores have to be numbers", "are NaN", "mend the weights")
        return write(self, request, *rest)

    monkeypatch.setattr(SegmentWriter, "segment", damaged)
    pool = pipeline.streams(2)
    broken, other = (pipeline.stream(pool=pool, partial_text=False, **options) for _ in range(2))
    finish_all(pool, {broken: short, other: long})
    same(stable(other.updates()), segments, "the other stream")
    with pytest.raises(CheckpointError, match="NaN"):
        broken.updates()


def test_another_error_ends_the_streams_whose_searches_are_active(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipelines["qwen"]
    pool = pipeline.streams(2)
    broken, idle = (pipeline.stream(pool=pool, **given("qwen")) for _ in range(2))
    broken.push(tone_speech(0.4, 1))
    broken.push_end()
    with monkeypatch.context() as patch:
        patch.setattr(DecodeLoop, "admit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pool.work()
    with pytest.raises(ZeroDivisionError):
        broken.updates()
    samples = tone_speech(0.7, 2)
    same(stable(updates_of(idle, samples)), file_of(pipeline, samples, **given("qwen")), "idle")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """While `stopped`, a pass of searches takes more than a round."""
    state = SimpleNamespace(stopped=True)
    step, work = SearchQueue.step, StreamPool.work

    def waiting(self: SearchQueue) -> list[tuple[Search, Segment | AurisError]]:
        return [] if state.stopped else step(self)

    def some_rounds(self: StreamPool) -> None:
        self._clock = lambda: 0.0
        for _ in range(8):
            self.work_round()
        if not state.stopped:
            work(self)

    monkeypatch.setattr(SearchQueue, "step", waiting)
    monkeypatch.setattr(StreamPool, "work", some_rounds)
    return state


def test_text_of_the_next_chunk_is_shown_while_one_is_searched(
    pipelines: dict[str, AsrPipeline], slow: SimpleNamespace
) -> None:
    pipeline, samples = pipelines["qwen"], tone_speech(4.0, 3)
    segments = file_of(pipeline, samples, **given("qwen"))
    stream = pipeline.stream(skip_late=True, step_seconds=0.25, **given("qwen"))
    cut = 28_000  # The end of the first chunk is certain after 1.5 s.
    before = [one for block in blocks(samples[:cut], [4000]) for one in stream.feed(block)]
    assert all(one.chunk == 0 and not one.final for one in before)
    first = stream._awaited_partial
    assert first is not None
    ahead = before[-1]
    assert ahead.segment.end > first.segment.end
    assert ahead.segment.start == 0.0
    assert ahead.segment.tokens[: len(first.segment.tokens)] == first.segment.tokens
    assert ahead.partial == ahead.segment.text
    slow.stopped = False
    after = stream.feed(samples[:0])
    assert [(one.chunk, one.final) for one in after] == [(0, True), (1, False)]
    assert after[1].segment.end == ahead.segment.end
    assert ahead.segment.text == join_texts([first.segment.text, after[1].segment.text])
    updates = [*before, *after, *updates_of(stream, samples[cut:], [4000])]
    same(stable(updates), segments, "ahead")
    assert "".join(update.delta for update in updates)


def test_a_stream_that_may_be_late_waits_for_its_searches(
    pipelines: dict[str, AsrPipeline], slow: SimpleNamespace
) -> None:
    pipeline, samples = pipelines["qwen"], tone_speech(4.0, 3)
    stream = pipeline.stream(step_seconds=0.25, **given("qwen"))
    before = stream.feed(samples)
    assert {update.chunk for update in before} == {0}
    assert stream.behind
    slow.stopped = False
    updates = [*before, *stream.feed(samples[:0]), *stream.finish()]
    expected = updates_of(pipeline.stream(step_seconds=0.25, **given("qwen")), samples, [3000])
    assert [update.to_dict() for update in updates] == [update.to_dict() for update in expected]


def test_one_chunk_of_a_stream_waits_for_its_search(
    pipelines: dict[str, AsrPipeline], slow: SimpleNamespace
) -> None:
    pipeline, samples = pipelines["qwen"], tone_speech(6.0, 3)
    stream = pipeline.stream(skip_late=True, partial_text=False, **given("qwen"))
    assert not stream.feed(samples)
    assert stream.searches == 1
    slow.stopped = False
    same(stable(stream.finish()), file_of(pipeline, samples, **given("qwen")), "after a while")


def test_silence_that_is_left_out_comes_behind_the_chunk_before(
    pipelines: dict[str, AsrPipeline], slow: SimpleNamespace
) -> None:
    pipeline = pipelines["qwen"]
    quiet = np.zeros(7 * SAMPLE_RATE, np.float32)
    samples = np.concatenate([tone_speech(2.0, 1), quiet, tone_speech(2.0, 2)])
    options = {"chunk_seconds": 3.0, "vad": True, "beam_size": 2, "max_new_tokens": 5}
    stream = pipeline.stream(skip_late=True, **options)
    before = stream.feed(samples)
    assert not any(update.final for update in before)
    slow.stopped = False
    updates = [*before, *stream.feed(samples[:0]), *stream.finish()]
    theirs = pipeline.transcribe((samples, SAMPLE_RATE), **options).segments
    same(stable(updates), theirs, "silence")
    assert [one.skipped for one in stable(updates)] == [one.skipped for one in theirs]
    assert any(one.skipped for one in theirs)


class Rounds:
    """A pool of two streams whose clock counts a batch of steps as three seconds or as `step`, and
    a pass of the searches as one; `done` has the number of steps of each round, 0 for a pass."""

    def __init__(
        self, pipeline: AsrPipeline, monkeypatch: pytest.MonkeyPatch, step: float = 3.0
    ) -> None:
        self.done: list[int] = []
        self._now, self._pipeline = 0.0, pipeline
        self.pool = StreamPool(pipeline.recognizer, 3, clock=lambda: self._now)
        decode, search = self.pool._incremental.decode, SearchQueue.step

        def decoded(steps: Sequence[StreamStep]) -> Any:
            self._now += step
            self.done.append(len(steps))
            return decode(steps)

        def searched(queue: SearchQueue) -> Any:
            self._now += 1.0
            self.done.append(0)
            return search(queue)

        monkeypatch.setattr(self.pool._incremental, "decode", decoded)
        monkeypatch.setattr(SearchQueue, "step", searched)

    def stream(self, **more: Any) -> StreamSession:
        options = {**given("qwen"), "chunk_seconds": 30.0, "end_at_pauses": False, **more}
        return self._pipeline.stream(pool=self.pool, settle_seconds=0, **options)

    def searched(self) -> StreamSession:
        """A stream whose chunk is over and waits for its search."""
        stream = self.stream()
        stream.push(tone_speech(0.4, 1))
        stream.push_end()
        return stream


def test_searches_get_as_much_time_as_the_steps_before(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(pipelines["qwen"], monkeypatch)
    growing = rounds.stream()
    growing.push(tone_speech(0.6, 2))
    rounds.pool.work()
    assert growing.has_text
    rounds.searched()
    growing.push(tone_speech(0.5, 2))
    for _ in range(4):
        rounds.pool.work_round()
    assert rounds.done == [1, 2, 0, 0, 0]
    growing.push(tone_speech(0.5, 2))
    rounds.pool.work_round()
    assert rounds.done[5:] == [1]
    rounds.pool.work()
    assert len(growing.updates()) == 3
    growing.push(tone_speech(0.5, 2))
    rounds.pool.work_round()  # No search is owed anything any more.
    assert rounds.done[-1] == 1


@pytest.mark.parametrize(("step", "expected"), [(0.2, [1, 1, 0]), (0.6, [1, 0, 1])])
def test_streams_without_text_go_before_searches_that_are_not_owed_much(
    pipelines: dict[str, AsrPipeline],
    monkeypatch: pytest.MonkeyPatch,
    step: float,
    expected: list[int],
) -> None:
    rounds = Rounds(pipelines["qwen"], monkeypatch, step)
    rounds.searched()
    rounds.pool.work_round()
    silent = rounds.stream()
    silent.push(tone_speech(0.6, 2))
    assert not silent.has_text
    rounds.pool.work_round()
    rounds.pool.work_round()
    assert rounds.done == expected
    assert silent.has_text


def test_streams_that_show_no_partial_text_wait_for_searches(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(pipelines["qwen"], monkeypatch, 0.2)
    rounds.searched()
    rounds.pool.work_round()
    quiet = rounds.stream(partial_text=False)
    quiet.push(tone_speech(0.6, 2))
    quiet.push_end()
    rounds.pool.work_round()
    rounds.pool.work_round()
    assert rounds.done == [1, 0, 1]


def test_a_pool_is_driven_until_there_is_nothing_to_do(pipelines: dict[str, AsrPipeline]) -> None:
    jobs: list[Callable[[], None]] = []

    def submit(job: Callable[[], None]) -> Future[None]:
        jobs.append(job)
        return Future()

    pool = StreamPool(pipelines["ctc"].recognizer, 2, submit)
    first, second = (pipelines["ctc"].stream(pool=pool) for _ in range(2))
    notices: list[str] = []
    first.notify, second.notify = lambda: notices.append("first"), lambda: notices.append("second")
    first.push(tone_speech(1.1))
    for _ in range(2):
        pool.drive(first)
    second.push(tone_speech(0.2))
    pool.drive(second)
    done = []
    while jobs:
        assert len(jobs) == 1  # Whoever asks before a round begins shares it.
        jobs.pop()()
        done.append(sorted(notices))
        notices.clear()
    assert done == [["first", "second"], ["first"], []]
    assert len(first.updates()) == 2
    second.push_end()
    pool.drive(second)
    jobs.pop()()
    assert notices == ["second"]
    assert [update.final for update in second.updates()] == [True]


def test_streams_are_notified_when_their_thread_ends(pipelines: dict[str, AsrPipeline]) -> None:
    """Where a job is refused, or ends without being run."""
    for refused in (True, False):
        jobs: list[tuple[Callable[[], None], Future[None]]] = []

        def submit(
            job: Callable[[], None], refused: bool = refused, jobs: list[Any] = jobs
        ) -> Future[None]:
            if jobs and refused:
                raise EngineError("The engine has stopped", "", "")
            jobs.append((job, Future()))
            return jobs[-1][1]

        pool = StreamPool(pipelines["ctc"].recognizer, 1, submit)
        stream = pipelines["ctc"].stream(pool=pool)
        notices: list[bool] = []
        stream.notify = lambda notices=notices: notices.append(True)
        stream.push(tone_speech(1.1))
        pool.drive(stream)
        job, future = jobs[0]
        if refused:
            job()  # One of two steps.
        else:
            future.set_exception(EngineError("The engine has stopped", "", ""))
        assert notices
        with pytest.raises(EngineError):
            stream.updates()


@pytest.mark.parametrize("failing", ["add_searched", "next_step"])
def test_a_fault_of_the_program_is_raised_by_the_streams(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Also by a stream whose search was over in the same pass."""
    options = given("qwen")
    pool = pipelines["qwen"].streams(2)
    streams = [pipelines["qwen"].stream(pool=pool, **options) for _ in range(2)]
    clips = [tone_speech(0.6, 1)] * 2
    if failing == "add_searched":
        monkeypatch.setattr(streams[0], failing, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            finish_all(pool, dict(zip(streams, clips, strict=True)))
    else:
        monkeypatch.setattr(streams[0], failing, lambda: 1 / 0)
        finish_all(pool, dict(zip(streams, clips, strict=True)))
    with pytest.raises(ZeroDivisionError):
        streams[0].updates()
    if failing == "add_searched":
        with pytest.raises(ZeroDivisionError):
            streams[1].updates()
    else:
        assert streams[1].updates()[-1].final


def test_streams_that_fail_are_notified(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Callable[[], None]] = []
    pool = StreamPool(pipelines["ctc"].recognizer, 1, lambda job: jobs.append(job) or Future())
    stream = pipelines["ctc"].stream(pool=pool)
    notices: list[bool] = []
    stream.notify = lambda: notices.append(True)
    stream.push(tone_speech(0.6))
    pool.drive(stream)
    monkeypatch.setattr(pool._incremental, "decode", lambda *_: 1 / 0)
    while jobs:
        jobs.pop()()
    assert notices == [True]
    with pytest.raises(ZeroDivisionError):
        stream.updates()
