"""The default search of a model, which the bundled ones have, and how it is turned off."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from auris import AsrPipeline
from auris.checkpoints.export import convert
from auris.checkpoints.hub import bundled_language_models, bundled_models
from auris.checkpoints.lm_weights import LM_WEIGHTS, LmWeights, load_lm_weights, save_lm_weights
from auris.decoding.language_model_file import packed_model
from auris.errors import CheckpointError, UnsupportedOption
from auris.recognition.ctc import CtcRecognizer
from auris.recognition.fingerprint import call_values
from auris.recognition.options import CallOptions
from tests.decoding.texts import small_model
from tests.tiny_models import ctc_config, write_tiny

CLIP = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"
NAMES = sorted(bundled_models())
MEGABYTE = 1_000_000


@cache
def pipeline(name: str, lm: str = "auto") -> AsrPipeline:
    return AsrPipeline.from_pretrained(name, device="cpu", lm=lm)


def segments(pipeline: AsrPipeline, **options: Any) -> Any:
    return pipeline.transcribe(CLIP, **options).segments


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_model_uses_the_bundled_language_model(name: str) -> None:
    lm = pipeline(name).recognizer.scorers.lm
    weights = load_lm_weights(bundled_models()[name])
    assert lm is not None
    assert (lm.weights, lm.by_default) == (weights, True)
    assert lm.path == bundled_language_models()["english"]
    named = pipeline(name, "english").recognizer.scorers.lm
    assert named is not None
    assert (named.values, named.by_default) == (lm.values, False)
    expected = segments(pipeline(name), beam_size=lm.weights.beam_size)
    assert segments(pipeline(name)) == segments(pipeline(name, "english")) == expected
    assert expected[0].text == "switch the kitchen fan off"


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_turned_off(name: str) -> None:
    plain = pipeline(name, "none")
    assert plain.recognizer.scorers.lm is None
    greedy = segments(plain)
    assert segments(pipeline(name), beam_size=1) == greedy
    assert segments(plain, beam_size=1) == greedy
    assert AsrPipeline.from_pretrained(name, device="cpu", lm=None).recognizer.scorers.lm is None
    assert greedy[0].tokens != segments(pipeline(name))[0].tokens or name == "tiny"


def test_sampling_turns_it_off() -> None:
    assert segments(pipeline("tiny"), temperature=0.5, seed=3) == segments(
        pipeline("tiny", "none"), temperature=0.5, seed=3
    )
    with pytest.raises(UnsupportedOption, match="temperature"):
        segments(pipeline("tiny", "english"), temperature=0.5)


def test_drafts_turn_it_off_and_exclude_other_searches() -> None:
    drafting = AsrPipeline.from_pretrained("tiny", device="cpu", speculate="ctc")
    assert segments(drafting)[0].tokens == segments(pipeline("tiny"), beam_size=1)[0].tokens
    searches: list[dict[str, Any]] = [{"beam_size": 3}, {"hotwords": ["fan"]}]
    for options in searches:
        with pytest.raises(UnsupportedOption, match="speculate ctc drafts"):
            segments(drafting, **options)
    with pytest.raises(UnsupportedOption, match="lm is 'english'"):
        AsrPipeline.from_pretrained("tiny", device="cpu", speculate="ctc", lm="english")


def test_the_search_belongs_to_the_fingerprint() -> None:
    lm = pipeline("tiny-ctc").recognizer.scorers.lm
    assert lm is not None
    given: list[CallOptions] = [{}, {"beam_size": 1}, {"beam_size": lm.weights.beam_size}]
    default, greedy, same = (
        call_values(pipeline("tiny-ctc"), None, "", options) for options in given
    )
    assert default == same
    assert default != greedy


def test_the_language_model_may_lie_next_to_the_weights(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", config=ctc_config())
    save_lm_weights(LmWeights(0.7, 1.0, 5, lm="own.ngrams"), directory)
    with pytest.raises(CheckpointError, match=r"own\.ngrams"):
        AsrPipeline.from_pretrained(directory, device="cpu")
    (directory / "own.ngrams").write_bytes(packed_model(small_model()))
    loaded = AsrPipeline.from_pretrained(directory, device="cpu")
    assert isinstance(loaded.recognizer, CtcRecognizer)
    lm = loaded.recognizer.scorers.lm
    assert lm is not None
    assert (lm.weights.beam_size, lm.path) == (5, directory / "own.ngrams")


def test_a_converted_model_keeps_it(tmp_path: Path) -> None:
    source = bundled_models()["tiny-ctc"]
    out = convert(source, tmp_path / "model", "native")
    assert (out / LM_WEIGHTS).read_bytes() == (source / LM_WEIGHTS).read_bytes()


def test_the_bundled_language_model_is_small_and_has_a_card() -> None:
    path = bundled_language_models()["english"]
    assert path.stat().st_size <= 15 * MEGABYTE
    card = (path.parent / "README.md").read_text(encoding="utf-8")
    sources = ("Gutenberg", "Schema-Guided Dialogue", "Taskmaster", "CLINC150", "Tatoeba")
    sources += ("Common Voice", "Snips", "LJ Speech", "LibriSpeech", "speechocean762", "fsdd")
    for source in (*sources, "Asterisk", "GCompris", "Revolution Software", "CC BY-SA 4.0"):
        assert source in card, source
