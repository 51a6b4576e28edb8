"""Scores from outside the model for the texts of one vocabulary, as the options of a chunk want
them."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from auris.decoding.ctc_prefix import CtcPrefixScorer
from auris.decoding.hotwords import Hotwords
from auris.decoding.scoring import ScorerAfter, TokenScorer, WeightedScorer
from auris.recognition.requests import DecodeOptions
from auris.text.prompt import TEXT_TAG
from auris.text.tokenizer import Tokenizer

CTC_WEIGHT = 0.3
"""Weight of the scores of a CTC head in a beam search with a decoder."""

MOST_LISTS = 8
"""Lists of hotwords that stay in memory, those that were used last."""


class TextScorers:
    """Makes the scorers of chunks; lists of hotwords are read once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._hotwords: OrderedDict[tuple[str, ...], Hotwords] = OrderedDict()

    def of_units(self, options: DecodeOptions) -> TokenScorer | None:
        """The scorer of a text that is nothing but text; None where nothing is scored."""
        return self._hotwords_of(options.hotwords) if options.hotwords else None

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
            scorer = WeightedScorer([(ctc, CTC_WEIGHT), *others])
        if scorer is None or options.language is not None:
            return scorer
        return ScorerAfter(scorer, self._tokenizer.id(TEXT_TAG))

    def _hotwords_of(self, phrases: tuple[str, ...]) -> Hotwords:
        known = self._hotwords.pop(phrases, None)
        if known is None:
            known = Hotwords(map(self._tokenizer.normalized, phrases), self._tokenizer.bytes)
        self._hotwords[phrases] = known
        if len(self._hotwords) > MOST_LISTS:
            self._hotwords.popitem(last=False)
        return known
