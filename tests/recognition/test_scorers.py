"""The weights of hotwords that the frames of a CTC head may say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

from auris.checkpoints.lm_weights import LmWeights
from auris.decoding.scoring import text_score
from auris.recognition.language_model import WeightedLanguageModel
from auris.recognition.requests import DecodeOptions
from auris.recognition.scorers import (
    EXPECTED_RARITY,
    RARITY_SHARE,
    TextScorers,
    written,
    written_inside,
)
from auris.text.tokenizer import Tokenizer
from tests.decoding.texts import small_model
from tests.tiny_models import tiny_tokenizer

CERTAIN = 12.0
COMMON, RARE = "the cat", "Qvzkbqw"
"""As long as each other."""

LONGER = "the cat sat on the cat"


def frames_that_say(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """Frames in which a CTC head is almost sure of the tokens of texts, blank last."""
    tokens = [token for text in texts for token in tokenizer.encode(text)]
    units = max(tokens) + 1
    frames = torch.zeros(2 * len(tokens), units + 1)
    frames[1::2, units] = CERTAIN
    frames[torch.arange(0, 2 * len(tokens), 2), torch.tensor(tokens)] = CERTAIN
    return frames


def bonus_of(phrase: str, lm: WeightedLanguageModel | None) -> float:
    """What a text has more with a hotword that is said."""
    tokenizer = tiny_tokenizer()
    options = DecodeOptions("English", hotwords=(phrase,), beam_size=4)
    scorers = TextScorers(tokenizer, lm)
    hotwords = scorers.hotwords_of_reply(options, frames_that_say(tokenizer, [phrase]))
    return 0.0 if hotwords is None else text_score(hotwords, tokenizer.encode(phrase))


def test_common_words_are_raised_less_than_rare_ones() -> None:
    lm = WeightedLanguageModel(small_model(), LmWeights(0.3, 0.5), Path("words.ngrams"))
    assert bonus_of(COMMON, None) == pytest.approx(bonus_of(RARE, None), rel=0.3)
    common, longer, rare = (bonus_of(phrase, lm) for phrase in (COMMON, LONGER, RARE))
    for phrase, bonus in ((COMMON, common), (LONGER, longer)):
        rarity = -sum(lm.model.sentence(phrase.split())[:-1])
        assert bonus == pytest.approx(RARITY_SHARE * max(rarity - EXPECTED_RARITY, 0.0))
    assert common < bonus_of(COMMON, None) / 3
    assert longer > common
    assert bonus_of(RARE, None) >= rare > 3 * common


def lower_case_tokenizer() -> Tokenizer:
    """Lower-case letters and the mark of a word's beginning, no capitals."""
    letters = {letter: number for number, letter in enumerate("\u2581abcdefghijklmnopqrstuvwxyz")}
    core = Core(models.BPE(letters, []))
    core.pre_tokenizer = pre_tokenizers.Metaspace("\u2581")
    core.decoder = decoders.Metaspace("\u2581")
    return Tokenizer(core, {})


def test_a_vocabulary_without_capitals_writes_a_name_in_lower_case() -> None:
    tokenizer = lower_case_tokenizer()
    assert tokenizer.decode(written(tokenizer, "Qvzk")).strip() == "qvzk"
    assert written(tokenizer, "Qvzk") == tokenizer.encode("qvzk")
    capitals = tiny_tokenizer()
    assert written(capitals, "Qvzk") == capitals.encode("Qvzk")


def test_behind_other_words_a_phrase_begins_with_a_space() -> None:
    marked, plain = lower_case_tokenizer(), tiny_tokenizer()
    assert written_inside(marked, written(marked, "qvzk")) == marked.encode("qvzk")
    assert written_inside(plain, written(plain, "Qvzk")) == plain.encode(" Qvzk")


def placed_bonus(phrases: list[str], lm: WeightedLanguageModel | None = None) -> float:
    """The bonus of the first of some phrases, which the frames say, in the text of a CTC head."""
    tokenizer = tiny_tokenizer()
    frames = frames_that_say(tokenizer, phrases[:1])
    options = DecodeOptions(hotwords=tuple(phrases))
    (placed,) = TextScorers(tokenizer, lm).placed_phrases(options, frames)
    assert placed.units == tuple(tokenizer.encode(phrases[0]))
    return placed.bonus


def test_common_words_and_those_of_long_lists_are_placed_less_readily() -> None:
    lm = WeightedLanguageModel(small_model(), LmWeights(0.3, 0.5), Path("words.ngrams"))
    assert placed_bonus([COMMON]) == placed_bonus([RARE]) > 0
    assert placed_bonus([COMMON], lm) < 1 < placed_bonus([RARE], lm) == placed_bonus([RARE])
    others = [f"{RARE}x{number}" for number in range(999)]
    assert placed_bonus([RARE, *others[:99]]) == placed_bonus([RARE])
    assert placed_bonus([RARE, *others]) < placed_bonus([RARE]) - 5


def test_without_hotwords_nothing_is_placed() -> None:
    tokenizer = tiny_tokenizer()
    scorers = TextScorers(tokenizer, None)
    assert scorers.placed_phrases(DecodeOptions(), frames_that_say(tokenizer, [RARE])) == []
