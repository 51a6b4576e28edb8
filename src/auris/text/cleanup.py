"""Clean-up of texts: digits, the written form, a script of Chinese, plain punctuation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from auris.errors import UnsupportedOption, UsageError
from auris.text.numbers import in_digits
from auris.text.words import spaceless
from auris.text.written import (
    CHINESE,
    CONVERSIONS,
    GRAMMARS,
    check_script,
    check_written,
    in_script,
    written,
)

CleanupStep = Literal["numbers", "written", "simplified", "traditional", "punctuation"]

STEPS: tuple[CleanupStep, ...] = get_args(CleanupStep)
"""All steps, in their order."""

LANGUAGES: dict[str, tuple[str, ...]] = {
    "numbers": ("English",),
    "written": tuple(GRAMMARS),
    **dict.fromkeys(CONVERSIONS, CHINESE),
}
"""The languages whose texts a step changes; those without an entry change all."""

PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u0060\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013", "-"),
        **dict.fromkeys("\u2014\u2015", " - "),
        "\u2026": "...",
        "\u00a0": " ",
        "\u202f": " ",
    }
)
"""Typographic marks and the plain ones that replace them."""

REPEATED = re.compile(r"([!?,;:])\1+")
DOTS = re.compile(r"\.{4,}|(?<!\.)\.\.(?!\.)")
GAP_BEFORE = re.compile(r" ([,.;:!?]+)(?=[ \"')\]]|$)")
FRENCH_GAP_BEFORE = re.compile(r" ([,.]+)(?=[ \"')\]]|$)")
NO_GAP_AFTER = re.compile(r"([,;!?])([^\W\d_])")


def check_steps(steps: Sequence[str], language: str | None) -> tuple[str, ...]:
    """The steps of a clean-up, checked; `language` is the forced one, or None."""
    listed = isinstance(steps, Iterable) and not isinstance(steps, str)
    if not listed or not all(step in STEPS for step in steps):
        raise UsageError(
            f"A clean-up has to be a list of {', '.join(STEPS[:-1])} and {STEPS[-1]}",
            f"it is {steps!r}",
            "choose one or more of these",
        )
    if set(CONVERSIONS) <= set(steps):
        raise UsageError(
            "Chinese has one script in a transcript",
            "the clean-up names simplified and traditional",
            "leave one of them out",
        )
    for step in steps:
        if language is not None and language not in LANGUAGES.get(step, (language,)):
            raise UnsupportedOption(
                f"The clean-up {step!r} changes texts in {', '.join(LANGUAGES[step])}",
                f"the language is {language}",
                f"leave {step} out of the clean-up",
            )
    if "written" in steps:
        check_written(language)
    if set(CONVERSIONS) & set(steps):
        check_script()
    return tuple(steps)


def clean(text: str, steps: Sequence[str], language: str | None) -> str:
    """Clean a text up; most steps change the texts of some languages only."""
    if "numbers" in steps and language == "English":
        text = in_digits(text)
    if "written" in steps:
        text = written(text, language)
    for script in CONVERSIONS:
        if script in steps:
            text = in_script(text, script, language)
    if "punctuation" in steps:
        text = plain_punctuation(text, language)
    return text


def plain_punctuation(text: str, language: str | None = None) -> str:
    """The text with plain punctuation and the usual spaces around it.

    Typographic quotes, dashes and ellipses become plain ones, and repeated marks one. French keeps
    its spaces before marks; scripts that write no spaces get none after a mark.
    """
    text = " ".join(text.translate(PLAIN).split())
    text = NO_GAP_AFTER.sub(_with_gap, text)
    text = (FRENCH_GAP_BEFORE if language == "French" else GAP_BEFORE).sub(r"\1", text)
    text = REPEATED.sub(r"\1", text)
    return DOTS.sub(lambda dots: "..." if len(dots.group()) > 2 else ".", text)


def _with_gap(match: re.Match[str]) -> str:
    mark, letter = match.groups()
    return mark + letter if spaceless(letter) else f"{mark} {letter}"
