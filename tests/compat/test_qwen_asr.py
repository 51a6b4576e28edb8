"""`Qwen3ASRModel`: results equal those of the pipeline, and no option is ignored silently."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import torch

from auris import AsrPipeline
from auris.compat.qwen_asr import Qwen3ASRModel, Qwen3ForcedAligner, parse_asr_output
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
        {"revision": "main"},
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
    with pytest.raises(UsageError, match="'gpu_memory'"):
        Qwen3ASRModel.from_pretrained(qwen_directory, gpu_memory=0.7)


def test_options_that_only_tune_speed(qwen_directory: Path, model: Qwen3ASRModel) -> None:
    with pytest.warns(UserWarning, match="flash_attention_2"):
        Qwen3ASRModel.from_pretrained(qwen_directory, attn_implementation="flash_attention_2")
    with pytest.warns(UserWarning, match="options of vLLM have no effect"):
        loaded = Qwen3ASRModel.LLM(
            model=str(qwen_directory),
            gpu_memory_utilization=0.7,
            max_inference_batch_size=128,
            max_new_tokens=BUDGET,
            device_map="cpu",
        )
    assert loaded.transcribe(clip(1.0)) == model.transcribe(clip(1.0))


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
    with pytest.raises(UnreadableAudio, match="does not exist"):
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
    items = result.time_stamps.items
    assert [(i.text, i.start_time, i.end_time) for i in items] == [
        (word.text, word.start, word.end) for word in transcript.words
    ]
    assert (list(result.time_stamps), len(result.time_stamps)) == (items, len(items))
    assert not items or result.time_stamps[0] == items[0]
    (plain,) = model.transcribe(clip(3.0))
    assert (plain.text, plain.time_stamps) == (result.text, None)


def test_known_texts(ctc_directory: Path) -> None:
    loaded = Qwen3ForcedAligner.from_pretrained(
        str(ctc_directory), dtype=torch.float32, device_map="cpu"
    )
    results = loaded.align(audio=clip(3.0), text="ab ba", language="English")
    words = loaded.aligner.align(clip(3.0), "ab ba", "English")
    assert [item.text for item in results[0]] == ["ab", "ba"]
    assert (results[0][0].start_time, results[0][1].end_time) == (words[0].start, words[1].end)
    two = loaded.align([clip(3.0), clip(2.0)], ["ab ba", "b"], ["English"])
    assert [two[0], len(two[1])] == [results[0], 1]
    with pytest.raises(UsageError, match="text has to be"):
        loaded.align([clip(1.0)] * 3, ["a", "b"])


def test_streams(model: Qwen3ASRModel, qwen: AsrPipeline) -> None:
    samples, rate = clip(5.0)
    state = model.init_streaming_state(unfixed_chunk_num=2, unfixed_token_num=5, chunk_size_sec=1.0)
    for start in range(0, len(samples), 4000):
        before = state.text
        assert model.streaming_transcribe(samples[start : start + 4000], state) is state
        assert start + 4000 >= rate or not state.text
    assert before or state.chunk_id
    model.finish_streaming_transcribe(state)
    whole = qwen.transcribe((samples, rate), chunk_seconds=8.0, end_at_pauses=True)
    assert state.text == whole.text
    assert state.language == (whole.segments[-1].language or state.language)
    with pytest.warns(UserWarning, match="unfixed_token_num"):
        model.init_streaming_state(unfixed_token_num=3, language="")
    with pytest.raises(LanguageError):
        model.init_streaming_state(language="Klingon")


def test_replies() -> None:
    assert parse_asr_output("language English<asr_text>Hello.") == ("English", "Hello.")
    assert parse_asr_output("language None<asr_text>") == ("", "")
    assert parse_asr_output("Hello.", "German") == ("German", "Hello.")
    assert parse_asr_output(None) == ("", "")
