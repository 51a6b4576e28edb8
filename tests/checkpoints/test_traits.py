"""traits.json: written and read again, refused when it is damaged, and followed by calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.calls import reading_of
from auris.checkpoints.hub import bundled_models
from auris.checkpoints.traits import TRAITS, Traits, load_traits, save_traits
from auris.errors import CheckpointError, LanguageError
from auris.export import convert
from auris.pipeline import AsrPipeline
from auris.quantize import quantize

MADE = Traits(5.0, True, ("English", "German"))


@given(
    st.none() | st.floats(1, 1200),
    st.booleans(),
    st.none() | st.lists(st.text(), min_size=1).map(tuple),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    seconds: float | None,
    vad: bool,
    languages: tuple[str, ...] | None,
) -> None:
    made = Traits(seconds, vad, languages)
    directory = tmp_path_factory.mktemp("traits")
    assert save_traits(made, directory).name == TRAITS
    assert load_traits(directory) == made


def test_a_directory_without_them(tmp_path: Path) -> None:
    assert load_traits(tmp_path) == Traits()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"chunk_seconds": 0.5}, "chunk_seconds is 0.5, not 1 to 1200"),
        ({"chunk_seconds": "5"}, "chunk_seconds is '5'"),
        ({"chunk_seconds": True}, "chunk_seconds is True"),
        ({"chunk_seconds": 1e9}, "chunk_seconds is 1000000000.0"),
        ({"vad": 1}, "vad is 1, not true or false"),
        ({"languages": "English"}, "languages is 'English', no list of names"),
        ({"languages": []}, r"languages is \[\]"),
        ({"languages": [5]}, r"languages is \[5\]"),
        ({"chunk": 5}, "there is also chunk"),
    ],
)
def test_damaged_ones_are_refused(tmp_path: Path, content: dict[str, Any], found: str) -> None:
    (tmp_path / TRAITS).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"may hold .*, but in .* {found}"):
        load_traits(tmp_path)


def test_a_call_that_says_nothing_follows_them() -> None:
    reading = reading_of({}, MADE)
    assert (reading.chunk_seconds, reading.vad) == (5.0, True)
    reading = reading_of({"chunk_seconds": None, "vad": None}, Traits())
    assert (reading.chunk_seconds, reading.vad) == (30.0, False)
    reading = reading_of({"chunk_seconds": 20.0, "vad": False}, MADE)
    assert (reading.chunk_seconds, reading.vad) == (20.0, False)


def test_a_language_that_the_model_does_not_know_is_refused() -> None:
    pipeline = AsrPipeline.from_pretrained("tiny")
    silence = (np.zeros(16000, dtype=np.float32), 16000)
    for asked in ({"language": "de"}, {"languages": ["en", "de"]}):
        with pytest.raises(LanguageError, match="This model knows English"):
            pipeline.transcribe(silence, **asked)  # type: ignore[call-overload]
    with pytest.raises(LanguageError, match="German was asked"):
        pipeline.stream("German")
    assert pipeline.transcribe(silence, "en").text == ""


def test_traits_go_where_the_weights_go(tmp_path: Path) -> None:
    source = bundled_models()["tiny"]
    convert(source, tmp_path / "hf", "hf")
    quantize(source, tmp_path / "int8", "int8")
    assert load_traits(tmp_path / "hf") == load_traits(tmp_path / "int8") == load_traits(source)
    assert load_traits(source).languages == ("English",)
