"""Word times from a CTC head: positions from scripted scores, everything else with tiny models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from auris.alignment.ctc import UNIT_TAIL_SECONDS, CtcAlignment, spell, spell_ids
from auris.backends.torch import TorchBackend
from auris.config import audio_tokens
from auris.errors import AlignmentError, CheckpointError, UnsupportedOption, UsageError
from auris.models.aut_ctc import AutCtc
from auris.text.tokenizer import Tokenizer
from auris.training.units import train_units, train_vocabulary
from auris.types import Samples, Segment, Word
from tests.backends.fake import FakeBackend
from tests.tiny_models import ctc_config, tiny_model, tiny_tokenizer, tone_speech

CONFIG = ctc_config()
BYTES = tiny_tokenizer()
UNITS = train_units(["the quick brown fox jumps over the lazy dog"] * 9, 40)
WEATHER = train_vocabulary(["天气"] * 99, 275)
TINY = CtcAlignment(TorchBackend(tiny_model(CONFIG)), CONFIG, BYTES, transcribes=True)


class Scripted(FakeBackend):
    """Recognizes unit `script[k]` in frame k of its one clip, and the blank where that is None."""

    def __init__(self, script: Sequence[int | None]) -> None:
        super().__init__({}, 1, 0)
        self.script = script

    def encode(self, mels: Sequence[Tensor]) -> list[Tensor]:
        """The scores."""
        (mel,) = mels
        units = [CONFIG.units if unit is None else unit for unit in self.script]
        rest = audio_tokens(mel.shape[1]) - len(units)
        classes = torch.tensor(units + [CONFIG.units] * rest)
        return [9.0 * torch.nn.functional.one_hot(classes, CONFIG.units + 1).float()]


def scripted(script: Sequence[int | None], tokenizer: Tokenizer = BYTES) -> CtcAlignment:
    return CtcAlignment(Scripted(script), CONFIG, tokenizer, transcribes=True)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * 16000), np.float32)


def is_sound(words: Sequence[Word], seconds: float) -> None:
    """Times increase and are inside the clip; a word has both times or none."""
    before = 0.0
    for word in words:
        assert (word.start is None) == (word.end is None)
        if word.start is not None and word.end is not None:
            assert before <= word.start <= word.end <= seconds
            before = word.end
        assert word.confidence is None or 0.0 <= word.confidence <= 1.0


def test_words_have_the_times_of_their_units() -> None:
    language, mark, the = BYTES.encode("language; the")
    script = [None, language, language, *[None] * 4, mark, *[None] * 5, the]
    first, second = scripted(script).words(silence(2.0), "language; the", "English")
    assert (first.text, second.text) == ("language", "the")
    assert (first.start, first.end) == pytest.approx((0.04, 0.20 + UNIT_TAIL_SECONDS))
    assert (second.start, second.end) == pytest.approx((0.98, 1.04 + UNIT_TAIL_SECONDS))
    assert (first.repaired, second.repaired) == (False, False)
    assert first.confidence is not None
    assert first.confidence > 0.9


def test_the_last_frame_ends_with_the_recording() -> None:
    (the,) = BYTES.encode(" the")
    (word,) = scripted([None] * 12 + [the]).words(silence(0.97), " the", None)
    assert (word.start, word.end) == pytest.approx((0.92, 0.97))


def test_a_word_does_not_overlap_the_next() -> None:
    language, _mark, the = BYTES.encode("language; the")
    first, second = scripted([None, language, the]).words(silence(2.0), "language the", "English")
    assert first.end == second.start == pytest.approx(0.12)


def test_the_time_of_a_unit_is_divided_among_its_characters() -> None:
    (unit,) = WEATHER.encode("天气")
    words = scripted([None, unit, unit], WEATHER).words(silence(1.0), "天气", "Chinese")
    assert [(word.text, word.repaired) for word in words] == [("天", True), ("气", True)]
    assert [word.start for word in words] == pytest.approx([0.04, 0.12])
    assert [word.end for word in words] == pytest.approx([0.12, 0.20 + UNIT_TAIL_SECONDS])


def test_words_of_a_unit_of_more_than_three_have_no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    (unit,) = WEATHER.encode("天气")
    monkeypatch.setattr("auris.alignment.ctc.MAX_WORDS_PER_UNIT", 1)
    words = scripted([unit], WEATHER).words(silence(1.0), "天气", "Chinese")
    assert [(word.text, word.start, word.end) for word in words] == [
        ("天", None, None),
        ("气", None, None),
    ]
    assert words[0].confidence == pytest.approx(1.0, abs=0.1)


def test_text_without_words() -> None:
    for text in ("", "  ", "?! 😀"):
        assert TINY.words(tone_speech(1.0), text, None) == []


def test_text_longer_than_its_recording() -> None:
    with pytest.raises(AlignmentError, match=r"needs \d+ frames of 80 ms, but the recording has 7"):
        TINY.words(silence(0.1), "the quick brown fox " * 4, None)


def test_nan_scores() -> None:
    model = tiny_model(CONFIG)
    assert isinstance(model, AutCtc)
    model.head.weight.data.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="NaN"):
        CtcAlignment(TorchBackend(model), CONFIG, BYTES).words(tone_speech(1.0), "fox", None)


def test_lone_surrogates() -> None:
    with pytest.raises(UsageError, match="surrogate"):
        TINY.words(tone_speech(1.0), "a\ud800", None)


def test_another_language() -> None:
    TINY.check(None)
    TINY.check("English")
    with pytest.raises(UnsupportedOption, match="writes English only"):
        TINY.check("German")


@given(st.text("the quick brownfx你好天气é1!'\n", max_size=40), st.floats(0.05, 3.0))
def test_words_of_any_text_are_valid(text: str, seconds: float) -> None:
    samples = tone_speech(seconds)
    try:
        words = TINY.words(samples, text, None)
    except AlignmentError:
        return
    assert len(words) == len(spell(BYTES, text, None).words)
    is_sound(words, len(samples) / 16000)


def test_a_long_recording_is_scored_in_chunks() -> None:
    words = TINY.words(tone_speech(41.0), "the quick brown fox jumps over the lazy dog", None)
    is_sound(words, 41.0)


def segment(tokens: Sequence[int], text: str) -> Segment:
    logprobs = (0.0,) * len(tokens)
    return Segment(0.0, 1.0, text, "English", tuple(tokens), logprobs, "stop")


def test_text_of_the_head_is_aligned_in_the_units_of_the_head() -> None:
    """Letter by letter, where the tokenizer would use fewer units."""
    letters = [unit for letter in "fox" for unit in BYTES.encode(letter)]
    assert len(BYTES.encode("fox")) < 3
    (word,) = scripted(letters).segment_words(silence(1.0), segment(letters, "fox"))
    assert (word.text, word.start, word.end) == (
        "fox",
        0.0,
        pytest.approx(0.20 + UNIT_TAIL_SECONDS),
    )


def test_tokens_that_end_inside_a_character_are_aligned_by_text() -> None:
    half = BYTES.encode("é")[:1]
    assert spell_ids(BYTES, half, None) is None
    tokens = [*BYTES.encode("fox"), *half]
    words = TINY.segment_words(tone_speech(1.0), segment(tokens, "fox\ufffd"))
    assert [word.text for word in words] == ["fox"]


class TestUnitsOfSpokenText:
    """A vocabulary that can write only lower-case letters."""

    @pytest.mark.parametrize("text", ["The quick, brown FOX!", "the quick brown fox"])
    def test_words_are_spelled_as_they_are_spoken(self, text: str) -> None:
        spelling = spell(UNITS, text, "English")
        assert [word.lower() for word in spelling.words] == ["the", "quick", "brown", "fox"]
        assert list(spelling.ids) == UNITS.encode("the quick brown fox")
        assert sorted({owner for owners in spelling.unit_words for owner in owners}) == [0, 1, 2, 3]
        assert all(len(owners) == 1 for owners in spelling.unit_words)

    def test_words_that_cannot_be_spelled_have_no_units(self) -> None:
        spelling = spell(UNITS, "the 42 你 fox", "English")
        assert spelling.words == ("the", "42", "你", "fox")
        assert {owner for owners in spelling.unit_words for owner in owners} == {0, 3}

    def test_words_that_cannot_be_spelled_have_no_times(self) -> None:
        alignment = CtcAlignment(TorchBackend(tiny_model(CONFIG)), CONFIG, UNITS)
        first, second, third = alignment.words(tone_speech(1.0), "the 42 fox", None)
        assert second == Word("42", None, None)
        assert first.end is not None
        assert third.start is not None
        assert alignment.words(tone_speech(1.0), "42", None) == [second]

    def test_units_of_a_text(self) -> None:
        ids = UNITS.encode("the quick fox")
        spelling = spell_ids(UNITS, ids, "English")
        assert spelling is not None
        assert spelling.words == ("the", "quick", "fox")
        assert all(len(owners) <= 1 for owners in spelling.unit_words)
        assert [owners[0] for owners in spelling.unit_words if owners] == sorted(
            owners[0] for owners in spelling.unit_words if owners
        )


@pytest.mark.parametrize("tokenizer", [BYTES, UNITS])
def test_no_units_give_an_empty_text(tokenizer: Tokenizer) -> None:
    spelling = spell(tokenizer, "", None)
    assert (spelling.ids, spelling.words, spelling.unit_words) == ((), (), ())
