"""The text of one stream in its three states: partial, settled and final.

`LiveText` follows the chunks of a stream and says after every step what is added to the settled
text. Nothing is ever removed from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from auris.recognition.confidence import scored_words
from auris.recognition.requests import DecodeResult
from auris.streaming.decoder import StreamState
from auris.streaming.settle import (
    PartialWord,
    SettleRule,
    SettleState,
    compare_words,
    normalized,
    settle,
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

    def add_partial(self, result: DecodeResult, segment: Segment, seconds: float) -> LiveChange:
        """Add the text of a chunk that may still grow.

        Args:
            result: what was decoded.
            segment: of this result.
            seconds: the newest sound, in seconds of the stream.
        """
        before, text = self._words, segment.text
        spans = split_words(text)
        names = [normalized(span.text) for span in spans]
        first = compare_words(before.settled, names).covered
        last = first
        # A loop is decoded again when the chunk is over, and clean-up may rewrite any word.
        if self._rule and result.reason == "stop" and not result.request.options.clean:
            timed = self._partial_words(result, segment)
            self._words = settle(before, timed, seconds, self._rule)
            last = self._words.covered
        borders = [0, *(span.end for span in spans)]
        words = zip(borders[first:last], borders[first + 1 : last + 1], strict=True)
        delta = "".join([self._add(self._behind(text[:end], begin)) for begin, end in words])
        partial = self._behind(text, borders[last])
        return LiveChange(delta, self._settled, partial, len(self._words.settled), 0)

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
        self._parts = carried
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
        """The words of a text, with their ends in seconds of the stream, and probabilities."""
        tokens = result.text_tokens(self._tokenizer)
        words = scored_words(self._tokenizer, tokens, segment.text)
        ends = ends_of_words(words, tokens, self._state.logits)
        partial = []
        for word, end in zip(words, ends, strict=True):
            logprob = min((result.logprobs[index] for index in word.tokens), default=0.0)
            seconds = None if end is None else segment.start + end
            partial.append(PartialWord(word.text, seconds, math.exp(logprob)))
        return partial

    def _behind(self, text: str, begin: int) -> str:
        """The text from a position on, as it stands behind the settled text of the stream."""
        rest = text[begin:]
        return rest if begin else join_texts([self._last, rest])[len(self._last) :]

    def _add(self, delta: str) -> str:
        """Add settled text; returns it."""
        self._parts.append(delta)
        self._last = delta[-1:] or self._last
        return delta
