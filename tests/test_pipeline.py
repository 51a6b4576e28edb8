"""`AsrPipeline` on tiny random models: equal words for every batch size, and errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import auris
from auris import AsrPipeline, AurisError, Failure, Progress, Segment, Transcript
from auris.errors import (
    EmptyAudio,
    InvalidSamples,
    LanguageError,
    UnreadableAudio,
    UnsupportedOption,
    UsageError,
)
from tests.processors import set_bfloat16
from tests.recognition.test_scheduler import counting
from tests.recordings import BUDGET, RATE, Array, clip, plain, tokens, write_wav
from tests.tiny_models import ctc_config, tone_speech, write_tiny

# Transcripts -------------------------------------------------------------------------------------


def test_one_recording(qwen: AsrPipeline) -> None:
    result = qwen.transcribe(clip(2.5), max_new_tokens=BUDGET)
    assert isinstance(result, Transcript)
    (segment,) = result.segments
    assert (segment.start, segment.end) == (0.0, 2.5)
    assert result.text == segment.text
    assert result.seconds == 2.5
    assert result.finish_reason == segment.finish_reason
    chances = [confidence for _, confidence in segment.word_confidences if confidence is not None]
    assert result.confidence == pytest.approx(np.mean(chances))
    assert set(result.timings) == {"audio", "mel", "encode", "prefill", "decode"}
    assert all(seconds >= 0 for seconds in result.timings.values())
    again = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert again["segments"][0]["tokens"] == list(segment.tokens)


def test_a_file_gives_the_text_of_its_samples(qwen: AsrPipeline, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", 2.0)
    stored = (tone_speech(2.0) * 20_000).astype("<i2")
    wanted = plain(qwen.transcribe((stored, RATE), max_new_tokens=BUDGET))
    for source in (str(path), path, path.read_bytes()):
        assert plain(qwen.transcribe(source, max_new_tokens=BUDGET)) == wanted
    with path.open("rb") as file:
        assert plain(qwen.transcribe(file, max_new_tokens=BUDGET)) == wanted


@pytest.mark.parametrize("kind", ["qwen", "ctc"])
def test_every_batch_size_gives_the_same_text(kind: str, request: pytest.FixtureRequest) -> None:
    pipeline: AsrPipeline = request.getfixturevalue(kind)
    options: dict[str, Any] = {"chunk_seconds": 1.5}
    if kind == "qwen":
        options["max_new_tokens"] = BUDGET
    clips = [clip(seconds, seed) for seed, seconds in enumerate((0.3, 4.1, 2.0, 6.4, 1.0))]
    single = [plain(pipeline.transcribe(one, **options)) for one in clips]
    assert len({json.dumps(one["segments"]) for one in single}) == len(clips)
    assert len(single[3]["segments"]) > 2
    for size in (1, 2, 3, 4):
        together = pipeline.transcribe(list(clips), batch_size=size, **options)
        assert [plain(one) for one in together] == single, f"batch_size {size}"


def test_segments_follow_each_other_without_a_gap(qwen: AsrPipeline) -> None:
    result = qwen.transcribe(clip(9.3), chunk_seconds=2, max_new_tokens=3, batch_size=3)
    assert len(result.segments) > 3
    assert result.segments[0].start == 0.0
    assert result.segments[-1].end == pytest.approx(9.3)
    for before, after in pairwise(result.segments):
        assert before.end == pytest.approx(after.start)
    assert result.seconds == pytest.approx(9.3)


def test_times_of_a_span_are_relative_to_its_source(qwen: AsrPipeline) -> None:
    samples, _ = clip(8.0)
    span = qwen.transcribe(
        (samples, RATE), start=1.25, duration=4.5, chunk_seconds=1.5, max_new_tokens=BUDGET
    )
    assert span.segments[0].start == 1.25
    assert span.segments[-1].end == pytest.approx(5.75)
    assert span.seconds == pytest.approx(4.5)
    cut = samples[round(1.25 * RATE) : round(5.75 * RATE)]
    alone = qwen.transcribe((cut, RATE), chunk_seconds=1.5, max_new_tokens=BUDGET)
    assert tokens(span) == tokens(alone)
    assert [s.start - 1.25 for s in span.segments] == pytest.approx(
        [s.start for s in alone.segments]
    )


def test_silence_and_very_short_clips(qwen: AsrPipeline, ctc: AsrPipeline) -> None:
    for pipeline in (qwen, ctc):
        for samples in (np.zeros(RATE, np.float32), np.full(1, 0.5, np.float32)):
            result = pipeline.transcribe((samples, RATE))
            assert result.seconds == len(samples) / RATE
            assert result.finish_reason in ("stop", "length")


def test_a_truncated_text_has_the_reason_length(qwen: AsrPipeline) -> None:
    result = qwen.transcribe(clip(5.0), chunk_seconds=1, max_new_tokens=1)
    assert result.finish_reason == "length"
    assert {segment.finish_reason for segment in result.segments} == {"length"}
    assert all(len(segment.tokens) == 1 for segment in result.segments)


def test_a_forced_language(qwen: AsrPipeline, ctc: AsrPipeline) -> None:
    for name in ("de", "German", "GERMAN", " german "):
        assert qwen.transcribe(clip(1.0), name, max_new_tokens=3).language == "German"
    free, forced = (qwen.transcribe(clip(1.0), name, max_new_tokens=9) for name in (None, "de"))
    assert tokens(free) != tokens(forced)
    assert ctc.transcribe(clip(1.0), "en").language in ("English", None)


def test_a_context_changes_the_prompt(qwen: AsrPipeline) -> None:
    with_names, without = (
        qwen.transcribe(clip(1.0), context=text, max_new_tokens=BUDGET)
        for text in ("kitchen fox lights", "")
    )
    assert [s.logprobs for s in with_names.segments] != [s.logprobs for s in without.segments]


def test_sampling_is_repeatable(qwen: AsrPipeline) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "max_new_tokens": BUDGET, "chunk_seconds": 1}
    first, again, other = (
        tokens(qwen.transcribe(clip(3.0), seed=seed, batch_size=size, **options))
        for seed, size in ((1, 1), (1, 3), (2, 1))
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("computes_bfloat16", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["qwen", "ctc"])
def test_every_dtype_runs(
    dtype: str,
    kind: str,
    computes_bfloat16: bool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = request.getfixturevalue(f"{kind}_directory")
    set_bfloat16(monkeypatch, computes_bfloat16)
    pipeline = AsrPipeline.from_pretrained(directory, device="cpu", dtype=dtype)
    rounds = dtype == "bfloat16" and computes_bfloat16
    assert pipeline.backend.dtype == (torch.bfloat16 if rounds else torch.float32)
    options: Any = {"max_new_tokens": 4} if kind == "qwen" else {}
    result = pipeline.transcribe(clip(2.0), **options)
    assert result.segments[0].tokens
    json.dumps(result.to_dict(), allow_nan=False)


# Several recordings ------------------------------------------------------------------------------


def test_bad_recordings_among_good_ones(qwen: AsrPipeline, tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    text = tmp_path / "text.wav"
    text.write_text("no audio at all\n" * 50)
    nan = np.full(RATE, np.nan, np.float32)
    sources = [
        clip(1.0, 1),
        str(tmp_path / "missing.wav"),
        str(empty),
        clip(1.0, 2),
        str(text),
        (nan, RATE),
        (np.empty(0, np.float32), RATE),
        str(tmp_path),
        3.5,
        clip(1.0, 3),
    ]
    kinds = {
        1: UnreadableAudio,
        2: UnreadableAudio,
        4: UnreadableAudio,
        5: InvalidSamples,
        6: EmptyAudio,
        7: UnreadableAudio,
        8: UsageError,
    }
    good = {n: qwen.transcribe(sources[n], max_new_tokens=BUDGET) for n in (0, 3, 9)}
    for size in (1, 3):
        found = dict(qwen.results(sources, batch_size=size, max_new_tokens=BUDGET))
        assert sorted(found) == list(range(10))
        for number, result in found.items():
            if number in kinds:
                assert isinstance(result, Failure)
                assert isinstance(result.error, kinds[number])
            else:
                assert isinstance(result, Transcript)
                assert plain(result) == plain(good[number])
    with pytest.raises(AurisError):
        qwen.transcribe(sources, max_new_tokens=BUDGET)


def test_a_truncated_recording_has_no_transcript(qwen: AsrPipeline, tmp_path: Path) -> None:
    whole = write_wav(tmp_path / "whole.wav", 6.0).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) * 2 // 3])
    sources = [str(tmp_path / "cut.wav"), str(tmp_path / "whole.wav")]
    found = dict(qwen.results(sources, chunk_seconds=1, max_new_tokens=2))
    assert isinstance(found[0], Failure)
    assert isinstance(found[0].error, UnreadableAudio)
    assert isinstance(found[1], Transcript)


def test_no_recordings(qwen: AsrPipeline) -> None:
    assert qwen.transcribe([]) == []
    assert list(qwen.results([])) == []


def test_a_recording_is_read_only_when_needed(qwen: AsrPipeline) -> None:
    opened: list[int] = []

    def sources() -> Iterator[Array]:
        for number in range(4):
            opened.append(number)
            yield clip(1.0, number)

    results = qwen.results(sources(), max_new_tokens=2)
    assert opened == []
    assert next(results)[0] == 0
    assert opened == [0]
    assert [number for number, _ in results] == [1, 2, 3]


@pytest.mark.parametrize("kind", [str, Path, bytes])
def test_a_single_source_is_refused_as_a_list(qwen: AsrPipeline, kind: Any) -> None:
    source = b"RIFF" if kind is bytes else kind("a.wav")
    with pytest.raises(UsageError, match="put it into a list"):
        qwen.results(source)


# Progress and cancellation -----------------------------------------------------------------------


def test_segments_are_yielded_in_order(qwen: AsrPipeline) -> None:
    whole = qwen.transcribe(clip(7.0), chunk_seconds=1, max_new_tokens=BUDGET)
    for size in (1, 4):
        parts = qwen.segments(clip(7.0), chunk_seconds=1, max_new_tokens=BUDGET, batch_size=size)
        first = next(parts)
        assert isinstance(first, Segment)
        rest = list(parts)
        assert [s.tokens for s in (first, *rest)] == tokens(whole)
        assert [s.start for s in (first, *rest)] == [s.start for s in whole.segments]


def test_a_segment_is_yielded_when_all_before_it_are_done(qwen: AsrPipeline) -> None:
    batch = counting(2, [1, 0])
    pipeline = AsrPipeline.over(qwen.recognizer, None, None, open_batch=lambda rows: batch)
    parts = pipeline.segments(clip(9.0), chunk_seconds=1, batch_size=2)
    starts, taken = [], []
    for part in parts:
        starts.append(part.start)
        taken.append(batch.taken)
    assert starts == sorted(starts)
    # The second chunk is done first; it is yielded right after the first.
    assert taken[0] == taken[1] == 3


def test_segments_of_a_bad_recording(qwen: AsrPipeline, tmp_path: Path) -> None:
    parts = qwen.segments(str(tmp_path / "missing.wav"))
    with pytest.raises(UnreadableAudio):
        next(parts)


def test_ending_the_iteration_stops_the_work(qwen: AsrPipeline) -> None:
    seen: list[Progress] = []
    parts = qwen.segments(clip(7.0), chunk_seconds=1, max_new_tokens=2, progress=seen.append)
    next(parts)
    parts.close()
    assert len(seen) == 1


def test_progress_counts_finished_audio(qwen: AsrPipeline) -> None:
    seen: list[Progress] = []
    sources = [clip(3.0), "missing.wav", clip(1.0)]
    list(qwen.results(sources, chunk_seconds=1, max_new_tokens=2, progress=seen.append))
    last = seen[-1]
    assert (last.recordings, last.seconds) == (3, pytest.approx(4.0))
    assert last.segments >= 3
    for before, after in pairwise(seen):
        assert before.seconds <= after.seconds
        done = (after.segments + after.recordings) - (before.segments + before.recordings)
        assert done == 1


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("kind", ["qwen", "ctc"])
def test_cancelling_in_the_middle(kind: str, size: int, request: pytest.FixtureRequest) -> None:
    pipeline: AsrPipeline = request.getfixturevalue(kind)
    cancel = threading.Event()
    options: Any = {"max_new_tokens": 40} if kind == "qwen" else {}

    def report(progress: Progress) -> None:
        if progress.segments == 2:
            cancel.set()

    sources = [clip(6.0), clip(3.0), clip(2.0)]
    results = pipeline.transcribe(
        sources, chunk_seconds=1, batch_size=size, cancel=cancel, progress=report, **options
    )
    assert len(results) == 3
    assert [result.finish_reason for result in results] == ["cancelled"] * 3
    assert len(results[0].segments) >= 2
    assert results[2].segments == ()
    assert results[2].text == ""
    json.dumps([result.to_dict() for result in results])


def test_cancelling_from_another_thread(qwen: AsrPipeline) -> None:
    cancel = threading.Event()
    timer = threading.Timer(0.05, cancel.set)
    timer.start()
    result = qwen.transcribe(clip(1.0), max_new_tokens=1_000_000, cancel=cancel, temperature=50.0)
    timer.join()
    assert result.finish_reason in ("cancelled", "stop")


def test_cancelled_before_it_begins(qwen: AsrPipeline, ctc: AsrPipeline) -> None:
    cancel = threading.Event()
    cancel.set()
    for pipeline in (qwen, ctc):
        single = pipeline.transcribe("never-read.wav", cancel=cancel)
        assert (single.finish_reason, single.text, single.segments) == ("cancelled", "", ())
        assert [r.finish_reason for r in pipeline.transcribe(["a", "b"], cancel=cancel)] == [
            "cancelled"
        ] * 2
        assert list(pipeline.results(["a"], cancel=cancel)) == []
        assert list(pipeline.segments("a", cancel=cancel)) == []


# Invalid calls -----------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], type[AurisError], str]] = [
    ({"batch_size": 0}, UsageError, "batch_size has to be a whole number from 1 to"),
    ({"batch_size": 1.5}, UsageError, "batch_size"),
    ({"batch_size": "2"}, UsageError, "batch_size"),
    ({"chunk_seconds": 0.5}, UsageError, "1 to 1200 seconds"),
    ({"chunk_seconds": "30"}, UsageError, "1 to 1200 seconds"),
    ({"temperature": "1"}, UsageError, "temperature"),
    ({"chunk_seconds": float("nan")}, UsageError, "1 to 1200 seconds"),
    ({"workers": -1}, UsageError, "workers has to be a whole number from 0 to"),
    ({"batch_seconds": float("inf")}, UsageError, "has to be a finite number of seconds"),
    ({"start": 1e308}, UsageError, "0 or more and less than 1,000,000,000"),
    ({"duration": 1e308}, UsageError, "more than 0 and less than 1,000,000,000"),
    ({"start": -1.0}, UsageError, "start has to be"),
    ({"start": float("nan")}, UsageError, "start has to be"),
    ({"start": "1"}, UsageError, "start has to be"),
    ({"duration": 0.0}, UsageError, "duration has to be"),
    ({"duration": float("inf")}, UsageError, "duration has to be"),
    ({"context": "a\ud800"}, UsageError, r"^context has to be valid Unicode"),
    ({"hotwords": ["a", "b\udcff"]}, UsageError, r"Each of hotwords has to be .* character 2 of"),
    ({"max_new_tokens": 0}, UsageError, "max_new_tokens"),
    ({"temperature": -0.1}, UsageError, "temperature"),
    ({"temperature": float("nan")}, UsageError, "temperature"),
    ({"seed": -1}, UsageError, "seed"),
    ({"seed": 1 << 63}, UsageError, "seed"),
    ({"seed": 0.5}, UsageError, "seed"),
    ({"language": "Klingon"}, LanguageError, "Klingon"),
    ({"batchsize": 2}, UsageError, "there is also batchsize"),
    ({"context": "a" * 10_001}, UsageError, "^context has to be at most 10000 letters"),
    ({"word_timestamps": True, "aligner": 3}, UsageError, "aligner has to be a ForcedAligner"),
    ({"aligner": 3}, UsageError, "it is 3"),
]


@pytest.mark.parametrize(("options", "kind", "message"), WRONG)
def test_invalid_arguments_are_refused_before_reading(
    qwen: AsrPipeline, options: dict[str, Any], kind: type[AurisError], message: str
) -> None:
    def sources() -> Iterator[str]:
        raise AssertionError("a source was asked for")
        yield ""

    with pytest.raises(kind, match=message):
        qwen.results(sources(), **options)
    with pytest.raises(kind, match=message):
        qwen.transcribe("never-read.wav", **options)
    with pytest.raises(kind, match=message):
        qwen.segments("never-read.wav", **options)


@pytest.mark.parametrize(
    "options",
    [{"max_new_tokens": 5}, {"temperature": 0.5}, {"language": "French"}],
)
def test_a_ctc_model_refuses_unsupported_options(ctc: AsrPipeline, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedOption):
        ctc.results(iter(()), **options)


def test_ranges_include_their_limits(qwen: AsrPipeline) -> None:
    for options in ({"temperature": 100.0}, {"temperature": 1e-300}, {"seed": (1 << 63) - 1}):
        qwen.transcribe(clip(0.5), max_new_tokens=2, **options)


# Clean-up of texts -------------------------------------------------------------------------------


def test_text_clean_up_is_optional(qwen: AsrPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qwen.recognizer.tokenizer, "decode", lambda ids: "twenty two , no !")
    options: dict[str, Any] = {"language": "en", "max_new_tokens": 3}
    assert qwen.transcribe(clip(1.0), **options).text == "twenty two , no !"
    cleaned = qwen.transcribe(clip(1.0), clean=["punctuation", "numbers"], **options)
    assert cleaned.text == cleaned.segments[0].text == "22, no!"
    assert cleaned.segments[0].tokens == qwen.transcribe(clip(1.0), **options).segments[0].tokens
    german = qwen.transcribe(clip(1.0), "de", clean=["punctuation"], max_new_tokens=3)
    assert german.text == "twenty two, no!"
    with pytest.raises(UnsupportedOption, match="German"):
        qwen.transcribe(clip(1.0), "de", clean=["numbers"])
    with pytest.raises(
        UsageError, match="a list of numbers, written, simplified, traditional and punctuation"
    ):
        qwen.transcribe(clip(1.0), clean=["spelling"])


def test_the_constructor_loads_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_tiny(tmp_path / "model", config=ctc_config())
    pipeline = auris.AsrPipeline(directory, "cpu")
    whole = pipeline.transcribe(clip(2.0))
    print(whole)
    assert capsys.readouterr().out == whole.text + "\n"
    again = auris.AsrPipeline(directory, auris.Device.CPU, dtype="float32")
    assert again.transcribe(clip(2.0)).text == whole.text
    assert auris.AsrPipeline("tiny", "cpu").model.name == "tiny"


def test_a_tuple_of_paths_is_several_recordings(tmp_path: Path) -> None:
    pipeline = auris.AsrPipeline(write_tiny(tmp_path / "model", config=ctc_config()), "cpu")
    paths: list[str] = [str(write_wav(tmp_path / f"{name}.wav", 1.0)) for name in "ab"]
    as_list = pipeline.transcribe(paths)
    as_tuple = pipeline.transcribe(tuple(paths))
    assert [one.text for one in as_tuple] == [one.text for one in as_list]
    assert len(as_tuple) == 2
    with pytest.raises(UsageError, match="its type is tuple"):
        pipeline.transcribe([("a.wav", "b.wav")])
    with pytest.raises(UsageError, match="a single"):
        pipeline.results(clip(1.0))
