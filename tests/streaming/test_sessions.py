"""Sessions: refused input, pools of several streams, and asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from torch import Tensor

from auris import AsrPipeline
from auris.backends.torch import TorchBackend
from auris.errors import (
    CheckpointError,
    InvalidSamples,
    LanguageError,
    UnsupportedOption,
    UsageError,
)
from auris.recognition.requests import DecodeResult
from auris.streaming.pool import StreamPool
from auris.streaming.session import StreamSession, StreamUpdate
from auris.types import SAMPLE_RATE, Segment
from tests.streaming.conftest import KINDS
from tests.streaming.live import blocks, same, stable, updates_of
from tests.tiny_models import tone_speech

CUT = {"chunk_seconds": 2.0, "end_at_pauses": True}


def file_segments(pipeline: AsrPipeline, samples: np.ndarray) -> list:
    found = pipeline.transcribe((samples, SAMPLE_RATE), **CUT, **budget(pipeline))
    return list(found.segments)


def budget(pipeline: AsrPipeline) -> dict[str, int]:
    return {} if hasattr(pipeline.recognizer.config, "units") else {"max_new_tokens": 10}


def session(
    pipeline: AsrPipeline, pool: StreamPool | None = None, **options: object
) -> StreamSession:
    given = {**CUT, **budget(pipeline), **options}
    return pipeline.stream(pool=pool, **given)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e16])
def test_invalid_samples_are_refused_and_the_stream_continues(
    pipelines: dict[str, AsrPipeline], value: float
) -> None:
    pipeline, samples = pipelines["ctc"], tone_speech(3.0, 1)
    stream = session(pipeline)
    updates = stream.feed(samples[:20_000])
    bad = samples[20_000:30_000].copy()
    bad[1234] = value
    with pytest.raises(InvalidSamples, match=r"at 1\.327 s, number 1234 of these 10000"):
        stream.feed(bad)
    updates += stream.feed(samples[20_000:]) + stream.finish()
    same(stable(updates), file_segments(pipeline, samples), "after bad samples")


@pytest.mark.parametrize(
    "samples",
    [
        [0.0, 0.1],
        b"\0\0",
        np.zeros((2, 800), np.float32),
        np.zeros(800, np.int64),
        np.zeros(800, np.complex64),
        np.array(0.0, np.float32),
        None,
    ],
)
def test_other_types_than_samples_are_refused(
    pipelines: dict[str, AsrPipeline], samples: object
) -> None:
    with session(pipelines["ctc"]) as stream, pytest.raises(InvalidSamples, match="numpy arrays"):
        stream.feed(samples)


def test_the_rate_of_a_stream_cannot_change(pipelines: dict[str, AsrPipeline]) -> None:
    with session(pipelines["ctc"], rate=8000) as stream:
        assert stream.rate == 8000
        assert stream.feed(np.zeros(8000, np.float32), 8000)
        with pytest.raises(InvalidSamples, match=r"cannot change.*8000 Hz.*16000"):
            stream.feed(np.zeros(800, np.float32), 16_000)
        assert stream.feed(np.zeros(4000, np.float32), 8000)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rate": 100}, InvalidSamples),
        ({"rate": "16k"}, InvalidSamples),
        ({"chunk_seconds": 0.5}, UsageError),
        ({"step_seconds": 0.0}, UsageError),
        ({"step_seconds": float("nan")}, UsageError),
        ({"step_seconds": 61}, UsageError),
        ({"step_seconds": "fast"}, UsageError),
        ({"steps": 1}, UsageError),
        ({"seed": -1}, UsageError),
        ({"language": "Klingon"}, LanguageError),
        ({"language": "de"}, UnsupportedOption),
        ({"languages": ["de"]}, UnsupportedOption),
        ({"languages": []}, UsageError),
        ({"max_new_tokens": 3}, UnsupportedOption),
    ],
)
def test_invalid_options_are_refused_at_once(
    pipelines: dict[str, AsrPipeline], options: dict, error: type[Exception]
) -> None:
    pool = pipelines["ctc"].streams(1)
    with pytest.raises(error):
        pipelines["ctc"].stream(pool=pool, **options)
    session(pipelines["ctc"], pool).close()  # The row of the pool is still free.


def test_empty_feeds_have_no_effect(pipelines: dict[str, AsrPipeline]) -> None:
    pipeline, samples = pipelines["ctc"], tone_speech(1.2, 1)
    stream, nothing = session(pipeline), np.empty(0, np.float32)
    updates = [*stream.feed(nothing), *stream.feed(samples), *stream.feed(nothing)]
    same(stable(updates + stream.finish()), file_segments(pipeline, samples), "empty feeds")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_stream_has_no_updates(pipelines: dict[str, AsrPipeline], kind: str) -> None:
    stream = session(pipelines[kind])
    assert stream.finish() == []
    assert stream.finish() == []
    with pytest.raises(UsageError, match="finished"):
        stream.feed(np.zeros(1, np.float32))


@pytest.mark.parametrize("length", [1, 150, 399, 7999, 8000, 8001])
@pytest.mark.parametrize("kind", ["qwen", "ctc"])
def test_a_stream_can_end_at_any_sample(
    pipelines: dict[str, AsrPipeline], kind: str, length: int
) -> None:
    samples = tone_speech(1.0, 4)[:length]
    updates = updates_of(session(pipelines[kind], step_seconds=0.1), samples, [100])
    same(stable(updates), file_segments(pipelines[kind], samples), f"{length} samples")


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8", "float64"])
def test_integers_are_scaled(pipelines: dict[str, AsrPipeline], dtype: str) -> None:
    pipeline, samples = pipelines["ctc"], tone_speech(1.4, 1)
    if dtype != "float64":
        middle = 128 if dtype == "uint8" else 0
        samples = samples * (np.iinfo(dtype).max - middle) + middle
    array = samples.astype(dtype)
    found = pipeline.transcribe((array, SAMPLE_RATE), **CUT)
    same(stable(updates_of(session(pipeline), array)), found.segments, dtype)


def test_word_times_are_part_of_settled_text(pipelines: dict[str, AsrPipeline]) -> None:
    pipeline, samples = pipelines["ctc"], tone_speech(3.0, 6)
    updates = updates_of(session(pipeline, word_timestamps=True), samples)
    found = pipeline.transcribe((samples, SAMPLE_RATE), **CUT, word_timestamps=True)
    words, others = (
        [w for s in segments for w in s.words] for segments in (stable(updates), found.segments)
    )
    assert [(w.text, w.start, w.end) for w in words] == [(w.text, w.start, w.end) for w in others]
    assert all(update.segment.words is None for update in updates if not update.final)


def test_updates_can_be_written_as_json(pipelines: dict[str, AsrPipeline]) -> None:
    first, *_ = updates_of(session(pipelines["ctc"]), tone_speech(1.0))
    content = first.to_dict()
    assert (content["chunk"], content["final"], content["seconds"]) == (0, False, 0.5)
    assert {"text", "start", "end", "language", "finish_reason"} <= set(content)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_a_pool_are_independent(pipelines: dict[str, AsrPipeline], kind: str) -> None:
    """They begin, pause and end at different times, and share every batch."""
    pipeline = pipelines[kind]
    pool = pipeline.streams(3)
    clips = [tone_speech(seconds, number) for number, seconds in enumerate([1.1, 2.9, 0.3, 4.0])]
    waiting = list(enumerate(clips))
    streams: dict[StreamSession, int] = {}
    feeds: dict[StreamSession, list[np.ndarray]] = {}
    found: dict[int, list[StreamUpdate]] = {number: [] for number in range(len(clips))}
    while waiting or streams:
        while waiting and len(streams) < 3:
            number, samples = waiting.pop(0)
            stream = session(pipeline, pool)
            streams[stream] = number
            feeds[stream] = list(blocks(samples, [6000 + 2000 * number]))
        updates = pool.feed({stream: feeds[stream].pop(0) for stream in streams})
        for stream, number in list(streams.items()):
            found[number] += updates[stream]
            if not feeds[stream]:
                found[number] += stream.finish()
                del streams[stream]
    for number, samples in enumerate(clips):
        same(stable(found[number]), file_segments(pipeline, samples), f"stream {number}")


def test_a_full_pool_refuses_new_streams(pipelines: dict[str, AsrPipeline]) -> None:
    pipeline = pipelines["qwen"]
    pool = pipeline.streams(2)
    first, second = session(pipeline, pool), session(pipeline, pool)
    with pytest.raises(UsageError, match="All 2 streams"):
        session(pipeline, pool)
    second.feed(tone_speech(1.0, 2))
    first.close()
    first.close()
    third = session(pipeline, pool)
    updates = updates_of(third, tone_speech(1.0, 3))
    same(stable(updates), file_segments(pipeline, tone_speech(1.0, 3)), "third")
    same(stable(second.finish()), file_segments(pipeline, tone_speech(1.0, 2)), "second")
    with pytest.raises(UsageError, match="finished"):
        first.feed(tone_speech(1.0))


def test_an_error_ends_the_streams_of_its_batch(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, samples = pipelines["qwen"], tone_speech(1.0, 1)
    pool = pipeline.streams(2)
    broken, idle = session(pipeline, pool), session(pipeline, pool)
    with monkeypatch.context() as patch:
        patch.setattr(TorchBackend, "extend", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            broken.feed(samples)
    with pytest.raises(ZeroDivisionError):
        broken.finish()
    same(stable(updates_of(idle, samples)), file_segments(pipeline, samples), "the other stream")


def test_an_error_in_a_result_ends_one_stream(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipelines["qwen"]
    recognizer, short, long = pipeline.recognizer, tone_speech(0.7, 1), tone_speech(1.0, 2)
    final = recognizer.final

    def damaged(result: DecodeResult) -> Segment:
        if len(result.request.chunk.samples) == len(short):
            raise CheckpointError("Scores have to be numbers", "are NaN", "mend the weights")
        return final(result)

    pool = pipeline.streams(2)
    broken, whole = session(pipeline, pool), session(pipeline, pool)
    pool.feed({broken: short, whole: long})
    broken.push_end()
    whole.push_end()
    with monkeypatch.context() as patch:
        patch.setattr(recognizer, "final", damaged)
        pool.work()
    same(stable(whole.updates()), file_segments(pipeline, long), "the other stream")
    with pytest.raises(CheckpointError, match="NaN"):
        broken.updates()


def test_feeding_several_streams_is_atomic(
    pipelines: dict[str, AsrPipeline],
) -> None:
    pipeline, samples = pipelines["ctc"], tone_speech(1.0, 1)
    pool = pipeline.streams(2)
    first, second = session(pipeline, pool), session(pipeline, pool)
    with pytest.raises(InvalidSamples):
        pool.feed({first: samples, second: np.full(100, np.nan, np.float32)})
    pool.feed({first: samples, second: samples})
    for stream in (first, second):
        same(stable(stream.finish()), file_segments(pipeline, samples), "fed once")


def test_the_pool_of_another_pipeline_is_refused(pipelines: dict[str, AsrPipeline]) -> None:
    with pytest.raises(UsageError, match="another pipeline"):
        session(pipelines["qwen"], pipelines["ctc"].streams(1))


def test_threads_share_a_pool(pipelines: dict[str, AsrPipeline]) -> None:
    pipeline = pipelines["qwen"]
    pool = pipeline.streams(4)
    found: dict[int, list[StreamUpdate]] = {}

    def listen(number: int) -> None:
        found[number] = updates_of(session(pipeline, pool), tone_speech(2.5, number), [3000])

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        what = f"thread {number}"
        same(stable(found[number]), file_segments(pipeline, tone_speech(2.5, number)), what)


def test_async_streams(pipelines: dict[str, AsrPipeline]) -> None:
    pipeline = pipelines["qwen"]

    async def microphone(samples: np.ndarray) -> AsyncIterator[np.ndarray]:
        for block in blocks(samples, [4000]):
            await asyncio.sleep(0)
            yield block

    async def listen(pool: StreamPool, number: int) -> list[StreamUpdate]:
        given = {"chunk_seconds": 2.0, "max_new_tokens": 10}
        async with pipeline.astream(pool=pool, **given) as stream:
            samples = tone_speech(2.5, number)
            return [update async for update in stream.listen(microphone(samples))]

    async def both() -> list[list[StreamUpdate]]:
        pool = pipeline.streams(3)
        return await asyncio.gather(*(listen(pool, number) for number in range(3)))

    for number, updates in enumerate(asyncio.run(both())):
        what = f"task {number}"
        same(stable(updates), file_segments(pipeline, tone_speech(2.5, number)), what)


def test_an_event_loop_can_submit_while_a_step_runs(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipelines["ctc"]
    pool = pipeline.streams(1)
    stream = session(pipeline, pool)
    stream.push(tone_speech(1.0, 1))
    running, done, compute = threading.Event(), threading.Event(), TorchBackend.ctc_logits

    def held(backend: TorchBackend, states: Sequence[Tensor]) -> list[Tensor]:
        running.set()
        assert done.wait(60)
        return compute(backend, states)

    monkeypatch.setattr(TorchBackend, "ctc_logits", held)
    work = threading.Thread(target=pool.work)
    work.start()
    assert running.wait(60)
    submitting = threading.Thread(target=pool.submit, args=(lambda: None,))
    submitting.start()
    submitting.join(10)
    waits = submitting.is_alive()
    done.set()
    work.join()
    submitting.join()
    assert not waits


@pytest.mark.parametrize("kind", KINDS)
def test_late_steps_are_skipped_and_settled_text_stays(
    pipelines: dict[str, AsrPipeline], kind: str
) -> None:
    pipeline, samples = pipelines[kind], tone_speech(5.0, 4)
    late = updates_of(session(pipeline, skip_late=True), samples, (len(samples),))
    on_time = updates_of(session(pipeline, skip_late=True), samples, (4000,))
    all_of_them = updates_of(session(pipeline), samples, (4000,))
    assert sum(not update.final for update in late) <= 2
    assert [u.to_dict() for u in on_time] == [u.to_dict() for u in all_of_them]
    same(stable(late), stable(all_of_them), kind)


def test_a_pool_step_advances_every_stream(pipelines: dict[str, AsrPipeline]) -> None:
    pipeline = pipelines["ctc"]
    pool = pipeline.streams(2)
    streams = [session(pipeline, pool), session(pipeline, pool)]
    for stream in streams:
        stream.push(tone_speech(1.2, 5))
        assert stream.behind
    for _ in range(2):
        assert pool.work_round()
        assert [len(stream.updates()) for stream in streams] == [1, 1]
    assert not pool.work_round()
    assert not any(stream.behind for stream in streams)
    streams[0].push_end()
    assert streams[0].behind
    pool.work()
    assert not streams[0].behind


def test_words_of_partial_text(pipelines: dict[str, AsrPipeline]) -> None:
    stream = session(pipelines["ctc"], word_timestamps=True, partial_words=True)
    for update in updates_of(stream, tone_speech(3.0, 1)):
        words = update.segment.words
        assert words is not None
        assert bool(words) == bool(update.segment.text)
        assert all(w.start is None or w.start >= update.segment.start for w in words)
    plain = updates_of(session(pipelines["ctc"], word_timestamps=True), tone_speech(3.0, 1))
    assert all(update.segment.words is None for update in plain if not update.final)
