"""Streams with the bundled models."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auris import AsrPipeline, ForcedAligner
from auris.alignment import ctc
from auris.audio.io import load
from auris.types import SAMPLE_RATE, Word
from tests.streaming.live import same, stable, updates_of

CLIP = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"
NAMES = ("tiny", "tiny-ctc")


@cache
def pipeline(name: str) -> AsrPipeline:
    return AsrPipeline.from_pretrained(name, device="cpu")


def cut(name: str) -> dict[str, Any]:
    """Options of a file that is cut as a stream with default options is."""
    seconds = pipeline(name).live_chunk_seconds
    return {"chunk_seconds": seconds, "vad": False, "end_at_pauses": True}


@cache
def clip() -> np.ndarray:
    return load(CLIP).samples


def sentences(number: int) -> np.ndarray:
    """The clip repeated, with different pauses and loudness for each stream."""
    pause = np.zeros(SAMPLE_RATE // 5 * (1 + number), np.float32)
    return np.concatenate([pause, clip() / (1 + number), pause, clip()])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [160, 80_000])
def test_the_stream_has_the_text_of_the_file(name: str, size: int) -> None:
    updates = updates_of(pipeline(name).stream(), clip(), [size])
    whole = pipeline(name).transcribe(CLIP, **cut(name))
    same(stable(updates), whole.segments, f"{name} in blocks of {size}")
    (segment,) = stable(updates)
    assert segment.text.startswith("switch the kitchen f")


@pytest.mark.parametrize("name", NAMES)
def test_eight_concurrent_streams_have_the_texts_of_their_files(name: str) -> None:
    pool = pipeline(name).streams(8)
    streams = [pipeline(name).stream(pool=pool) for _ in range(8)]
    waiting = {stream: sentences(number) for number, stream in enumerate(streams)}
    updates = {stream: [] for stream in streams}
    while any(len(samples) for samples in waiting.values()):
        blocks = {stream: samples[:4800] for stream, samples in waiting.items()}
        waiting = {stream: samples[4800:] for stream, samples in waiting.items()}
        for stream, found in pool.feed(blocks).items():
            updates[stream] += found
    for number, stream in enumerate(streams):
        updates[stream] += stream.finish()
        whole = pipeline(name).transcribe((sentences(number), SAMPLE_RATE), **cut(name))
        same(stable(updates[stream]), whole.segments, f"{name}, stream {number}")


def timed(word: Word) -> tuple[str, float | None, float | None]:
    return word.text, word.start, word.end


def words_like_the_file(name: str, of_stream: dict[str, Any], **options: Any) -> None:
    """A stream and a file have the same times of words."""
    options = {"word_timestamps": True, **options}
    whole = pipeline(name).transcribe(CLIP, **options, **cut(name))
    with pytest.MonkeyPatch.context() as patched:
        if "aligner" not in options:
            patched.setattr(ctc, "encode_samples", lambda *_: pytest.fail("encoded"))
        updates = updates_of(pipeline(name).stream(**options, **of_stream), clip(), [5000])
    (ours,), (theirs,) = stable(updates), whole.segments
    assert [timed(word) for word in ours.words] == [timed(word) for word in theirs.words]
    assert ours.words
    assert all(word.end for word in ours.words)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("partial_words", [False, True])
@pytest.mark.parametrize("options", [{}, {"beam_size": 1}], ids=str)
def test_words_have_the_times_of_the_file_and_are_not_encoded_again(
    name: str, partial_words: bool, options: dict[str, Any]
) -> None:
    """The own aligner of a model has what the steps of a chunk have encoded."""
    words_like_the_file(name, {"partial_words": partial_words}, **options)


def test_another_aligner_does_not_use_the_encoder_states_of_the_model() -> None:
    words_like_the_file("tiny", {}, aligner=ForcedAligner.from_pretrained("tiny-ctc"))


@pytest.mark.parametrize("name", NAMES)
def test_the_stream_has_the_text_of_the_file_without_a_search(name: str) -> None:
    updates = updates_of(pipeline(name).stream(beam_size=1), clip(), [80_000])
    whole = pipeline(name).transcribe(CLIP, **cut(name), beam_size=1)
    same(stable(updates), whole.segments, name)


def test_silence_has_no_text() -> None:
    stream = pipeline("tiny-ctc").stream()
    updates = [*stream.feed(np.zeros(20 * SAMPLE_RATE, np.float32)), *stream.finish()]
    assert not any(update.segment.text for update in updates)
    assert stable(updates)[-1].end == 20.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("beam_size", [1, None])
def test_words_settle_while_their_chunk_grows(name: str, beam_size: int | None) -> None:
    """Later texts of the chunk begin with them."""
    samples = np.concatenate([clip()] * 3)
    stream = pipeline(name).stream(
        settle_seconds=0.5, step_seconds=0.25, chunk_seconds=8.0, beam_size=beam_size
    )
    updates = updates_of(stream, samples, [4000])
    partial = [update for update in updates if not update.final]
    assert any(update.settled and update.partial for update in partial)
    for before, after in pairwise(updates):
        if after.chunk == before.chunk:
            assert after.settled.startswith(before.settled)
    assert "".join(update.delta for update in updates).split()[:3] == ["switch", "the", "kitchen"]
