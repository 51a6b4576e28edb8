"""Scores from outside the model for the texts of one vocabulary, as the options of a chunk want
them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, cached_property

from torch import Tensor

from auris.checkpoints.lm_weights import CTC_WEIGHT, LmWeights
from auris.decoding.ctc_prefix import CtcPrefixScorer
from auris.decoding.hotwords import (
    BYTE_BONUS,
    Hotwords,
    LocatedHotwords,
    TokenBeginnings,
    spellings,
)
from auris.decoding.phrase_placing import PlacedPhrase
from auris.decoding.phrase_spotting import SHORT_LIST, PhraseSpotter, Spot, UnitTable
from auris.decoding.scoring import (
    HotwordsAfter,
    HotwordScorer,
    ScorerAfter,
    TokenScorer,
    WeightedScorer,
    text_score,
)
from auris.decoding.word_scorer import WordScorer
from auris.recognition.hotword_lists import MOST_LISTS
from auris.recognition.language_model import WeightedLanguageModel
from auris.recognition.requests import DecodeOptions
from auris.text.languages import LANGUAGES
from auris.text.prompt import TEXT_TAG, reply_prefix
from auris.text.tokenizer import Tokenizer

SPOTTED_WEIGHT, SPOTTED_SHARE = 3.3, 0.8
"""Weight of hotwords that fit the frames of a CTC head, and how much of their score there counts
for each byte: a phrase that fits well is written more readily."""

RARITY_SHARE, EXPECTED_RARITY = 1.5, 8.0
"""A phrase is raised by at most so many times what its negative log-probability in the language
model has above the latter: rare names need a large raise, and common words hardly any."""

SPOTTED_MARGIN = -14.0
"""Their least margin, see `Hotwords`."""

PLACED_BONUS, LEAST_PLACED_BONUS, PLACED_PRIOR = 1.4, -7.0, 2.5
"""What a phrase adds to the log-probability of a text of a CTC head for each of its bytes and as a
whole, and how much the logarithm of the length of a longer list counts against it."""


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
        self._unit_tables: dict[int, UnitTable] = {}
        self._beginnings = TokenBeginnings(tokenizer.bytes)
        self._hotwords: OrderedDict[tuple[str, ...], _HotwordList] = OrderedDict()

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

    def placed_phrases(self, options: DecodeOptions, ctc_logits: Tensor) -> list[PlacedPhrase]:
        """The hotwords that may be said, for the text of a CTC head; the best ones first.

        Args:
            ctc_logits: scores [N, units + 1] of the head, blank last.
        """
        return self._list_of(options.hotwords).placed(ctc_logits) if options.hotwords else []

    def hotwords_of_reply(
        self, options: DecodeOptions, ctc_logits: Tensor | None
    ) -> HotwordScorer | None:
        """The hotwords of a reply, whose text follows its language; None without any.

        Args:
            ctc_logits: scores [N, units + 1] of a CTC head, blank last, which decide what hotwords
                may be said; None where there is no head.
        """
        if not options.hotwords:
            return None
        listed = self._list_of(options.hotwords)
        hotwords = listed.all if ctc_logits is None else listed.spotted(ctc_logits)
        if hotwords is None or options.language is not None:
            return hotwords
        return HotwordsAfter(hotwords, self._tokenizer.id(TEXT_TAG))

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

    def _rarity(self, phrase: str) -> float:
        """How improbable a phrase is, as a negative log-probability of the language model; infinite
        without one."""
        if self.lm is None:
            return math.inf
        scorer = WordScorer(self.lm.model, self._tokenizer.bytes)
        return -text_score(scorer, written(self._tokenizer, phrase))

    def _list_of(self, phrases: tuple[str, ...]) -> _HotwordList:
        known = self._hotwords.pop(phrases, None)
        if known is None:
            known = _HotwordList(
                phrases, self._tokenizer, self._unit_tables, self._beginnings, self._rarity
            )
        self._hotwords[phrases] = known
        if len(self._hotwords) > MOST_LISTS:
            self._hotwords.popitem(last=False)
        return known


def written(tokenizer: Tokenizer, phrase: str) -> list[int]:
    """The ids of a phrase in the first of its spellings that the vocabulary can write; one of lower
    case only has no capital letters."""
    given = tokenizer.encode(phrase)
    for ids in (given, *map(tokenizer.encode, spellings(phrase))):
        if tokenizer.decode(ids).strip().lower() == phrase.lower():
            return ids
    return given


def written_inside(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """The ids of the same text behind other words, which begins with a space."""
    text = b"".join(map(tokenizer.bytes, ids)).decode(errors="replace")
    return ids if text.startswith(" ") else tokenizer.encode(f" {text}")


class _HotwordList:
    """A list of hotwords.

    Args:
        phrases: as they were given.
        tokenizer: the vocabulary.
        unit_tables: the units of CTC heads by their number; more are added.
        beginnings: where phrases may begin in tokens.
        rarity: how improbable a phrase is, see `TextScorers`.
    """

    def __init__(
        self,
        phrases: Sequence[str],
        tokenizer: Tokenizer,
        unit_tables: dict[int, UnitTable],
        beginnings: TokenBeginnings,
        rarity: Callable[[str], float],
    ) -> None:
        self._phrases = [tokenizer.normalized(phrase) for phrase in phrases]
        self._tokenizer = tokenizer
        self._token_bytes = tokenizer.bytes
        self._unit_tables = unit_tables
        self._beginnings = beginnings
        self._rarity = cache(rarity)
        self._spotters: dict[int, PhraseSpotter] = {}

    @cached_property
    def all(self) -> Hotwords:
        """All of them."""
        return Hotwords(self._phrases, self._token_bytes, beginnings=self._beginnings)

    def spotted(self, ctc_logits: Tensor) -> LocatedHotwords | None:
        """Those that may be said; None if there are none."""
        spots = self._spots(ctc_logits)
        weights = {phrase: self._weight(phrase, spot) for phrase, spot in spots.items()}
        raised = {phrase: weight for phrase, weight in weights.items() if weight > 0}
        if not raised:
            return None
        hotwords = Hotwords(raised, self._token_bytes, raised, SPOTTED_MARGIN, self._beginnings)
        return LocatedHotwords(hotwords, {phrase: spots[phrase].locations for phrase in raised})

    def placed(self, ctc_logits: Tensor) -> list[PlacedPhrase]:
        """Those that may be said, for the text of a CTC head; the best ones first."""
        spots = self._spots(ctc_logits)
        ordered = sorted(spots, key=lambda one: spots[one].score / spots[one].length, reverse=True)
        return [
            PlacedPhrase(
                tuple(units := written(self._tokenizer, phrase)),
                tuple(written_inside(self._tokenizer, units)),
                spots[phrase].locations,
                self._placed_bonus(phrase, spots[phrase]),
            )
            for phrase in ordered
        ]

    def _spots(self, ctc_logits: Tensor) -> dict[str, Spot]:
        units = ctc_logits.shape[-1] - 1
        spotter = self._spotters.get(units)
        if spotter is None:
            table = self._unit_tables.get(units) or UnitTable(self._token_bytes, units)
            self._unit_tables[units] = table
            spotter = self._spotters[units] = PhraseSpotter(self._phrases, table)
        return spotter.find(ctc_logits.float().log_softmax(-1).cpu().numpy())

    def _placed_bonus(self, phrase: str, spot: Spot) -> float:
        """What a phrase adds to the text of a CTC head."""
        bonus = PLACED_BONUS * spot.length + LEAST_PLACED_BONUS
        bonus -= PLACED_PRIOR * math.log(max(len(self._phrases) / SHORT_LIST, 1.0))
        return min(bonus, RARITY_SHARE * (self._rarity(phrase) - EXPECTED_RARITY))

    def _weight(self, phrase: str, spot: Spot) -> float:
        """The weight of the bonus of a phrase that may be said."""
        weight = SPOTTED_WEIGHT + SPOTTED_SHARE * spot.score / spot.length
        most = RARITY_SHARE * max(self._rarity(phrase) - EXPECTED_RARITY, 0.0)
        return min(weight, most / (BYTE_BONUS * spot.length))
