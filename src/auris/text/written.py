"""Numbers, dates, currency and units as they are written, and the two scripts of Chinese.

The grammars are those of libraries: damga and wetext, and text2num for numbers alone. Texts of
other languages do not change, nor does a text that a library cannot read.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable
from functools import cache
from typing import Literal

from auris.errors import MissingExtra
from auris.text.languages import LANGUAGE_CODES

EXTRA = "written"

GRAMMARS = {
    **dict.fromkeys(
        ("English", "French", "German", "Italian", "Russian", "Spanish", "Turkish"), "damga"
    ),
    **dict.fromkeys(("Chinese", "Japanese"), "wetext"),
    **dict.fromkeys(("Danish", "Dutch", "Portuguese"), "text_to_num"),
}
"""The module that has the grammar of a language."""

CHINESE = ("Chinese", "Cantonese")
Script = Literal["simplified", "traditional"]
CONVERSIONS: dict[Script, str] = {"simplified": "t2s", "traditional": "s2t"}
"""OpenCC's names of the conversions to a script."""

_LOG = logging.getLogger(__name__)


def check_written(language: str | None) -> None:
    """Refuse texts in written form where a library is missing.

    Args:
        language: the forced one; None where all may occur.

    Raises:
        MissingExtra: a library is not installed.
    """
    for module in sorted(set(GRAMMARS.values()) if language is None else {GRAMMARS[language]}):
        _check_installed(module, "Writing numbers and dates in digits")


def check_script() -> None:
    """Refuse a script of Chinese where OpenCC is missing; see `check_written`."""
    _check_installed("opencc", "Converting the script of Chinese")


def _check_installed(module: str, purpose: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise MissingExtra(
            f"{purpose} needs the package {module}",
            "it is not installed",
            f"run pip install 'auris-asr[{EXTRA}]'",
        )


def written(text: str, language: str | None) -> str:
    """A text with numbers, dates, currency and units in written form."""
    if language not in GRAMMARS or not text:
        return text
    try:
        return _grammar(language)(text)
    except Exception as error:  # Of a library; the words are right as they are.
        _LOG.warning("The written form of a text is left out: %s", error)
        return text


@cache
def _grammar(language: str) -> Callable[[str], str]:
    """What writes the texts of a language; loading it takes some milliseconds."""
    name, code = GRAMMARS[language], LANGUAGE_CODES[language]
    module = importlib.import_module(name)
    write: Callable[[str], str]
    if name == "damga":
        write = module.InverseNormalizer(lang=code, backend="native").normalize
    elif name == "wetext":
        write = module.Normalizer(lang=code, operator="itn").normalize
    else:

        def write(text: str) -> str:
            return str(module.alpha2digit(text, code))

    return write


def in_script(text: str, script: Script, language: str | None) -> str:
    """A Chinese text in one of the two scripts; texts of other languages do not change."""
    return _converter(script)(text) if language in CHINESE else text


@cache
def _converter(script: Script) -> Callable[[str], str]:
    convert: Callable[[str], str] = (
        importlib.import_module("opencc").OpenCC(CONVERSIONS[script]).convert
    )
    return convert
