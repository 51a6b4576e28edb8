"""The weights of hotwords that the frames of a CTC head may say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from auris.checkpoints.lm_weights import LmWeights
from auris.decoding.scoring import text_score
from auris.recognition.language_model import WeightedLanguageModel
from auris.recognition.requests import DecodeOptions
from auris.recognition.scorers import EXPECTED_RARITY, RARITY_SHARE, TextScorers
from auris.text.tokenizer import Tokenizer
from tests.decoding.texts import small_model
from tests.tiny_models import tiny_tokenizer

CERTAIN = 12.0
COMMON, RARE = "the cat", "Qvzkbqw"
"""As long as each other."""


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
    options = DecodeOptions(hotwords=(phrase,), beam_size=4)
    scorers = TextScorers(tokenizer, lm)
    hotwords = scorers.hotwords_of_units(options, frames_that_say(tokenizer, [phrase]))
    assert hotwords is not None
    return text_score(hotwords, tokenizer.encode(phrase))


def test_common_words_are_raised_less_than_rare_ones() -> None:
    lm = WeightedLanguageModel(small_model(), LmWeights(0.3, 0.5), Path("words.ngrams"))
    assert bonus_of(COMMON, None) == pytest.approx(bonus_of(RARE, None), rel=0.3)
    common, rare = (bonus_of(phrase, lm) for phrase in (COMMON, RARE))
    rarity = -sum(lm.model.sentence(COMMON.split())[:-1])
    assert common == pytest.approx(RARITY_SHARE * max(rarity - EXPECTED_RARITY, 0.0))
    assert common < bonus_of(COMMON, None) / 3
    assert bonus_of(RARE, None) >= rare > 3 * common
