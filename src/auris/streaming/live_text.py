"""The text of one stream in its three states: partial, settled and final.

`LiveText` follows the chunks of a stream and says after every step what is added to the settled
text. Nothing is ever removed from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from auris.recognition.confidence import ScoredWord, scored_words
from auris.recognition.requests import DecodeResult
from auris.streaming.decoder import StreamState
from auris.streaming.settle import (
    PartialWord,
    SettleRule,
    SettleState,
    compare_words,
    normalized,
    settle,
    settle_searched,
)
from auris.streaming.word_ends import ends_of_words
from auris.text.tokenizer import Tokenizer
from auris.text.words import join_texts, split_words
from auris.types import Segment

CUT_SECONDS = 0.1
"""A word that ends so little behind a cut belongs to the chunk in front of it."""


@dataclass(frozen=True)
class LiveChange:
    """What a step changes in the text of a stream.

    Attributes:
        delta: text behind the settled text so far, with a space in front where one is needed.
        settled: the settled text of the chunk.
        partial: the text behind it, likewise; none of a chunk that is over.
        settled_words: how many words of it settled before the chunk was over.
        revised: how many of these differ from the final text; 0 while the chunk may grow.
        carried: the end of the settled text that lies behind the end of a chunk that is over; the
            settled text of the next chunk begins with it.
    """

    delta: str
    settled: str
    partial: str
    settled_words: int
    revised: int
    carried: str = ""


class LiveText:
    """The text of one stream.

    Args:
        rule: when words settle; None if all text settles when its chunk is over.
    """

    def __init__(self, tokenizer: Tokenizer, state: StreamState, rule: SettleRule | None) -> None:
        self._tokenizer = tokenizer
        self._state = state
        self._rule = rule
        self._words = SettleState()
        self._parts: list[str] = []  # The settled text of the chunk, by words.
        self._last = ""
        self._text = ""  # Of the last step, if the chunk had one.
        self._ends: list[float | None] = []  # Of its words, in seconds; empty if not known.
        self._searched = -math.inf  # The second of the last search.
        self.waits = False
        """Whether a search of the chunk so far may settle words that wait for long."""

    def add_partial(self, result: DecodeResult, segment: Segment, seconds: float) -> LiveChange:
        """Add the text of a chunk that may still grow.

        Args:
            result: what was decoded.
            segment: of this result.
            seconds: the newest sound, in seconds of the stream.
        """
        before, text = self._words, segment.text
        first = self._covered(text)
        self._words, self._text, self.waits = replace(before, covered=first), text, False
        self._ends = []
        # A loop is decoded again when the chunk is over, and clean-up may rewrite any word.
        if self._rule and result.reason == "stop" and not result.request.options.clean:
            words = self._partial_words(result, segment)
            self._ends = [word.end for word in words]
            self._words = settle(before, words, seconds, self._rule)
            waiting = words[self._words.covered :]
            if seconds - self._searched >= self._rule.same:
                self.waits = any(self._rule.waits_long(word, seconds) for word in waiting)
        delta = self._settled_delta(text, first, self._words.covered)
        return self._change(delta, text, self._words.covered)

    def end_chunk(self, end: float) -> None:
        """The chunk is over, and its final text is not known yet. Words behind its end are no part
        of its text any more.

        Args:
            end: of the chunk, in seconds of the stream.
        """
        behind = (at is not None and at > end + CUT_SECONDS for at in self._ends)
        first = next((number for number, is_behind in enumerate(behind) if is_behind), None)
        if first is not None:
            spans = split_words(self._text)
            self._text = self._text[: spans[first - 1].end] if first else ""

    def show_ahead(self, text: str) -> tuple[str, LiveChange]:
        """Show text of the next chunk behind a chunk that is over and has no final text; returns
        both texts joined, too."""
        text = join_texts([self._text, text])
        return text, self._change("", text, self._covered(text))

    def add_searched(self, segment: Segment, seconds: float, scores: Tensor | None) -> LiveChange:
        """Add a search of the chunk, which settles words but is not shown.

        Args:
            segment: that the search found.
            seconds: the newest sound that was searched, in seconds of the stream.
            scores: unit scores [N, units + 1] of what was searched; None without a CTC head.
        """
        assert self._rule is not None
        self._searched = seconds
        words = self._searched_words(segment, scores) if segment.finish_reason == "stop" else []
        self._words, first, last = settle_searched(self._words, words, seconds, self._rule)
        delta = self._settled_delta(segment.text, first, last)
        # Of the text that is shown, which may be that of a later step.
        return self._change(delta, self._text, self._covered(self._text))

    def add_final(self, segment: Segment) -> LiveChange:
        """Add the final text of a chunk; what it has behind the settled words settles now.

        Settled words behind the cut belong to the next chunk. Words of this one that they were
        settled without count as revised, since nothing can be added in front of them.
        """
        words, count = self._words, self._words.within(segment.end + CUT_SECONDS)
        own, others = words.settled[:count], words.settled[count:]
        spans = split_words(segment.text)
        compared = compare_words(own, [normalized(span.text) for span in spans])
        revised, delta = compared.revised, ""
        if others:
            revised += len(spans) - compared.covered
        else:
            begin = spans[compared.covered - 1].end if compared.covered else 0
            delta = self._add(self._behind(segment.text, begin))
        carried = self._parts[count:] if others else []
        change = LiveChange(delta, self._settled, "", len(own), revised, "".join(carried))
        self._words = SettleState(settled=others, ends=words.ends[count:])
        self._parts, self._text, self._ends = carried, "", []
        return change

    @property
    def settled_words(self) -> list[tuple[str, float | None]]:
        """The settled words of a chunk that may still grow, as they are written and with the space
        in front, and their ends in seconds of the stream."""
        return list(zip(self._parts, self._words.ends, strict=True))

    @property
    def _settled(self) -> str:
        """The settled text of the chunk."""
        return "".join(self._parts).lstrip()

    def _partial_words(self, result: DecodeResult, segment: Segment) -> list[PartialWord]:
        """The words of a text, with the least probabilities of their tokens."""
        tokens = result.text_tokens(self._tokenizer)
        words, ends = self._ended_words(tokens, segment, self._state.logits)
        partial = []
        for word, end in zip(words, ends, strict=True):
            logprob = min((result.logprobs[index] for index in word.tokens), default=0.0)
            partial.append(PartialWord(word.text, end, math.exp(logprob)))
        return partial

    def _searched_words(self, segment: Segment, scores: Tensor | None) -> list[PartialWord]:
        """The words of a segment, with their confidences; none if these are of other words."""
        words, ends = self._ended_words(segment.tokens, segment, scores)
        if [word.text for word in words] != [text for text, _ in segment.word_confidences]:
            return []
        confidences = [confidence or 0.0 for _, confidence in segment.word_confidences]
        triples = zip(words, ends, confidences, strict=True)
        return [PartialWord(word.text, end, confidence) for word, end, confidence in triples]

    def _ended_words(
        self, tokens: Sequence[int], segment: Segment, scores: Tensor | None
    ) -> tuple[list[ScoredWord], list[float | None]]:
        """The words of the text of a segment, and when they end, in seconds of the stream."""
        words = scored_words(self._tokenizer, tokens, segment.text)
        ends = ends_of_words(words, tokens, scores)
        return words, [None if end is None else segment.start + end for end in ends]

    def _settled_delta(self, text: str, first: int, last: int) -> str:
        """Settle the words of a text from one position to another; returns what this adds."""
        borders = [0, *(span.end for span in split_words(text))]
        words = zip(borders[first:last], borders[first + 1 : last + 1], strict=True)
        return "".join([self._add(self._behind(text[:end], begin)) for begin, end in words])

    def _covered(self, text: str) -> int:
        """How many of the first words of a text the settled words stand for."""
        names = [normalized(span.text) for span in split_words(text)]
        return compare_words(self._words.settled, names).covered

    def _change(self, delta: str, text: str, covered: int) -> LiveChange:
        """The change by a step; partial is its text behind the first `covered` words."""
        partial = self._behind(text, split_words(text)[covered - 1].end if covered else 0)
        return LiveChange(delta, self._settled, partial, len(self._words.settled), 0)

    def _behind(self, text: str, begin: int) -> str:
        """The text from a position on, as it stands behind the settled text of the stream."""
        rest = text[begin:]
        return rest if begin else join_texts([self._last, rest])[len(self._last) :]

    def _add(self, delta: str) -> str:
        """Add settled text; returns it."""
        self._parts.append(delta)
        self._last = delta[-1:] or self._last
        return delta
