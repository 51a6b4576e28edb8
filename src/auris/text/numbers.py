"""English numbers in digits: "twenty two" is 22.

Words that may mean something else do not change: a single digit ("one of them"), "second" after a
space ("a twenty second delay"), single ordinals ("the tenth"). Three or more digits in a row are a
string of digits; two small numbers may be a year. A digit before another number ("seven thirty")
does not change, unless a word next to it shows a time of day ("at seven thirty" is "at 7:30").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple


def _numbered(words: str, first: int, step: int = 1) -> dict[str, int]:
    return {word: first + step * index for index, word in enumerate(words.split())}


DIGITS = _numbered("zero one two three four five six seven eight nine", 0)
TEENS = _numbered(
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 10
)
TENS = _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10)
ORDINALS = _numbered("first second third fourth fifth sixth seventh eighth ninth", 1)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SPOKEN_ZEROS = ("oh", "o")
PARTS = ("half", "quarter")
"""Words that change the number after them: "half a million"."""

BEFORE_TIMES = frozenset(("at", "by", "until", "till", "before", "after", "around"))
BEHIND_TIMES = frozenset(("am", "pm", "a", "p", "o'clock", "tonight", "tomorrow"))
"""Words next to a time: "at seven thirty", "seven thirty a m"."""

MINUTES = range(10, 60)
YEARS = range(13, 21)
"""Centuries, as years begin: "nineteen eighty four", "twenty ten"."""

RUN = re.compile(r"(?<!\w)[A-Za-z]+(?:[ -][A-Za-z]+)*(?!\w)")
"""Words separated by a space or a hyphen; other marks end a number."""


class _Number(NamedTuple):
    """A number: its value, the index of the next word, and whether it is an ordinal."""

    value: int
    stop: int
    ordinal: bool = False


def in_digits(text: str) -> str:
    """The text with its English numbers in digits."""
    return RUN.sub(lambda run: "".join(_NumberRun(run.group()).parts()), text)


class _NumberRun:
    """A run of words, in which numbers are found by the index of their first word."""

    def __init__(self, text: str) -> None:
        parts = re.split("([ -])", text)
        self.given, self.gaps = parts[::2], [*parts[1::2], ""]
        self.words = [word.lower() for word in self.given]

    def parts(self) -> Iterator[str]:
        """The text, number by number."""
        index = 0
        while index < len(self.words):
            written, stop = self._written(index)
            yield written + self.gaps[stop - 1]
            index = stop

    def _word(self, index: int) -> str:
        return self.words[index] if 0 <= index < len(self.words) else ""

    def _written(self, index: int) -> tuple[str, int]:
        """What replaces the words from an index on, and the index of the next word."""
        string = self._digits(index)
        if len(string) >= 3:
            return string, index + len(string)
        time = self._time(index)
        if time is not None:
            return time
        number = self._cardinal(index)
        if number is None:
            return self.given[index], index + 1
        year = self._year(index, number)
        if year is not None:
            return str(year.value), year.stop
        return self._finished(number, index)

    def _finished(self, number: _Number, index: int) -> tuple[str, int]:
        """A number with its decimals, its percent sign or its ending."""
        if number.ordinal:
            return f"{number.value}{_ending(number.value)}", number.stop
        written, stop = str(number.value), number.stop
        if self._word(stop) == "point" and (decimals := self._digits(stop + 1)):
            written, stop = f"{written}.{decimals}", stop + 1 + len(decimals)
        if self._word(stop) == "percent":
            return f"{written}%", stop + 1
        if (self._word(stop), self._word(stop + 1)) == ("per", "cent"):
            return f"{written}%", stop + 2
        if stop == index + 1 and number.value < 10:
            return self.given[index], stop
        return written, stop

    def _time(self, index: int) -> tuple[str, int] | None:
        """What replaces a digit and a number ("at seven thirty"), and the index of the next word.

        They do not change if no word next to them shows a time of day.
        """
        number = self._cardinal(index + 1)
        alone = self._word(index) in DIGITS and not self._is_number(index - 1)
        if not alone or number is None or number.value < 10:
            return None
        hour, minutes = DIGITS[self._word(index)], self._small(index + 1)
        timed = self._word(index - 1) in BEFORE_TIMES or self._word(number.stop) in BEHIND_TIMES
        clock = minutes == number and number.value in MINUTES and not number.ordinal
        if timed and hour and clock and not self._is_number(number.stop):
            return f"{hour}:{number.value}", number.stop
        parts = zip(self.given[index : number.stop], self.gaps[index : number.stop], strict=True)
        words = "".join(word + gap for word, gap in parts)
        return words.removesuffix(self.gaps[number.stop - 1]), number.stop

    def _digits(self, index: int) -> str:
        """Digits that are spoken one by one; "oh" is one after another digit or before three."""
        leading = self._word(index) in SPOKEN_ZEROS and all(
            self._word(index + n) in DIGITS for n in (1, 2, 3)
        )
        if self._word(index) not in DIGITS and not leading:
            return ""
        spoken = takewhile(lambda w: w in DIGITS or w in SPOKEN_ZEROS, self.words[index:])
        return "".join(str(DIGITS.get(word, 0)) for word in spoken)

    def _cardinal(self, index: int) -> _Number | None:
        """The number that begins at an index: groups below a thousand with falling scales."""
        total, at, limit, stop = 0, index, 0, index
        while (group := self._group(at, index)) is not None:
            scale = 0 if group.ordinal else SCALES.get(self._word(group.stop), 0)
            if limit and max(scale, group.value) >= limit:
                break
            if not scale:
                return _Number(total + group.value, group.stop, group.ordinal)
            total, limit, stop = total + group.value * scale, scale, group.stop + 1
            at = stop + (self._word(stop) == "and")
        return _Number(total, stop) if limit else None

    def _group(self, at: int, begin: int) -> _Number | None:
        """A number below a thousand, or of hundreds ("fifteen hundred")."""
        first = self._small(at)
        if first is None and at == begin and self._word(at) == "a":
            following = self._word(at + 1)
            counts = following == "hundred" or following in SCALES
            if counts and self._word(at - 1) not in PARTS:
                first = _Number(1, at + 1)
        if first is None or first.ordinal or not first.value or self._word(first.stop) != "hundred":
            return first
        hundreds = _Number(100 * first.value, first.stop + 1)
        behind = hundreds.stop + (self._word(hundreds.stop) == "and")
        rest = self._small(behind) or self._ordinal(behind)
        if rest is None or rest.value == 0 or self._word(rest.stop) == "hundred":
            return hundreds
        return _Number(hundreds.value + rest.value, rest.stop, rest.ordinal)

    def _small(self, index: int) -> _Number | None:
        """A number below a hundred."""
        word, following = self._word(index), self._word(index + 1)
        if word in TENS:
            if DIGITS.get(following):
                return _Number(TENS[word] + DIGITS[following], index + 2)
            ordinal = self._ordinal(index + 1)
            if ordinal is not None:
                return ordinal._replace(value=TENS[word] + ordinal.value)
            return _Number(TENS[word], index + 1)
        value = DIGITS.get(word, TEENS.get(word))
        return None if value is None else _Number(value, index + 1)

    def _ordinal(self, index: int) -> _Number | None:
        """The end of a larger ordinal; "second" only after a hyphen, since it is also a time."""
        word = self._word(index)
        if word not in ORDINALS or (word == "second" and self.gaps[index - 1] != "-"):
            return None
        return _Number(ORDINALS[word], index + 1, True)

    def _year(self, index: int, number: _Number) -> _Number | None:
        """A year in two halves, without another number next to it."""
        century = self._small(index)
        if century is None or century.value not in YEARS or century.stop != number.stop:
            return None
        late = self._word(century.stop) in SPOKEN_ZEROS
        half = self._small(century.stop + late)
        if half is None or half.ordinal or (half.value in range(1, 10)) != late:
            return None
        if half.value == 0 or self._is_number(half.stop) or self._is_number(index - 1):
            return None
        return _Number(100 * century.value + half.value, half.stop)

    def _is_number(self, index: int) -> bool:
        word = self._word(index)
        return any(word in table for table in (DIGITS, TEENS, TENS, SCALES, ("hundred", "point")))


def _ending(value: int) -> str:
    if value % 100 in range(11, 14):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
