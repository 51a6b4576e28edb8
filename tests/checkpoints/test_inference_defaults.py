"""traits.json: writing, reading, damaged files, and use by calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.audio.io import load
from auris.checkpoints.export import convert
from auris.checkpoints.hub import bundled_models
from auris.checkpoints.inference_defaults import (
    DEFAULTS_FILE,
    InferenceDefaults,
    load_inference_defaults,
    save_inference_defaults,
)
from auris.checkpoints.quantize import quantize
from auris.errors import CheckpointError, LanguageError, UnsupportedOption
from auris.pipeline import AsrPipeline
from auris.recognition.hotwords import (
    CONTEXT_AS_HOTWORDS,
    CONTEXT_IGNORED,
    HOTWORDS_NOT_WRITTEN,
    HOTWORDS_WITHOUT_LETTERS,
    log_once,
    supported_options,
)
from auris.recognition.options import chunker_for, decode_options
from tests.tiny_models import tone_speech, write_tiny

EXAMPLE = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"
SAUNA = EXAMPLE.parent / "voice" / "sauna_3.ogg"
HOUNDS = EXAMPLE.parent / "voice" / "hounds_1.ogg"
GATE = EXAMPLE.parent / "voice" / "gate_1.ogg"

MADE = InferenceDefaults(
    5.0, True, ("English", "German"), contexts=False, pause_seconds=0.5, lower_case=True
)


@given(
    st.none() | st.floats(1, 1200),
    st.booleans(),
    st.none() | st.lists(st.text(), min_size=1).map(tuple),
    st.none() | st.booleans(),
    st.none() | st.floats(0.2, 2),
    st.booleans(),
)
def test_they_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    seconds: float | None,
    vad: bool,
    languages: tuple[str, ...] | None,
    contexts: bool | None,
    pause: float | None,
    lower_case: bool,
) -> None:
    made = InferenceDefaults(seconds, vad, languages, contexts, pause, lower_case)
    directory = tmp_path_factory.mktemp("traits")
    assert save_inference_defaults(made, directory).name == DEFAULTS_FILE
    assert load_inference_defaults(directory) == made


def test_a_directory_without_them(tmp_path: Path) -> None:
    assert load_inference_defaults(tmp_path) == InferenceDefaults()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"chunk_seconds": 0.5}, "chunk_seconds is 0.5, not 1 to 1200"),
        ({"chunk_seconds": "5"}, "chunk_seconds is '5'"),
        ({"chunk_seconds": True}, "chunk_seconds is True"),
        ({"chunk_seconds": 1e9}, "chunk_seconds is 1000000000.0"),
        ({"pause_seconds": 0.1}, "pause_seconds is 0.1, not 0.2 to 2"),
        ({"pause_seconds": "1"}, "pause_seconds is '1'"),
        ({"vad": 1}, "vad is 1, not true or false"),
        ({"languages": "English"}, "languages is 'English', no list of names"),
        ({"languages": []}, r"languages is \[\]"),
        ({"languages": [5]}, r"languages is \[5\]"),
        ({"contexts": "no"}, "contexts is 'no', not true or false"),
        ({"contexts": None}, "contexts is None, not true or false"),
        ({"lower_case": 1}, "lower_case is 1, not true or false"),
        ({"chunk": 5}, "there is also chunk"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: dict[str, Any], found: str) -> None:
    (tmp_path / DEFAULTS_FILE).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"may hold .*, but in .* {found}"):
        load_inference_defaults(tmp_path)


def test_they_are_used_when_no_option_is_given() -> None:
    reading = chunker_for({}, MADE)
    assert (reading.chunk_seconds, reading.vad, reading.pause_seconds) == (5.0, True, 0.5)
    reading = chunker_for({"chunk_seconds": None, "vad": None}, InferenceDefaults())
    assert (reading.chunk_seconds, reading.vad, reading.pause_seconds) == (30.0, False, 0.8)
    reading = chunker_for({"chunk_seconds": 20.0, "vad": False}, MADE)
    assert (reading.chunk_seconds, reading.vad) == (20.0, False)


def test_an_unsupported_language_is_refused() -> None:
    pipeline = AsrPipeline.from_pretrained("tiny")
    silence = (np.zeros(16000, dtype=np.float32), 16000)
    for asked in ({"language": "de"}, {"languages": ["en", "de"]}):
        with pytest.raises(LanguageError, match="This model knows English"):
            pipeline.transcribe(silence, **asked)
    with pytest.raises(LanguageError, match="the language is German"):
        pipeline.stream("German")
    assert pipeline.transcribe(silence, "en").text == ""


@pytest.mark.parametrize(("model", "file"), [("tiny", HOUNDS), ("tiny-ctc", GATE)])
def test_words_of_a_context_are_hotwords_of_a_model_that_reads_none(
    model: str, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log_once.cache_clear()
    pipeline = AsrPipeline.from_pretrained(model)
    clip = load(file).samples, 16000
    context, hotwords = "garden, Hounds; a house", ["garden", "Hounds", "a house"]
    plain = pipeline.transcribe(clip, hotwords=hotwords)
    assert (plain.warnings, caplog.messages) == ((), [])
    assert plain.text != pipeline.transcribe(clip).text, "or the test proves nothing"
    warned = pipeline.transcribe(clip, context=context)
    assert warned.text == plain.text
    assert warned.segments[0].tokens == plain.segments[0].tokens
    assert warned.warnings == (CONTEXT_AS_HOTWORDS,)
    assert warned.to_dict()["warnings"] == [CONTEXT_AS_HOTWORDS]
    assert caplog.messages == [CONTEXT_AS_HOTWORDS]
    stream = pipeline.stream(context=context)
    updates = [*stream.feed(clip[0]), *stream.finish()]
    assert updates[-1].segment.text == plain.text
    assert pipeline.transcribe(clip, context="garden", hotwords=["hounds"]).text == plain.text


def test_a_context_of_sampled_text_is_ignored_by_a_model_that_reads_none() -> None:
    given = decode_options(None, "Ada, Grace", {"temperature": 0.5})
    for reads, warnings in ((False, (CONTEXT_IGNORED,)), (True, ())):
        options = supported_options(given, InferenceDefaults(), reads)
        assert options.hotwords == ()
        assert options.context == ("Ada, Grace" if reads else "")
        assert options.warnings == warnings


def test_words_of_a_context_that_are_too_long_are_no_hotwords() -> None:
    given = decode_options(None, "Ada, " + "x" * 201, {"hotwords": ["Zoë", "Ada"]})
    assert supported_options(given, InferenceDefaults(), False).hotwords == ("Zoë", "Ada")
    for context in ("x" * 201, " ,; -"):
        options = supported_options(decode_options(None, context, {}), InferenceDefaults(), False)
        assert (options.hotwords, options.warnings) == ((), (CONTEXT_IGNORED,))


def test_a_model_that_drafts_texts_has_no_context_in_its_place() -> None:
    pipeline = AsrPipeline.from_pretrained("tiny", speculate="ctc", lm=None)
    with pytest.raises(UnsupportedOption, match="the words of context are hotwords"):
        pipeline.transcribe(load(HOUNDS), context="hounds", beam_size=1)


@pytest.mark.parametrize("lower_case", [False, True])
def test_hotwords_of_a_model_that_writes_lower_case_are_in_lower_case(lower_case: bool) -> None:
    given = decode_options(None, "", {"hotwords": ["Ada", "NASA", "ada"]})
    options = supported_options(given, InferenceDefaults(lower_case=lower_case), True)
    assert options.hotwords == (("ada", "nasa") if lower_case else ("Ada", "NASA", "ada"))


ENGLISH_ONLY = InferenceDefaults(languages=("English",), lower_case=True)


@pytest.mark.parametrize(
    ("hotwords", "context", "expected", "warnings"),
    [
        (["Zoë", "ZOE!"], "", ("zoe",), ()),
        (["Qwen3", "Ada"], "", ("ada",), (HOTWORDS_NOT_WRITTEN,)),
        (["...", "Ada"], "", ("ada",), (HOTWORDS_WITHOUT_LETTERS,)),
        ([], "Zoë, Qwen3", ("zoe",), (CONTEXT_AS_HOTWORDS,)),
        ([], "北京, Москва", (), (CONTEXT_IGNORED,)),
        (["", " "], "", (), ()),
        (None, "", (), ()),
    ],
)
def test_hotwords_that_a_model_cannot_write_are_left_out_with_a_warning(
    hotwords: list[str] | None, context: str, expected: tuple[str, ...], warnings: tuple[str, ...]
) -> None:
    given = decode_options(None, context, {"hotwords": hotwords})
    options = supported_options(given, ENGLISH_ONLY, False)
    assert (options.hotwords, options.warnings) == (expected, warnings)


def test_a_model_of_another_alphabet_has_its_hotwords() -> None:
    given = decode_options(None, "", {"hotwords": ["Zoë", "Qwen3"]})
    for languages in (None, ("German",), ("English", "German")):
        defaults = InferenceDefaults(languages=languages, lower_case=True)
        options = supported_options(given, defaults, True)
        assert (options.hotwords, options.warnings) == (("zoë", "qwen3"), ())


@pytest.mark.parametrize("phrase", ["sáuna", '"Sauna"', "- Sauna!", "The-Sauna", "SAU\u00adNA"])
def test_hotwords_of_the_bundled_model_may_have_marks(phrase: str) -> None:
    pipeline = AsrPipeline.from_pretrained("tiny", lm="none")
    with_marks = pipeline.transcribe(SAUNA, hotwords=[phrase])
    assert "sauna" not in pipeline.transcribe(SAUNA).text, "or the test proves nothing"
    assert with_marks.text.endswith("sauna")


def test_the_letter_case_of_hotwords_does_not_matter_to_the_bundled_model() -> None:
    pipeline = AsrPipeline.from_pretrained("tiny", lm="none")
    plain, lower, capital = (
        pipeline.transcribe(SAUNA, hotwords=words) for words in ((), ("sauna",), ("Sauna",))
    )
    assert "sauna" in lower.text
    assert "sauna" not in plain.text
    assert capital.segments == lower.segments


@pytest.mark.parametrize("contexts", [None, True])
def test_a_context_is_used_by_every_other_model(tmp_path: Path, contexts: bool | None) -> None:
    directory = write_tiny(tmp_path / "m", seed=1)
    save_inference_defaults(InferenceDefaults(contexts=contexts), directory)
    pipeline = AsrPipeline.from_pretrained(directory, device="cpu")
    audio = (tone_speech(1.0), 16000)
    plain, given = (
        pipeline.transcribe(audio, context=text, max_new_tokens=4) for text in ("", "fox")
    )
    assert plain.segments[0].logprobs != given.segments[0].logprobs
    assert given.warnings == ()


def test_they_are_copied_with_the_weights(tmp_path: Path) -> None:
    source = bundled_models()["tiny"]
    convert(source, tmp_path / "hf", "hf")
    quantize(source, tmp_path / "int8", "int8")
    assert (
        load_inference_defaults(tmp_path / "hf")
        == load_inference_defaults(tmp_path / "int8")
        == load_inference_defaults(source)
    )
    assert load_inference_defaults(source).languages == ("English",)
