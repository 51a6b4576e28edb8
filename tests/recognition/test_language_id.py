"""Languages: their probabilities, and restriction to some."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from auris import AsrPipeline
from auris.errors import EmptyAudio, LanguageError, UnsupportedOption, UsageError
from auris.text.languages import LANGUAGES
from tests.recordings import BUDGET, RATE, clip, tokens


@pytest.fixture(scope="module")
def tiny() -> AsrPipeline:
    return AsrPipeline.from_pretrained("tiny", device="cpu", dtype="float32")


def test_language_probabilities_add_up_to_one(qwen: AsrPipeline) -> None:
    chances = qwen.detect_language(clip(3.0))
    assert {name for name, _ in chances} == {*LANGUAGES.values(), None}
    assert math.fsum(chance for _, chance in chances) == pytest.approx(1.0)
    assert [c for _, c in chances] == sorted((c for _, c in chances), reverse=True)


def test_only_the_span_is_used(qwen: AsrPipeline) -> None:
    sound = np.concatenate([clip(30.0)[0], clip(5.0)[0]])
    whole, first = qwen.detect_language((sound, RATE)), qwen.detect_language(clip(30.0))
    assert whole == first
    later = qwen.detect_language((sound, RATE), start=30.0, duration=5.0)
    assert dict(later) == pytest.approx(dict(qwen.detect_language(clip(5.0))))


def test_a_model_without_a_decoder(ctc_directory: Path) -> None:
    ctc = AsrPipeline.from_pretrained(ctc_directory, device="cpu")
    with pytest.raises(UnsupportedOption, match="decoder"):
        ctc.detect_language(clip(1.0))
    assert ctc.transcribe(clip(1.0), languages=["de", "en"]) is not None
    with pytest.raises(UnsupportedOption, match="the language is German"):
        ctc.transcribe(clip(1.0), languages=["de"])


def test_language_of_an_empty_recording(qwen: AsrPipeline) -> None:
    with pytest.raises(EmptyAudio):
        qwen.detect_language((np.zeros(0, np.float32), RATE))


def test_a_single_candidate_language_is_forced(tiny: AsrPipeline) -> None:
    """The bundled model supports English only."""
    sound = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"
    free, kept = tiny.transcribe(sound), tiny.transcribe(sound, languages=["en", "English"])
    assert tokens(free) == tokens(kept)
    assert (free.language, kept.language) == ("English", "English")
    kept, forced = tiny.transcribe(sound, languages=["en"]), tiny.transcribe(sound, "en")
    assert (kept.language, kept.text) == (forced.language, forced.text)


def test_silence_is_not_speech(tiny: AsrPipeline) -> None:
    quiet = (np.zeros(5 * RATE, np.float32), RATE)
    assert tiny.transcribe(quiet).language is None
    assert tiny.transcribe(quiet, languages=["en"]).language is None


def test_chunks_can_have_different_languages(qwen: AsrPipeline) -> None:
    sound = clip(6.0)
    for names in (["fr"], ["German", "fr"]):
        done = qwen.transcribe(
            sound, languages=names, chunk_seconds=1.5, max_new_tokens=BUDGET, batch_size=2
        )
        known = {"French", "German"} if len(names) == 2 else {"French"}
        assert {s.language for s in done.segments} <= {*known, None}


@pytest.mark.parametrize("languages", [[], ["auto"], ["en", ""]])
def test_invalid_language_lists_are_refused(qwen: AsrPipeline, languages: list[str]) -> None:
    with pytest.raises(UsageError, match="languages has to be a list"):
        qwen.transcribe(clip(1.0), languages=languages)


def test_unknown_languages_are_refused(qwen: AsrPipeline) -> None:
    with pytest.raises(LanguageError, match="klingon"):
        qwen.transcribe(clip(1.0), languages=["en", "klingon"])
    with pytest.raises(UsageError, match="both were given"):
        qwen.transcribe(clip(1.0), "en", languages=["en"])


@pytest.mark.parametrize("seconds", [0, -1.0, math.inf, math.nan, "many"])
def test_invalid_batch_seconds_are_refused(qwen: AsrPipeline, seconds: object) -> None:
    with pytest.raises(UsageError, match="batch_seconds"):
        qwen.transcribe(clip(1.0), batch_seconds=seconds)


def test_results_do_not_depend_on_batch_seconds(qwen: AsrPipeline) -> None:
    options = {"chunk_seconds": 1.0, "max_new_tokens": BUDGET}
    one = qwen.transcribe(clip(6.0), **options)
    for seconds in (0.5, 2.5, 100.0):
        assert tokens(
            qwen.transcribe(clip(6.0), batch_size=4, batch_seconds=seconds, **options)
        ) == (tokens(one))
