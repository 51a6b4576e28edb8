"""English numbers in digits: "twenty two" is 22.

Words that need not mean a number stay: a digit that stands alone ("one of them"), "second" behind a
space ("a twenty second delay"), ordinals by themselves ("the tenth"). Three digits or more in a row
are a string of digits, two small numbers may be a year. A digit and another number ("seven
thirty") stay words, unless a word beside them says that they are a time ("at seven thirty" is "at
7:30").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

DIGITS = {
    word: value
    for value, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
}
TEENS = {
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "thirteen": 13,
    "fourteen": 14,
    "fifteen": 15,
    "sixteen": 16,
    "seventeen": 17,
    "eighteen": 18,
    "nineteen": 19,
}
TENS = {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
ORDINALS = {
    word: value
    for value, word in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"], 1
    )
}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SPOKEN_ZEROS = ("oh", "o")
PARTS = ("half", "quarter")
"""Before "a million" they make another number of it."""

BEFORE_TIMES = frozenset(("at", "by", "until", "till", "before", "after", "around"))
BEHIND_TIMES = frozenset(("am", "pm", "a", "p", "o'clock", "tonight", "tomorrow"))
"""Words beside a time: "at seven thirty", "seven thirty a m"."""

MINUTES = range(10, 60)
YEARS = range(13, 21)
"""Centuries, as years begin: "nineteen eighty four", "twenty ten"."""

RUN = re.compile(r"(?<!\w)[A-Za-z]+(?:[ -][A-Za-z]+)*(?!\w)")
"""Words apart by a space or a hyphen: no number goes on behind another mark."""


class _FoundNumber(NamedTuple):
    """A number: its value, the place behind it, and whether it is an ordinal."""

    value: int
    stop: int
    ordinal: bool = False


def in_digits(text: str) -> str:
    """The text with its English numbers in digits."""
    return RUN.sub(lambda run: "".join(_NumberRun(run.group()).parts()), text)


class _NumberRun:
    """Words that follow each other, and numbers among them by place."""

    def __init__(self, text: str) -> None:
        pieces = re.split("([ -])", text)
        self.given, self.gaps = pieces[::2], [*pieces[1::2], ""]
        self.words = [word.lower() for word in self.given]

    def parts(self) -> Iterator[str]:
        """The text, piece by piece."""
        place = 0
        while place < len(self.words):
            written, stop = self._written(place)
            yield written + self.gaps[stop - 1]
            place = stop

    def _word(self, place: int) -> str:
        return self.words[place] if 0 <= place < len(self.words) else ""

    def _written(self, place: int) -> tuple[str, int]:
        """What stands for the words from a place on, and the place behind them."""
        string = self._digits(place)
        if len(string) >= 3:
            return string, place + len(string)
        time = self._time(place)
        if time is not None:
            return time
        found = self._cardinal(place)
        if found is None:
            return self.given[place], place + 1
        year = self._year(place, found)
        if year is not None:
            return str(year.value), year.stop
        return self._finished(found, place)

    def _finished(self, found: _FoundNumber, place: int) -> tuple[str, int]:
        """A number with its decimals, its percent sign or its ending."""
        if found.ordinal:
            return f"{found.value}{_ending(found.value)}", found.stop
        written, stop = str(found.value), found.stop
        if self._word(stop) == "point" and (decimals := self._digits(stop + 1)):
            written, stop = f"{written}.{decimals}", stop + 1 + len(decimals)
        if self._word(stop) == "percent":
            return f"{written}%", stop + 1
        if (self._word(stop), self._word(stop + 1)) == ("per", "cent"):
            return f"{written}%", stop + 2
        if stop == place + 1 and found.value < 10:
            return self.given[place], stop
        return written, stop

    def _time(self, place: int) -> tuple[str, int] | None:
        """What stands for an hour and minutes, "at seven thirty", and the index behind them.

        Without a word of time next to them they could be anything, and both stay words.
        """
        number = self._cardinal(place + 1)
        alone = self._word(place) in DIGITS and not self._is_number(place - 1)
        if not alone or number is None or number.value < 10:
            return None
        hour, minutes = DIGITS[self._word(place)], self._small(place + 1)
        said = self._word(place - 1) in BEFORE_TIMES or self._word(number.stop) in BEHIND_TIMES
        clock = minutes == number and number.value in MINUTES and not number.ordinal
        if said and hour and clock and not self._is_number(number.stop):
            return f"{hour}:{number.value}", number.stop
        parts = zip(self.given[place : number.stop], self.gaps[place : number.stop], strict=True)
        words = "".join(word + gap for word, gap in parts)
        return words.removesuffix(self.gaps[number.stop - 1]), number.stop

    def _digits(self, place: int) -> str:
        """Digits that are said one by one; "oh" is one behind another, and before three."""
        leading = self._word(place) in SPOKEN_ZEROS and all(
            self._word(place + n) in DIGITS for n in (1, 2, 3)
        )
        if self._word(place) not in DIGITS and not leading:
            return ""
        spoken = takewhile(lambda w: w in DIGITS or w in SPOKEN_ZEROS, self.words[place:])
        return "".join(str(DIGITS.get(word, 0)) for word in spoken)

    def _cardinal(self, place: int) -> _FoundNumber | None:
        """The number that begins at a place: groups below a thousand with falling scales."""
        total, at, limit, stop = 0, place, 0, place
        while (group := self._group(at, place)) is not None:
            scale = 0 if group.ordinal else SCALES.get(self._word(group.stop), 0)
            if limit and max(scale, group.value) >= limit:
                break
            if not scale:
                return _FoundNumber(total + group.value, group.stop, group.ordinal)
            total, limit, stop = total + group.value * scale, scale, group.stop + 1
            at = stop + (self._word(stop) == "and")
        return _FoundNumber(total, stop) if limit else None

    def _group(self, at: int, begin: int) -> _FoundNumber | None:
        """A number below a thousand, or of hundreds ("fifteen hundred")."""
        first = self._small(at)
        if first is None and at == begin and self._word(at) == "a":
            following = self._word(at + 1)
            counts = following == "hundred" or following in SCALES
            if counts and self._word(at - 1) not in PARTS:
                first = _FoundNumber(1, at + 1)
        if first is None or first.ordinal or not first.value or self._word(first.stop) != "hundred":
            return first
        hundreds = _FoundNumber(100 * first.value, first.stop + 1)
        behind = hundreds.stop + (self._word(hundreds.stop) == "and")
        rest = self._small(behind) or self._ordinal(behind)
        if rest is None or rest.value == 0 or self._word(rest.stop) == "hundred":
            return hundreds
        return _FoundNumber(hundreds.value + rest.value, rest.stop, rest.ordinal)

    def _small(self, place: int) -> _FoundNumber | None:
        """A number below a hundred."""
        word, following = self._word(place), self._word(place + 1)
        if word in TENS:
            if DIGITS.get(following):
                return _FoundNumber(TENS[word] + DIGITS[following], place + 2)
            ordinal = self._ordinal(place + 1)
            if ordinal is not None:
                return ordinal._replace(value=TENS[word] + ordinal.value)
            return _FoundNumber(TENS[word], place + 1)
        value = DIGITS.get(word, TEENS.get(word))
        return None if value is None else _FoundNumber(value, place + 1)

    def _ordinal(self, place: int) -> _FoundNumber | None:
        """The end of a larger ordinal; "second" only behind a hyphen, since it is a time, too."""
        word = self._word(place)
        if word not in ORDINALS or (word == "second" and self.gaps[place - 1] != "-"):
            return None
        return _FoundNumber(ORDINALS[word], place + 1, True)

    def _year(self, place: int, found: _FoundNumber) -> _FoundNumber | None:
        """A year in two halves, where no other number stands beside it."""
        century = self._small(place)
        if century is None or century.value not in YEARS or century.stop != found.stop:
            return None
        late = self._word(century.stop) in SPOKEN_ZEROS
        half = self._small(century.stop + late)
        if half is None or half.ordinal or (half.value in range(1, 10)) != late:
            return None
        if half.value == 0 or self._is_number(half.stop) or self._is_number(place - 1):
            return None
        return _FoundNumber(100 * century.value + half.value, half.stop)

    def _is_number(self, place: int) -> bool:
        word = self._word(place)
        return any(word in table for table in (DIGITS, TEENS, TENS, SCALES, ("hundred", "point")))


def _ending(value: int) -> str:
    if value % 100 in range(11, 14):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
