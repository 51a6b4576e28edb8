"""When words of live text are settled: a rule over the steps of a chunk, without a model.

A word of a chunk that is not over settles when

- it and all words before it were the same for some time, in normalized form and in at least two
  steps one after the other,
- its end lies some time before the newest sound, and
- the model gives each of its tokens a probability of at least `LEAST_PROBABILITY`.

Where final text is searched, words that wait for long settle by a search of the chunk so far, if
their calibrated probabilities are at least `SEARCHED_PROBABILITY`. Its text differs less often from
the final one than that of the steps.

Settled words are never taken back. Steps are decoded without regard to them, so the text of a later
step may differ, and so may the final text; `compare_words` finds the words behind them, and
counts what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from auris.recognition.load import check_number
from auris.text.normalize import spoken

SETTLE_SECONDS = 1.0
"""Default time for which a word has to be the same before it settles."""

MARGIN_SECONDS = 0.8
"""How long before the newest sound a settled word ends."""

LEAST_PROBABILITY = 0.9
"""Least probability of each token of a settled word. Steps are decoded without a search, and words
of which the model is not sure often differ from those of the search at the end."""

LONG_WAIT = 2.5
"""Where a word that ended so many times `--settle-seconds` before the newest sound has not settled,
a search of the chunk so far settles words that ended then."""

SEARCHED_PROBABILITY = 0.55
"""Least calibrated probability of a word that settles by such a search."""

ROUNDING = 1e-6
"""Seconds by which sums of steps may differ."""

LONGEST_SETTLE = 60.0
"""Largest time that can be requested."""


@dataclass(frozen=True)
class PartialWord:
    """A word of a partial text.

    Attributes:
        text: as it is written.
        end: when it ends, in seconds of the stream; None if it is not known.
        probability: the least one of its tokens; 1 if they are not known.
    """

    text: str
    end: float | None
    probability: float = 1.0


@dataclass(frozen=True)
class SettleRule:
    """Bounds for words that settle.

    Attributes:
        same: least seconds for which a word and all words before it were the same.
        margin: least seconds between the end of a word and the newest sound.
        probability: least probability of each token of a word.
    """

    same: float = SETTLE_SECONDS
    margin: float = MARGIN_SECONDS
    probability: float = LEAST_PROBABILITY

    def waits_long(self, word: PartialWord, seconds: float) -> bool:
        """Whether a word that has not settled ended long before this second."""
        return word.end is not None and seconds - word.end >= LONG_WAIT * self.same - ROUNDING


def settle_rule(seconds: float) -> SettleRule | None:
    """The rule of `--settle-seconds`; None if words settle only when their chunk is over.

    Raises:
        UsageError: it is out of range.
    """
    check_number("--settle-seconds", seconds, 0, LONGEST_SETTLE)
    return SettleRule(float(seconds)) if seconds else None


@dataclass(frozen=True)
class SettleState:
    """The words of a chunk after a step, normalized.

    Attributes:
        words: of the step.
        since: for each, the second of the first step since which it and all before it are the same.
        settled: the settled words of the chunk.
        ends: when they end, in seconds of the stream; None if it is not known.
        covered: how many of the first words of the step the settled ones stand for.
    """

    words: tuple[str, ...] = ()
    since: tuple[float, ...] = ()
    settled: tuple[str, ...] = ()
    ends: tuple[float | None, ...] = ()
    covered: int = 0

    def within(self, end: float) -> int:
        """How many of the settled words lie before a cut at this second."""
        behind = (number for number, at in enumerate(self.ends) if at is not None and at > end)
        return next(behind, len(self.settled))


def normalized(word: str) -> str:
    """A word without case, accents and punctuation, as settled and final words are compared."""
    return spoken(word) or word.casefold()


def settle(
    before: SettleState, words: Sequence[PartialWord], seconds: float, rule: SettleRule
) -> SettleState:
    """The state after a step.

    A word whose end is not known counts as ended in the step since which it is the same.

    Args:
        before: the state after the step before; a new one for a new chunk.
        words: of the text of this step.
        seconds: the newest sound of the step.
    """
    names = tuple(normalized(word.text) for word in words)
    same = 0
    while same < min(len(names), len(before.words)) and names[same] == before.words[same]:
        same += 1
    since = before.since[:same] + (seconds,) * (len(names) - same)
    first = compare_words(before.settled, names).covered
    last = first
    while last < same and _is_settled(words[last], since[last], seconds, rule):
        last += 1
    ends = tuple(word.end for word in words[first:last])
    return SettleState(names, since, before.settled + names[first:last], before.ends + ends, last)


def settle_searched(
    before: SettleState, words: Sequence[PartialWord], seconds: float, rule: SettleRule
) -> tuple[SettleState, int, int]:
    """The state after a search of a chunk that may still grow, and which of the words settle: from
    the first of two positions to the second.

    Args:
        before: the state after the step of the same samples, without a search.
        words: that the search found, with calibrated probabilities.
        seconds: the newest sound of the step.
    """

    def settles(word: PartialWord) -> bool:
        return rule.waits_long(word, seconds) and word.probability >= SEARCHED_PROBABILITY

    names = tuple(normalized(word.text) for word in words)
    first = compare_words(before.settled, names).covered
    ends = tuple(word.end for word in takewhile(settles, words[first:]))
    if not ends:
        return before, first, first
    last = first + len(ends)
    settled = before.settled + names[first:last]
    covered = compare_words(settled, before.words).covered
    after = replace(before, settled=settled, ends=before.ends + ends, covered=covered)
    return after, first, last


def _is_settled(word: PartialWord, since: float, seconds: float, rule: SettleRule) -> bool:
    end = since if word.end is None else word.end
    stands = seconds - since >= rule.same - ROUNDING and seconds - end >= rule.margin
    return stands and word.probability >= rule.probability


@dataclass(frozen=True)
class WordComparison:
    """Settled words of a chunk compared with the words of a text of it.

    Attributes:
        covered: how many of the first words of the text the settled words stand for.
        revised: how many words are wrong, missing or too many in the settled words.
    """

    covered: int
    revised: int


def compare_words(settled: Sequence[str], words: Sequence[str]) -> WordComparison:
    """Find the first words of a text that need the fewest edits to become the settled words; of
    several, those that end with the same word.

    Args:
        settled, words: normalized.
    """
    edits = list(range(len(words) + 1))
    for word in settled:
        row = [edits[0] + 1]
        for index, other in enumerate(words, 1):
            exchanged = edits[index - 1] + (word != other)
            row.append(min(exchanged, edits[index] + 1, row[-1] + 1))
        edits = row

    def rank(count: int) -> tuple[int, bool, int]:
        ends_alike = bool(count and settled) and words[count - 1] == settled[-1]
        return edits[count], not ends_alike, abs(count - len(settled))

    covered = min(range(len(edits)), key=rank)
    return WordComparison(covered, edits[covered])
