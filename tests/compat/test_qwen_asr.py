"""`Qwen3ASRModel`: results equal those of the pipeline, and no option is ignored silently."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import torch

from auris import AsrPipeline
from auris.compat.qwen_asr import Qwen3ASRModel
from auris.errors import DeviceError, LanguageError, UnreadableAudio, UnsupportedOption, UsageError
from tests.audio.media import pcm, wav
from tests.recordings import BUDGET, clip


@pytest.fixture
def model(qwen: AsrPipeline) -> Qwen3ASRModel:
    return Qwen3ASRModel(qwen, 2, BUDGET)


def test_loading(qwen_directory: Path) -> None:
    for options in (
        {"device_map": "cpu", "dtype": torch.float32},
        {"device_map": torch.device("cpu"), "torch_dtype": "float32", "max_new_tokens": BUDGET},
        {"device_map": "cpu", "attn_implementation": "sdpa", "local_files_only": True},
    ):
        model = Qwen3ASRModel.from_pretrained(str(qwen_directory), **options)
        (result,) = model.transcribe(clip(1.0), language="English")
        assert (result.language, result.time_stamps) == ("English", None)


@pytest.mark.parametrize(
    "options",
    [
        {"forced_aligner_kwargs": {"dtype": "float32"}},
        {"device_map": {"": 0}},
        {"attn_implementation": "flash_attention_2"},
        {"quantization_config": object()},
    ],
)
def test_loading_with_unsupported_options(qwen_directory: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedOption, match=next(iter(options))):
        Qwen3ASRModel.from_pretrained(qwen_directory, **options)


def test_invalid_loading(qwen_directory: Path) -> None:
    with pytest.raises(UsageError, match="'atn_implementation'"):
        Qwen3ASRModel.from_pretrained(qwen_directory, atn_implementation="sdpa")
    with pytest.raises(DeviceError, match="toaster"):
        Qwen3ASRModel.from_pretrained(qwen_directory, device_map="toaster")
    with pytest.raises(UnsupportedOption, match="vLLM"):
        Qwen3ASRModel.LLM(model=qwen_directory)


def test_results_equal_those_of_the_pipeline(model: Qwen3ASRModel, qwen: AsrPipeline) -> None:
    clips = [clip(seconds, seed) for seed, seconds in enumerate((1.0, 2.0, 0.5))]
    wanted = [qwen.transcribe(one, max_new_tokens=BUDGET) for one in clips]
    results = model.transcribe(list(clips))
    assert [one.text for one in results] == [one.text for one in wanted]
    assert [one.language for one in results] == [one.language or "" for one in wanted]
    assert [one.text for one in model.transcribe(audio=clips[1])] == [wanted[1].text]
    everything = Qwen3ASRModel(qwen, -1, BUDGET)
    assert everything.transcribe(list(clips)) == results
    assert everything.transcribe([]) == []


def test_a_language_and_a_context_for_each_recording(
    model: Qwen3ASRModel, qwen: AsrPipeline
) -> None:
    clips = [clip(1.0, seed) for seed in range(3)]
    languages, contexts = ["de", None, "German"], ["fox", "dog", "fox"]
    results = model.transcribe(list(clips), context=contexts, language=languages)
    for number, result in enumerate(results):
        wanted = qwen.transcribe(
            clips[number], languages[number], contexts[number], max_new_tokens=BUDGET
        )
        assert (result.text, result.language) == (wanted.text, wanted.language or "")


def test_base64(model: Qwen3ASRModel) -> None:
    samples = pcm(clip(0.5)[0][None])
    text = base64.b64encode(wav(samples)).decode()
    assert "/" in text
    wanted = model.transcribe((samples, 16_000))
    assert model.transcribe(text) == wanted
    assert model.transcribe(f"data:audio/wav;base64,{text}") == wanted
    with pytest.raises(UnreadableAudio, match="base64"):
        model.transcribe("*" * 300)
    with pytest.raises(UnreadableAudio, match="there is no"):
        model.transcribe("missing.wav")


def test_unsupported_calls_are_refused(model: Qwen3ASRModel) -> None:
    # This model has no CTC head, and no aligner is given.
    with pytest.raises(UnsupportedOption, match="Times of words need"):
        model.transcribe(clip(1.0), return_time_stamps=True)
    for option in ("context", "language"):
        with pytest.raises(UsageError, match=f"{option} has to be .* there are 2 for 1"):
            model.transcribe(clip(1.0), **{option: ["English", "English"]})
    with pytest.raises(LanguageError):
        model.transcribe(clip(1.0), language="Klingon")


def test_languages(model: Qwen3ASRModel) -> None:
    assert "English" in model.get_supported_languages()


def test_time_stamps(qwen_directory: Path, ctc_directory: Path) -> None:
    model = Qwen3ASRModel.from_pretrained(
        qwen_directory,
        forced_aligner=ctc_directory,
        forced_aligner_kwargs={"device_map": "cpu", "dtype": "float32"},
        max_new_tokens=BUDGET,
    )
    (result,) = model.transcribe(clip(3.0), return_time_stamps=True)
    transcript = model.pipeline.transcribe(
        clip(3.0), word_timestamps=True, aligner=model.aligner, max_new_tokens=BUDGET
    )
    assert transcript.words is not None
    assert result.time_stamps is not None
    assert [(i.text, i.start_time, i.end_time) for i in result.time_stamps] == [
        (word.text, word.start, word.end) for word in transcript.words
    ]
    (plain,) = model.transcribe(clip(3.0))
    assert (plain.text, plain.time_stamps) == (result.text, None)
