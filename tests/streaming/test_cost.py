"""The cost of a step depends on its position in the chunk and not on the length of the stream."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from auris import AsrPipeline
from auris.streaming.decoder import StepCost
from auris.types import SAMPLE_RATE
from tests.tiny_models import tone_speech

PERIOD = 12
"""Seconds after which the sound, and with it every cut, comes again."""


def pattern() -> np.ndarray:
    """Sound that is always cut at the same position: a pause in the middle of each search
    window."""
    samples = tone_speech(PERIOD, 3)
    samples[-1600:] = 0.0
    samples[:1600] = 0.0
    return samples


def costs(pipeline: AsrPipeline, minutes: int, **options: object) -> dict[int, list[StepCost]]:
    """Costs of the steps of every minute, in order."""
    samples = pattern()
    cut = {"chunk_seconds": float(PERIOD), "end_at_pauses": False, "step_seconds": 6.0}
    stream = pipeline.stream(**cut, **options)
    found: dict[int, list[StepCost]] = {}
    for _ in range(minutes * 60 // PERIOD):
        for update in stream.feed(samples):
            found.setdefault(int((update.seconds - 1e-6) // 60), []).append(update.cost)
    return found


@pytest.mark.no_cover
@pytest.mark.parametrize("kind", ["ctc", "qwen"])
def test_the_cost_of_a_step_is_constant(pipelines: dict[str, AsrPipeline], kind: str) -> None:
    """Frames, encoded tokens and decoded positions of steps at the same position of a chunk."""
    options = {} if kind == "ctc" else {"max_new_tokens": 1}
    found = costs(pipelines[kind], 10, **options)
    assert len(found[1]) == 15  # Ten steps, and the ends of five chunks.
    assert found[9] == found[1]
    assert (kind == "qwen") == any(cost.decoded for cost in found[1])


@pytest.mark.no_cover
def test_silence_uses_constant_memory(pipelines: dict[str, AsrPipeline]) -> None:
    """Neither samples nor objects accumulate."""
    stream = pipelines["ctc"].stream(step_seconds=3.0, chunk_seconds=3.0)
    silence = np.zeros(60 * SAMPLE_RATE, np.float32)
    held, last = [], []
    for minute in range(12):
        updates = stream.feed(silence)
        if minute in (2, 11):
            gc.collect()
            held.append(len(gc.get_objects()))
            last.append([update.cost for update in updates[-6:]])
    # Objects of other tests may be freed meanwhile; a leak in every chunk would be 180.
    assert held[1] - held[0] < 100
    assert last[0] == last[1]


def test_a_cache_row_does_not_grow_with_the_stream(
    pipelines: dict[str, AsrPipeline],
) -> None:
    pipeline = pipelines["qwen"]
    pool = pipeline.streams(1)
    given = {"chunk_seconds": 2.0, "max_new_tokens": 3, "step_seconds": 1.0}
    stream = pipeline.stream(pool=pool, **given)
    sizes = []
    for _ in range(5):
        stream.feed(tone_speech(12.0, 1))
        sizes.append(pool._incremental._cache.capacity)
    assert len(set(sizes)) == 1


def test_the_preamble_is_decoded_once(pipelines: dict[str, AsrPipeline]) -> None:
    """A long context is read for the first chunk; later chunks give the text of the file."""
    pipeline, samples = pipelines["qwen"], tone_speech(6.4, 5)
    context = "kitchen lights " * 20
    given = {"chunk_seconds": 2.0, "max_new_tokens": 4, "end_at_pauses": False}
    first: dict[int, int] = {}
    finals = []
    stream = pipeline.stream(context=context, **given)
    for update in [*stream.feed(samples), *stream.finish()]:
        first.setdefault(update.chunk, update.cost.decoded)
        finals += [update.segment] if update.final else []
    assert len(first) > 2
    length = len(pipeline.recognizer.tokenizer.encode(context))
    assert all(first[0] - decoded > length - 40 for number, decoded in first.items() if number)
    whole = pipeline.transcribe((samples, SAMPLE_RATE), context=context, **given)
    assert [s.tokens for s in finals] == [s.tokens for s in whole.segments]


def test_the_cache_is_released_with_the_last_stream(pipelines: dict[str, AsrPipeline]) -> None:
    """A long chunk makes it grow, and it would otherwise never shrink."""
    pipeline = pipelines["qwen"]
    pool = pipeline.streams(2)
    cut = {"chunk_seconds": 40.0, "end_at_pauses": False}
    given = {**cut, "max_new_tokens": 3, "step_seconds": 10.0, "pool": pool}
    long, short = pipeline.stream(**given), pipeline.stream(**given)
    before = pool._incremental._cache.capacity
    long.feed(tone_speech(39.0, 1))
    assert pool._incremental._cache.capacity > before
    long.close()
    assert pool._incremental._cache is not None
    short.close()
    assert pool._incremental._cache is None
    again = pipeline.stream(**given)
    again.feed(tone_speech(2.0, 1))
    assert pool._incremental._cache.capacity == before
    again.close()
