"""`WhisperModel`: segments equal those of the pipeline, and no option is ignored silently."""

from __future__ import annotations

import math
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auris import AsrPipeline
from auris.compat import faster_whisper
from auris.compat.faster_whisper import (
    NEUTRAL,
    BatchedInferencePipeline,
    WhisperModel,
    available_models,
    decode_audio,
)
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
        {"prefix": "So"},
        {"output_language": "en"},
        {"temperature": []},
        {"initial_prompt": [1, 2]},
        {"clip_timestamps": "0,1,2,3"},
        {"clip_timestamps": "soon"},
        {"clip_timestamps": [{"start": 0, "end": 1}, {"start": 2, "end": 3}]},
    ],
)
def test_unsupported_options(model: WhisperModel, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedOption, match=next(iter(options))):
        model.transcribe(clip(1.0)[0], **options)


@pytest.mark.parametrize(
    "options",
    [
        {"best_of": 7},
        {"temperature": [0.0, 0.2]},
        {"vad_parameters": {"min_silence_duration_ms": 500}},
        {"suppress_tokens": [7]},
        {"append_punctuations": "."},
        {"hallucination_silence_threshold": 2.0},
        {"no_speech_threshold": 0.3},
    ],
)
def test_options_that_only_tune_decoding(model: WhisperModel, options: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match=next(iter(options))) as warned:
        segments, _ = model.transcribe(clip(1.0)[0], max_new_tokens=3, **options)
    assert warned[0].filename == __file__, "the warning names the line of the caller"
    plain, _ = model.transcribe(clip(1.0)[0], max_new_tokens=3)
    assert [one.text for one in segments] == [one.text for one in plain]


# What `transcribe` of faster-whisper 1.2 has as defaults, and of its batched pipeline.
EXPLICIT: dict[str, Any] = {
    "task": "transcribe",
    "log_progress": False,
    "best_of": 5,
    "patience": 1,
    "length_penalty": 1,
    "repetition_penalty": 1,
    "no_repeat_ngram_size": 0,
    "temperature": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
    "compression_ratio_threshold": 2.4,
    "log_prob_threshold": -1.0,
    "no_speech_threshold": 0.6,
    "initial_prompt": None,
    "condition_on_previous_text": True,
    "prompt_reset_on_temperature": 0.5,
    "prefix": None,
    "suppress_blank": True,
    "suppress_tokens": [-1],
    "without_timestamps": False,
    "max_initial_timestamp": 1.0,
    "word_timestamps": False,
    "multilingual": False,
    "prepend_punctuations": "\"'“¿([{-",
    "append_punctuations": "\"'.。,，!！?？:：”)]}、",
    "vad_filter": False,
    "vad_parameters": None,
    "chunk_length": None,
    "clip_timestamps": "0",
    "hallucination_silence_threshold": None,
    "hotwords": None,
    "language_detection_threshold": 0.5,
    "language_detection_segments": 1,
}


def test_explicit_defaults(model: WhisperModel) -> None:
    segments, _ = model.transcribe(clip(1.0)[0], max_new_tokens=3, **EXPLICIT)
    plain, _ = model.transcribe(clip(1.0)[0], max_new_tokens=3)
    assert [one.text for one in segments] == [one.text for one in plain]


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
        ({"compute_type": "int16"}, "compute_type"),
        ({"device_index": [0, 1]}, "device_index"),
        ({"device_index": 1}, "device_index"),
        ({"download_root": "models"}, "download_root"),
    ],
)
def test_loading_with_unsupported_options(
    qwen_directory: Path, options: dict[str, Any], name: str
) -> None:
    with pytest.raises(UnsupportedOption, match=name):
        WhisperModel(qwen_directory, **options)


def test_types_and_workers_of_the_other_package(qwen_directory: Path) -> None:
    with pytest.warns(UserWarning, match="num_workers"):
        model = WhisperModel(qwen_directory, "cpu", [0], compute_type="int8_float16", num_workers=4)
    assert model.pipeline.backend.quantized


def test_a_ctc_model(ctc_directory: Path) -> None:
    model = WhisperModel(ctc_directory, "cpu")
    segments, info = model.transcribe(clip(1.0)[0])
    assert info.language in ("en", None)
    assert all(segment.text for segment in segments)
    ours = model.pipeline.transcribe((clip(1.0)[0], RATE), hotwords=["fox"], beam_size=2)
    for given in ({"hotwords": "fox"}, {"initial_prompt": "fox"}):
        segments, _ = model.transcribe(clip(1.0)[0], **given, beam_size=2)
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


