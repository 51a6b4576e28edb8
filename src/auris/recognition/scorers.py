"""Scores from outside the model for the texts of one vocabulary, as the options of a chunk want
them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from auris.checkpoints.lm_weights import CTC_WEIGHT, LmWeights
from auris.decoding.ctc_prefix import CtcPrefixScorer
from auris.decoding.hotwords import Hotwords
from auris.decoding.scoring import ScorerAfter, TokenScorer, WeightedScorer
from auris.decoding.word_scorer import WordScorer
from auris.recognition.language_model import WeightedLanguageModel
from auris.recognition.requests import DecodeOptions
from auris.text.languages import LANGUAGES
from auris.text.prompt import TEXT_TAG, reply_prefix
from auris.text.tokenizer import Tokenizer

MOST_LISTS = 8
"""Lists of hotwords that stay in memory, those that were used last."""


class TextScorers:
    """Makes the scorers of chunks; lists of hotwords are read once.

    Args:
        tokenizer: the vocabulary.
        lm: a language model that scores the texts of all searches; None for none.
    """

    def __init__(self, tokenizer: Tokenizer, lm: WeightedLanguageModel | None = None) -> None:
        self._tokenizer = tokenizer
        self.lm = lm
        self._words: WordScorer | None = None
        if lm is not None:
            self.reweight(lm.weights)
        self._hotwords: OrderedDict[tuple[str, ...], Hotwords] = OrderedDict()

    def reweight(self, weights: LmWeights) -> None:
        """Use other weights of the language model."""
        assert self.lm is not None
        self.lm = replace(self.lm, weights=weights)
        self._words = WordScorer(
            self.lm.model, self._tokenizer.bytes, weights.weight, weights.word_bonus
        )

    def of_units(self, options: DecodeOptions) -> TokenScorer | None:
        """The scorer of a text that is nothing but text; None where nothing is scored, and for a
        beam of 1, which is no search."""
        return self._words if options.beam_size > 1 else None

    def hotwords_of_units(self, options: DecodeOptions) -> TokenScorer | None:
        """The hotwords of a text that is nothing but text; None without any."""
        return self._hotwords_of(options.hotwords) if options.hotwords else None

    def hotwords_of_reply(self, options: DecodeOptions) -> TokenScorer | None:
        """The hotwords of a reply, whose text follows its language; None without any."""
        hotwords = self.hotwords_of_units(options)
        if hotwords is None or options.language is not None:
            return hotwords
        return ScorerAfter(hotwords, self._tokenizer.id(TEXT_TAG))

    def of_reply(
        self, options: DecodeOptions, ctc_logits: Tensor | None = None
    ) -> TokenScorer | None:
        """The scorer of a reply, whose text follows its language; None where nothing is scored.

        Args:
            ctc_logits: scores [N, vocab + 1] of a CTC head, blank last.
        """
        scorer = self.of_units(options)
        if ctc_logits is not None:
            ctc = CtcPrefixScorer(ctc_logits, ctc_logits.shape[-1] - 1)
            others = [] if scorer is None else [(scorer, 1.0)]
            weight = CTC_WEIGHT if self.lm is None else self.lm.weights.ctc_weight
            scorer = WeightedScorer([(ctc, weight), *others])
        if scorer is None or options.language is not None:
            return scorer
        return ScorerAfter(scorer, self._tokenizer.id(TEXT_TAG), self._headers)

    @cached_property
    def _headers(self) -> list[tuple[int, ...]] | None:
        """What a reply may have before its text; None without a language model."""
        if self.lm is None:
            return None
        return [reply_prefix(self._tokenizer, name)[:-1] for name in (None, *LANGUAGES.values())]

    def _hotwords_of(self, phrases: tuple[str, ...]) -> Hotwords:
        known = self._hotwords.pop(phrases, None)
        if known is None:
            known = Hotwords(map(self._tokenizer.normalized, phrases), self._tokenizer.bytes)
        self._hotwords[phrases] = known
        if len(self._hotwords) > MOST_LISTS:
            self._hotwords.popitem(last=False)
        return known
