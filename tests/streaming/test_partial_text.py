"""Partial text is computed only where it is needed."""

from __future__ import annotations

import pytest

from auris import AsrPipeline
from auris.errors import AurisError
from auris.streaming.searches import Search, SearchQueue
from auris.text.words import join_texts
from auris.types import Segment
from tests.streaming.live import same, stable, updates_of
from tests.tiny_models import tone_speech

SEARCHED = {"beam_size": 3, "hotwords": ["fox"]}


def options(kind: str) -> dict[str, object]:
    """Options of short chunks with few tokens."""
    cut: dict[str, object] = {"chunk_seconds": 2.0, "end_at_pauses": True}
    return cut if kind == "ctc" else {**cut, "max_new_tokens": 10}


@pytest.mark.parametrize("kind", ["qwen", "ctc"])
def test_without_partial_text_a_search_runs_only_at_the_end_of_a_chunk(
    pipelines: dict[str, AsrPipeline], kind: str
) -> None:
    pipeline, samples, cut = pipelines[kind], tone_speech(5.0, 3), options(kind)
    needed, others = (
        updates_of(pipeline.stream(partial_text=needed, **cut, **SEARCHED), samples)
        for needed in (True, False)
    )
    assert all(update.final for update in others)
    same(stable(others), stable(needed), kind)
    assert not any(update.settled_words for update in others)
    text = join_texts([segment.text for segment in stable(others)])
    assert "".join(update.delta for update in others) == text


def test_without_partial_text_and_search_steps_shorten_the_work_at_the_end(
    pipelines: dict[str, AsrPipeline],
) -> None:
    """The text of the last step is the draft of the final one; words settle with their chunk."""
    stream = pipelines["qwen"].stream(partial_text=False, chunk_seconds=4.0, max_new_tokens=10)
    updates = updates_of(stream, tone_speech(3.0, 3))
    assert sum(not update.final for update in updates) == 6
    assert not any(update.settled_words for update in updates)


def test_partial_text_of_a_round_does_not_wait_for_a_search(
    pipelines: dict[str, AsrPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search of a chunk that is over follows the steps of a round."""
    pipeline = pipelines["qwen"]
    pool = pipeline.streams(2)
    ending, growing = (pipeline.stream(pool=pool, beam_size=3, max_new_tokens=6) for _ in range(2))
    samples = tone_speech(1.2, 3)
    ending.push(samples[:6000])
    ending.push_end()
    growing.push(samples)
    step, passes = SearchQueue.step, []

    def counted(self: SearchQueue) -> list[tuple[Search, Segment | AurisError]]:
        passes.append([update.final for update in growing.updates()])
        return step(self)

    monkeypatch.setattr(SearchQueue, "step", counted)
    pool.work()
    assert passes[0] == [False]
    assert len(passes) > 2
    assert [update.final for update in ending.updates()] == [True]
    assert not ending.behind