def test_sizes_of_whisper(qwen_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="'tiny' is a size of Whisper; .* own model 'tiny'"):
        model = WhisperModel("tiny", "cpu")
    assert model.pipeline.model.origin == "bundled"
    monkeypatch.setenv("AURIS_MODEL", str(qwen_directory))
    with pytest.warns(UserWarning, match=f"'large-v3' is .* own model '{qwen_directory}'"):
        model = WhisperModel("large-v3", "cpu")
    assert model.pipeline.model.directory == qwen_directory
    assert {"large-v3", "turbo", "tiny-ctc", "Qwen/Qwen3-ASR-1.7B"} <= set(available_models())


def test_batches_leave_silence_out(model: WhisperModel) -> None:
    sound = np.concatenate([clip(2.0)[0], np.zeros(20 * RATE, np.float32), clip(2.0)[0]])
    batched = BatchedInferencePipeline(model=model)
    segments, info = batched.transcribe(sound, batch_size=4, max_new_tokens=3, language="en")
    assert info.duration_after_vad < 10.0
    alone, _ = model.transcribe(sound, "en", vad_filter=True, max_new_tokens=3)
    assert [one.tokens for one in segments] == [one.tokens for one in alone]


def test_progress(model: WhisperModel, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"log_progress": True, "chunk_length": 1, "max_new_tokens": 3}
    list(model.transcribe(clip(2.0)[0], **options)[0])
    assert capsys.readouterr().err.endswith("\r2.00/2.00 seconds\n")


def test_decoded_audio(model: WhisperModel, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", 1.0)
    samples = decode_audio(str(path))
    assert isinstance(samples, np.ndarray)
    assert (samples.dtype, samples.shape) == (np.float32, (RATE,))
    left, right = decode_audio(path, split_stereo=True)
    assert np.array_equal(left, samples)
    assert np.array_equal(right, samples)
    for options in ({"sampling_rate": 8000}, {"split_stereo": True}):
        with pytest.raises(UnsupportedOption, match=next(iter(options))):
            decode_audio((np.zeros((RATE, 3), np.float32), RATE), **options)
    language, probability, everything = model.detect_language(samples)
    assert max(one for _, one in everything) <= max(probability, everything[0][1])
    assert language is None or dict(everything)[language] == probability


README = """
segments, info = model.transcribe("audio.mp3", beam_size=5)
print("Detected language '%s' with probability %f" % (info.language, info.language_probability))
for segment in segments:
    print("[%.2fs -> %.2fs] %s" % (segment.start, segment.end, segment.text))
segments, _ = model.transcribe("audio.mp3")
segments = list(segments)
batched_model = BatchedInferencePipeline(model=model)
segments, info = batched_model.transcribe("audio.mp3", batch_size=16)
for segment in segments:
    print("[%.2fs -> %.2fs] %s" % (segment.start, segment.end, segment.text))
segments, info = model.transcribe(
    "audio.mp3", beam_size=5, language="en", condition_on_previous_text=False
)
segments, _ = model.transcribe("audio.mp3", vad_filter=True)
"""
"""Calls of faster-whisper's README; its model is loaded by the test."""

WORDS = """
segments, _ = model.transcribe("audio.mp3", word_timestamps=True)
for segment in segments:
    for word in segment.words:
        print("[%.2fs -> %.2fs] %s" % (word.start, word.end, word.word))
"""


def test_the_calls_of_the_readme(
    model: WhisperModel, ctc_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "audio.mp3", 2.0)
    names = {"BatchedInferencePipeline": BatchedInferencePipeline}
    exec(README, {"model": model, **names})
    exec(README + WORDS, {"model": WhisperModel(str(ctc_directory), device="cpu"), **names})


def test_hotwords_with_a_temperature_have_no_effect_and_a_warning_says_so() -> None:
    samples, _ = clip(1.0)
    with pytest.warns(UserWarning, match="size of Whisper"):
        model = WhisperModel("tiny")
    with pytest.warns(UserWarning, match="hotwords = 'Ada' have no effect: .* temperature of 0"):
        model.transcribe(samples, temperature=0.5, hotwords="Ada")
    for heat, hotwords in ((0.0, "Ada"), (0.5, " ")):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "hotwords")
            model.transcribe(samples, temperature=heat, hotwords=hotwords)
