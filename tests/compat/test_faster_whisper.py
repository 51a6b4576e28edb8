"""`WhisperModel`: segments equal those of the pipeline, and no option is ignored silently."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auris import AsrPipeline
from auris.compat import faster_whisper
from auris.compat.faster_whisper import NEUTRAL, WhisperModel
from auris.errors import LanguageError, UnsupportedOption, UsageError
from auris.text.reply import Reply
from tests.recordings import BUDGET, RATE, clip, write_wav


@pytest.fixture(scope="module")
def model(qwen_directory: Path) -> WhisperModel:
    return WhisperModel(str(qwen_directory), device="cpu", compute_type="float32")


def test_segments_and_info(model: WhisperModel, qwen: AsrPipeline, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", 5.0)
    segments, info = model.transcribe(str(path), chunk_length=1.5, max_new_tokens=BUDGET)
    wanted = qwen.transcribe(path, chunk_seconds=1.5, max_new_tokens=BUDGET)
    assert iter(segments) is segments
    spoken = [segment for segment in wanted.segments if segment.text]
    assert len(spoken) > 1
    for number, (segment, one) in enumerate(zip(segments, spoken, strict=True), 1):
        assert (segment.id, segment.start, segment.end) == (number, one.start, one.end)
        assert segment.seek == round(100 * one.start)
        assert segment.text.removeprefix(" ") == one.text
        assert (segment.tokens, segment.avg_logprob) == (list(one.tokens), one.avg_logprob)
        data = segment.text.encode()
        assert segment.compression_ratio == len(data) / len(zlib.compress(data))
        assert 0.0 <= segment.no_speech_prob <= 1.0
        assert (segment.words, segment.temperature) == (None, 0.0)
    assert (info.duration, info.duration_after_vad) == (5.0, 5.0)
    assert info.all_language_probs is not None
    chances = dict(info.all_language_probs)
    assert "probability %f" % info.language_probability  # noqa: UP031
    if info.language in chances:
        assert info.language_probability == chances[info.language]
    assert 0.0 <= sum(chances.values()) <= 1.0 + 1e-6
    assert list(chances.values()) == sorted(chances.values(), reverse=True)
    assert info.transcription_options["max_new_tokens"] == BUDGET


def test_a_forced_language(model: WhisperModel) -> None:
    for language in ("de", "German"):
        _, info = model.transcribe(clip(1.0)[0], language, max_new_tokens=3)
        assert (info.language, info.language_probability) == ("de", 1.0)
    with pytest.raises(LanguageError):
        model.transcribe(clip(1.0)[0], "klingon")


def test_context_temperature_and_clips(
    model: WhisperModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def segments(*given: Any, **options: Any) -> Any:
        calls.append((given[1:], options))
        return iter(())

    monkeypatch.setattr(model.pipeline, "segments", segments)
    for clips, span in (("0", (0.0, None)), ("1.5,3", (1.5, 1.5)), ([2], (2.0, None))):
        nothing, info = model.transcribe(
            clip(4.0)[0],
            initial_prompt="fox",
            hotwords="dog",
            temperature=[0.5],
            clip_timestamps=clips,
            beam_size=1,
        )
        assert list(nothing) == []
        assert (info.language, info.duration) == (None, 4.0)
        given, options = calls[-1]
        assert given == (None, "fox dog")
        assert (options["start"], options["duration"]) == span
        assert (options["temperature"], options["chunk_seconds"]) == (0.5, None)


def test_beams_and_hotwords_are_those_of_the_pipeline(model: WhisperModel) -> None:
    samples, rate = clip(1.5)
    options: dict[str, Any] = {"language": "en", "max_new_tokens": 6}
    segments, info = model.transcribe(samples, beam_size=5, hotwords="Ada, New York", **options)
    ours = model.pipeline.transcribe(
        (samples, rate),
        context="Ada, New York",
        hotwords=["Ada", "New York"],
        beam_size=5,
        **options,
    )
    assert [one.tokens for one in segments] == [
        list(one.tokens) for one in ours.segments if one.text
    ]
    assert info.transcription_options["beam_size"] == 5


def test_segment_texts_can_be_joined(model: WhisperModel, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = iter(["one two", "三", "", "four", ""])
    monkeypatch.setattr(
        "auris.recognition.qwen.parse_reply", lambda text, *_: Reply("English", next(texts))
    )
    segments, info = model.transcribe(
        np.concatenate([clip(1.5)[0]] * 3), chunk_length=1, max_new_tokens=1
    )
    assert info.language == "en"
    told = list(segments)
    assert "".join(segment.text for segment in told) == " one two三 four"
    assert [segment.id for segment in told] == [1, 2, 3]


@pytest.mark.parametrize(
    "options",
    [
        {"task": "translate"},
        {"best_of": 5},
        {"temperature": [0.0, 0.2]},
        {"vad_parameters": {"threshold": 0.5}},
        {"condition_on_previous_text": True},
        {"initial_prompt": [1, 2]},
        {"suppress_tokens": [-1]},
        {"clip_timestamps": "0,1,2,3"},
        {"clip_timestamps": "soon"},
        {"append_punctuations": "."},
        {"log_progress": 1},
    ],
)
def test_unsupported_options(model: WhisperModel, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedOption, match=next(iter(options))):
        model.transcribe(clip(1.0)[0], **options)


def test_options_without_effect(model: WhisperModel) -> None:
    neutral = {name: values[0] for name, values in NEUTRAL.items() if values}
    segments, info = model.transcribe(clip(1.0)[0], max_new_tokens=3, **neutral)
    plain, _ = model.transcribe(clip(1.0)[0], max_new_tokens=3)
    assert [one.text for one in segments] == [one.text for one in plain]
    assert info.transcription_options["beam_size"] == 1


def test_unknown_options(model: WhisperModel) -> None:
    with pytest.raises(UsageError, match="'beams'"):
        model.transcribe(clip(1.0)[0], beams=1)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"compute_type": "int8_float16"}, "compute_type"),
        ({"device_index": [0, 1]}, "device_index"),
        ({"device_index": 1}, "device_index"),
        ({"num_workers": 2}, "num_workers"),
        ({"download_root": "models"}, "download_root"),
    ],
)
def test_loading_with_unsupported_options(
    qwen_directory: Path, options: dict[str, Any], name: str
) -> None:
    with pytest.raises(UnsupportedOption, match=name):
        WhisperModel(qwen_directory, **options)


def test_a_ctc_model(ctc_directory: Path) -> None:
    model = WhisperModel(ctc_directory, "cpu")
    segments, info = model.transcribe(clip(1.0)[0])
    assert info.language in ("en", None)
    assert all(segment.text for segment in segments)
    with pytest.raises(UnsupportedOption, match="context"):
        model.transcribe(clip(1.0)[0], initial_prompt="fox")
    segments, _ = model.transcribe(clip(1.0)[0], hotwords="fox", beam_size=2)
    ours = model.pipeline.transcribe((clip(1.0)[0], RATE), hotwords=["fox"], beam_size=2)
    assert [one.tokens for one in segments] == [
        list(one.tokens) for one in ours.segments if one.text
    ]


def test_words_and_silence(ctc_directory: Path) -> None:
    model = WhisperModel(ctc_directory, "cpu")
    sound = np.concatenate([clip(4.0)[0], np.zeros(20 * RATE, np.float32), clip(4.0)[0]])
    segments, info = model.transcribe(sound, word_timestamps=True, vad_filter=True)
    assert math.isnan(info.language_probability)
    assert info.all_language_probs is None
    assert info.duration == 28.0
    assert 8.0 < info.duration_after_vad < 16.0
    told = list(segments)
    for segment in told:
        assert segment.words is not None
        for word in segment.words:
            assert segment.start <= word.start <= word.end <= segment.end + 1e-6
            assert 0.0 <= word.probability <= 1.0
    assert told
    assert all(segment.end <= 6.0 or segment.start >= 22.0 for segment in told)
    plain, whole = model.transcribe(sound)
    assert all(segment.words is None for segment in plain)
    assert whole.duration_after_vad == 28.0
    _, unasked = WhisperModel("tiny-ctc", "cpu").transcribe(sound)
    assert unasked.duration_after_vad == info.duration_after_vad, "its traits leave silence out"


def test_languages(model: WhisperModel) -> None:
    assert "en" in model.supported_languages
    assert faster_whisper.SAMPLE_RATE == RATE
