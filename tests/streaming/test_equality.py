"""The text of a stream at every step equals that of a file which ends there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris import AsrPipeline
from auris.checkpoints.inference_defaults import InferenceDefaults, save_inference_defaults
from auris.types import SAMPLE_RATE
from tests.streaming.conftest import KINDS
from tests.streaming.live import same, stable, updates_of
from tests.tiny_models import ctc_config, tone_speech, write_tiny

FEEDS = st.lists(st.integers(160, 80_000), min_size=1, max_size=4)
"""From 10 ms to 5 s."""


BUDGETS = {kind: {} if kind == "ctc" else {"max_new_tokens": 15} for kind in KINDS}
"""Few tokens, so that tests are quick."""


def louder(seconds: float, seed: int) -> np.ndarray:
    """A recording whose loudest sound comes late, so that the floor of its features rises."""
    samples = tone_speech(seconds, seed)
    return samples * np.geomspace(1e-4, 3.0, len(samples)).astype(np.float32)


def prefix(pipeline: AsrPipeline, samples: np.ndarray, seconds: float, **options: object) -> list:
    """The segments of a file that ends at a step."""
    end = round(seconds * SAMPLE_RATE)
    found = pipeline.transcribe((samples[:end], SAMPLE_RATE), **options)
    return list(found.segments)


@settings(max_examples=25)
@given(
    st.sampled_from(KINDS),
    st.floats(0.005, 5.0),
    FEEDS,
    st.sampled_from([1.0, 2.0, 30.0]),
    st.sampled_from([0.3, 0.5, 1.7]),
    st.booleans(),
    st.integers(0, 5),
)
def test_the_final_text_of_a_stream_is_that_of_the_file(
    pipelines: dict[str, AsrPipeline],
    kind: str,
    seconds: float,
    feeds: list[int],
    chunk: float,
    step: float,
    late: bool,
    seed: int,
) -> None:
    pipeline = pipelines[kind]
    samples = (louder if late else tone_speech)(seconds, seed)
    options = {"chunk_seconds": chunk, "end_at_pauses": late, **BUDGETS[kind]}
    updates = updates_of(pipeline.stream(step_seconds=step, **options), samples, feeds)
    whole = pipeline.transcribe((samples, SAMPLE_RATE), **options)
    same(stable(updates), whole.segments, f"{kind} in blocks of {feeds}")


@pytest.fixture(scope="session")
def short_pauses(tmp_path_factory: pytest.TempPathFactory) -> AsrPipeline:
    """A model whose inference defaults name a shorter pause."""
    directory = write_tiny(tmp_path_factory.mktemp("pauses"), config=ctc_config(), seed=1)
    save_inference_defaults(InferenceDefaults(4.0, pause_seconds=0.3), directory)
    return AsrPipeline.from_pretrained(directory, device="cpu")


@settings(max_examples=15)
@given(st.floats(1.5, 6.0), st.floats(0.35, 0.75), FEEDS, st.integers(0, 5))
def test_a_model_with_shorter_pauses_cuts_streams_and_files_alike(
    short_pauses: AsrPipeline, seconds: float, pause: float, feeds: list[int], seed: int
) -> None:
    """A pause that is too short for other models ends a chunk of both, and of a batch."""
    quiet = 1e-4 * tone_speech(pause, seed)
    samples = np.concatenate([tone_speech(1.2, seed), quiet, tone_speech(seconds, seed + 1)])
    updates = updates_of(short_pauses.stream(), samples, feeds)
    options = {"chunk_seconds": 4.0, "end_at_pauses": True}
    whole = short_pauses.transcribe((samples, SAMPLE_RATE), **options)
    same(stable(updates), whole.segments, f"in blocks of {feeds}")
    batch = short_pauses.transcribe([(samples, SAMPLE_RATE)] * 2, batch_size=4, **options)
    for one in batch:
        same(one.segments, whole.segments, "in a batch")
    assert whole.segments[0].end < 1.2 + pause


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("late", [False, True])
def test_every_step_has_the_text_of_a_file_of_that_length(
    pipelines: dict[str, AsrPipeline], kind: str, late: bool
) -> None:
    pipeline = pipelines[kind]
    samples = (louder if late else tone_speech)(5.2, 3)
    options = {"chunk_seconds": 3.0, "end_at_pauses": True, **BUDGETS[kind]}
    updates = updates_of(pipeline.stream(**options), samples, [5000])
    assert sum(not update.final for update in updates) == 10
    for place, update in enumerate(updates):
        known = [*stable(updates[:place]), update.segment]
        if not update.final:
            at = prefix(pipeline, samples, update.seconds, **options)
            same(known, at, f"{kind} at {update.seconds} s")


def test_the_static_step_gives_the_same_texts(pipelines: dict[str, AsrPipeline]) -> None:
    options = {"chunk_seconds": 2.0, "max_new_tokens": 40}
    samples = tone_speech(5.0, 6)
    ours, theirs = (
        updates_of(pipelines[kind].stream(**options), samples, [9000])
        for kind in ("static", "qwen")
    )
    assert [update.seconds for update in ours] == [update.seconds for update in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        same([mine.segment], [other.segment], f"a step at {mine.seconds} s")


def test_finished_windows_are_not_computed_again(pipelines: dict[str, AsrPipeline]) -> None:
    """Windows of one second are complete within a chunk; a later loud sound invalidates them."""
    pipeline = pipelines["windows"]
    samples = tone_speech(6.0, 8)
    samples[: 4 * SAMPLE_RATE] *= 1e-3
    options = {"chunk_seconds": 30.0, "max_new_tokens": 8, "end_at_pauses": True}
    updates = updates_of(pipeline.stream(**options), samples)
    costs = {update.seconds: update.cost for update in updates if not update.final}
    assert costs[4.5].frames == 450  # The loud part begins: everything before it is encoded again.
    assert costs[5.5].frames <= 150  # The last frame of the previous second was not final.
    assert costs[5.5].encoded <= 20
    for update in updates[1:-1:2]:
        seconds = update.seconds
        same([update.segment], prefix(pipeline, samples, seconds, **options), f"{seconds} s")


@pytest.mark.parametrize("kind", KINDS)
def test_updates_do_not_depend_on_the_sizes_of_feeds(
    pipelines: dict[str, AsrPipeline], kind: str
) -> None:
    samples = tone_speech(4.3, 1)
    runs = [
        updates_of(pipelines[kind].stream(chunk_seconds=2.0, **BUDGETS[kind]), samples, sizes)
        for sizes in ([160], [80_000], [7, 30_000, 1])
    ]
    for run in runs[1:]:
        assert [(u.chunk, u.final, u.seconds, u.segment.tokens) for u in run] == [
            (u.chunk, u.final, u.seconds, u.segment.tokens) for u in runs[0]
        ]


@pytest.mark.parametrize("language", [None, "German"])
def test_options_are_passed_to_the_model(
    pipelines: dict[str, AsrPipeline], language: str | None
) -> None:
    options = {"max_new_tokens": 5, "temperature": 0.8, "seed": 4, "end_at_pauses": True}
    pipeline, samples = pipelines["qwen"], tone_speech(3.0, 2)
    session = pipeline.stream(language, "fox", chunk_seconds=2.0, **options)
    ours = stable(updates_of(session, samples))
    theirs = pipeline.transcribe(
        (samples, SAMPLE_RATE), language, "fox", chunk_seconds=2.0, **options
    )
    same(ours, theirs.segments, "drawn tokens")
    assert all(len(segment.tokens) <= 5 for segment in ours)


def test_languages_are_restricted_as_in_files(pipelines: dict[str, AsrPipeline]) -> None:
    """At every step, for any language of the previous step."""
    pipeline, samples = pipelines["qwen"], tone_speech(4.2, 2)
    options = {"max_new_tokens": 9, "chunk_seconds": 2.0, "languages": ["de", "fr", "ja"]}
    options |= {"end_at_pauses": True}
    updates = updates_of(pipeline.stream(**options), samples)
    for place, update in enumerate(updates):
        known = [*stable(updates[:place]), update.segment]
        if not update.final:
            at = prefix(pipeline, samples, update.seconds, **options)
            same(known, at, f"restricted, at {update.seconds} s")
    assert {segment.language for segment in stable(updates)} <= {"German", "French", "Japanese"}
    same(stable(updates), prefix(pipeline, samples, 4.2, **options), "restricted")


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_other_rates_are_resampled_across_feeds(
    pipelines: dict[str, AsrPipeline], rate: int
) -> None:
    samples = np.interp(
        np.arange(round(3.3 * rate)) / rate, np.arange(52_800) / SAMPLE_RATE, tone_speech(3.3, 2)
    ).astype(np.float32)
    pipeline = pipelines["ctc"]
    options = {"chunk_seconds": 3.0, "end_at_pauses": True}
    ours = stable(updates_of(pipeline.stream(rate=rate, **options), samples, [100, 9999]))
    same(ours, pipeline.transcribe((samples, rate), **options).segments, f"{rate} Hz")


@pytest.mark.parametrize("kind", ["qwen", "ctc"])
def test_silence_is_skipped_as_in_files(pipelines: dict[str, AsrPipeline], kind: str) -> None:
    """Chunks start again after it, and partial text of what turns out to be silence is removed."""
    pipeline = pipelines[kind]
    quiet = np.zeros(7 * SAMPLE_RATE, np.float32)
    samples = np.concatenate([quiet, tone_speech(3.0, 1), quiet, tone_speech(2.0, 2), quiet])
    options = {"chunk_seconds": 3.0, "vad": True, **BUDGETS[kind]}
    updates = updates_of(pipeline.stream(**options), samples, [7000])
    whole = pipeline.transcribe((samples, SAMPLE_RATE), **options)
    same(stable(updates), whole.segments, kind)
    assert [s.skipped for s in stable(updates)] == [s.skipped for s in whole.segments]
    assert any(s.skipped for s in whole.segments)


def test_clean_up_equals_that_of_files(pipelines: dict[str, AsrPipeline]) -> None:
    pipeline, samples = pipelines["ctc"], tone_speech(2.0, 1)
    options = {"clean": ["punctuation"], "chunk_seconds": 3.0, "end_at_pauses": True}
    updates = updates_of(pipeline.stream(**options), samples)
    whole = pipeline.transcribe((samples, SAMPLE_RATE), **options)
    assert [s.text for s in stable(updates)] == [s.text for s in whole.segments]
