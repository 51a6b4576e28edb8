"""Writes phrases into the text of a CTC head, at the frames that may say them.

A prefix beam search loses most rare names: frame for frame other units are more probable. So each
phrase that `auris.decoding.phrase_spotting` has found is written in place of the words at its
frames, and the text with it is compared with the text without it, by the probabilities of all paths
of both and by what a scorer adds to them. The phrase has a bonus. What the scorer adds to the
phrase as a text of its own does not count, since a rare name would never be written otherwise.

Source: Andrusenko et al., "Fast context-biasing for CTC and transducer ASR models with CTC-based
word spotter" (2024), for the idea to replace words of a finished text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auris.decoding.ctc import CtcPath, forced, frames_needed, greedy
from auris.decoding.hotwords import Location, begins_character, joins
from auris.decoding.scoring import TokenBytes, TokenScorer, WeightedScorer, text_score


@dataclass(frozen=True)
class PlacedPhrase:
    """A phrase that may be written.

    Attributes:
        units: that write it at the beginning of a text, at least one.
        inner_units: that write it behind other words.
        locations: where it may be, in units of the best path of the frames.
        bonus: what it adds to the log-probability of a text.
    """

    units: tuple[int, ...]
    inner_units: tuple[int, ...]
    locations: tuple[Location, ...]
    bonus: float


class PhrasePlacer:
    """Writes phrases into the text of one chunk.

    Args:
        logits: [N, units + 1], one row a frame, of any floating type; N may be 0.
        blank: class index of the blank.
        token_bytes: the bytes of a unit.
        scorer: what is added to log-probabilities; None for nothing.
    """

    def __init__(
        self,
        logits: Tensor,
        blank: int,
        token_bytes: TokenBytes,
        scorer: TokenScorer | None = None,
    ) -> None:
        logits = logits.float().cpu()
        self._logprobs = logits.log_softmax(-1)
        self._blank = blank
        self._token_bytes = token_bytes
        self._scorer = WeightedScorer(()) if scorer is None else scorer
        self._best = greedy(logits, blank)

    def write(self, path: CtcPath, phrases: Sequence[PlacedPhrase]) -> CtcPath:
        """The text with those phrases that make it better, each in its place.

        Args:
            path: the text without them.
            phrases: the first ones are tried first; of two that overlap only one is written.
        """
        used: list[Location] = []
        for phrase in phrases:
            for location in phrase.locations:
                if any(location.overlaps(other) for other in used):
                    continue
                better = self._with_phrase(path, phrase, location)
                if better is not None:
                    path = better
                    used.append(location)
        return path

    def _with_phrase(
        self, path: CtcPath, phrase: PlacedPhrase, location: Location
    ) -> CtcPath | None:
        """The best text with the phrase at a location; None if it is not better."""
        texts = [
            text
            for text in self._proposals(path, phrase, location)
            if frames_needed(text) <= len(self._logprobs)
        ]
        if not texts:
            return None
        before, *scores = self._scores([path.ids, *texts])
        best = max(range(len(texts)), key=lambda index: scores[index])
        gain = scores[best] - before + phrase.bonus - text_score(self._scorer, phrase.units)
        if gain <= 0:
            return None
        # The phrase may be written already.
        return path if texts[best] == path.ids else forced(self._logprobs, texts[best], self._blank)

    def _proposals(
        self, path: CtcPath, phrase: PlacedPhrase, location: Location
    ) -> list[tuple[int, ...]]:
        """The text with the phrase instead of the words at a location, and of one word more or
        fewer at each side."""
        starts = [*self._word_starts(path.ids), len(path.ids)]
        last = len(starts) - 1
        begin, end = self._frames_of(location)
        # The first word that ends after the first frame, and the first one that begins after all.
        first = sum(path.last[following - 1] < begin for following in starts[1:])
        behind = sum(path.first[start] <= end for start in starts[:-1])
        texts: dict[tuple[int, ...], None] = {}
        for left in range(max(first - 1, 0), min(first + 1, last) + 1):
            units = phrase.inner_units if left else phrase.units
            for right in range(max(behind - 1, left), min(behind + 1, last) + 1):
                text = (*path.ids[: starts[left]], *units, *path.ids[starts[right] :])
                texts[text] = None
        return list(texts)

    def _frames_of(self, location: Location) -> tuple[int, int]:
        """The first and the last frame of a location."""
        units = range(location.begin, min(location.end, len(self._best.ids)))
        if not units:
            return len(self._logprobs), len(self._logprobs)
        return self._best.first[units[0]], self._best.last[units[-1]]

    def _word_starts(self, ids: Sequence[int]) -> list[int]:
        """Where words begin in a text, in units."""
        starts, letter = [], False
        for index, unit in enumerate(ids):
            data = self._token_bytes(unit)
            firsts = [byte for byte in data if begins_character(byte)]
            if not index or (firsts and not (letter and joins(firsts[0]))):
                starts.append(index)
            letter = joins(firsts[-1]) if firsts else letter
        return starts

    def _scores(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """The log-probabilities of all paths of some texts, with what the scorer adds."""
        frames, lengths = len(self._logprobs), [len(text) for text in texts]
        losses = torch.nn.functional.ctc_loss(
            self._logprobs[:, None].expand(-1, len(texts), -1),
            torch.tensor([unit for text in texts for unit in text], dtype=torch.long),
            torch.full((len(texts),), frames),
            torch.tensor(lengths),
            blank=self._blank,
            reduction="none",
        )
        return [
            text_score(self._scorer, text) - loss
            for text, loss in zip(texts, losses.tolist(), strict=True)
        ]
