"""Settled text of streams: it only grows, and final text is the same with and without it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris import AsrPipeline
from auris.streaming.session import StreamUpdate
from auris.text.words import join_texts
from auris.types import SAMPLE_RATE
from tests.streaming.conftest import KINDS
from tests.streaming.live import same, stable, updates_of
from tests.tiny_models import tone_speech

BUDGETS = {kind: {} if kind == "ctc" else {"max_new_tokens": 15} for kind in KINDS}
"""Few tokens, so that tests are quick."""


def check_deltas(updates: list[StreamUpdate]) -> str:
    """Settled text only grows, partial text begins with it, and deltas are what is added to it;
    returns all deltas joined."""
    text, chunk, settled, words, carried = "", 0, "", 0, ""
    for update in updates:
        if update.chunk != chunk:
            words, chunk = 0, update.chunk
            settled = carried.lstrip()
        assert update.settled.startswith(settled)
        assert update.settled_words >= words or update.final
        # A space between two chunks is part of the delta.
        assert update.delta.lstrip() == update.settled[len(settled) :].lstrip()
        if not update.final:
            assert update.revised == 0
            assert update.segment.text.endswith(update.partial.lstrip())
            assert not update.carried
        else:
            assert not update.partial
            assert text.endswith(update.carried)
        settled, words, carried = update.settled, update.settled_words, update.carried
        text += update.delta
    return text


@settings(max_examples=20)
@given(
    st.sampled_from(KINDS),
    st.floats(0.5, 6.0),
    st.sampled_from([0.25, 0.5]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([2.0, 5.0]),
    st.integers(0, 5),
)
def test_settled_text_only_grows_and_final_text_is_that_of_the_file(
    pipelines: dict[str, AsrPipeline],
    kind: str,
    seconds: float,
    step: float,
    settle: float,
    chunk: float,
    seed: int,
) -> None:
    samples, pipeline = tone_speech(seconds, seed), pipelines[kind]
    cut = {"chunk_seconds": chunk, "end_at_pauses": True, **BUDGETS[kind]}
    stream = pipeline.stream(step_seconds=step, settle_seconds=settle, **cut)
    updates = updates_of(stream, samples, [3000, 50_000])
    deltas = check_deltas(updates)
    same(stable(updates), pipeline.transcribe((samples, SAMPLE_RATE), **cut).segments, kind)
    if not any(update.revised for update in updates):
        final = join_texts([segment.text for segment in stable(updates)])
        assert deltas.split() == final.split()
    if not settle:
        assert not any(update.settled_words for update in updates)


def test_a_stream_that_begins_behind_a_final_chunk_goes_on_alike(
    pipelines: dict[str, AsrPipeline],
) -> None:
    """So a client that lost its connection needs the audio since the last final chunk only."""
    samples, options = tone_speech(9.0, 2), {"chunk_seconds": 2.0}
    whole = updates_of(pipelines["ctc"].stream(**options), samples)
    first, *others = stable(whole)
    assert others
    rest = samples[round(first.end * SAMPLE_RATE) :]
    again = stable(updates_of(pipelines["ctc"].stream(**options), rest))
    assert [segment.text for segment in again] == [segment.text for segment in others]
    assert [s.end + first.end for s in again] == pytest.approx([s.end for s in others])


def test_long_silence_in_a_stream(pipelines: dict[str, AsrPipeline]) -> None:
    """Words before it are final soon, silence is left out, and the stream goes on behind it."""
    speech, silence = tone_speech(3.0, 1), np.zeros(60 * SAMPLE_RATE, np.float32)
    options = {"step_seconds": 30.0, "vad": True, "vad_model": "energy"}
    stream = pipelines["ctc"].stream(**options)
    before = stream.feed(speech) + stream.feed(silence)
    text = stable(before)[0].text
    assert text
    for _ in range(19):
        before += stream.feed(silence)
    assert sum(segment.skipped for segment in stable(before)) > 1100
    assert not any(segment.text for segment in stable(before)[1:])
    after = stream.feed(speech) + stream.finish()
    assert any(segment.text and segment.start > 1190 for segment in stable(after))


def test_a_stream_that_is_a_week_old_does_the_same_work(
    pipelines: dict[str, AsrPipeline],
) -> None:
    """Texts, times and counted work are those of the first minute."""
    samples, week = tone_speech(9.0, 3), 7 * 24 * 3600
    options = {"chunk_seconds": 2.0, "settle_seconds": 0.3, "word_timestamps": True}
    young, old = (pipelines["ctc"].stream(**options) for _ in range(2))
    old.chunker._cutter._start = week * SAMPLE_RATE
    first, later = updates_of(young, samples), updates_of(old, samples)
    for mine, other in zip(first, later, strict=True):
        assert (mine.delta, mine.revised, mine.cost) == (other.delta, other.revised, other.cost)
        assert mine.segment.tokens == other.segment.tokens
        for ours, theirs in zip(mine.segment.words or (), other.segment.words or (), strict=True):
            assert theirs.end == pytest.approx(week + ours.end, abs=1e-3)
