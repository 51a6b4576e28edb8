"""The words of a text with their positions, and joining texts.

Words are split as by the `qwen3_asr` processor of transformers, which follows qwen-asr.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from auris.errors import MissingExtra

# fmt: off
IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)
# fmt: on
"""Ranges of the CJK ideographs, each of which is a word."""

FIRST_IDEOGRAPH = min(first for first, _ in IDEOGRAPHS)

UNSPACED_SCRIPTS = ("THAI ", "LAO ", "KHMER ", "MYANMAR ")
"""How the Unicode names of letters begin in scripts with spaces between phrases only."""


@dataclass(frozen=True)
class WordSpan:
    """A word of a text without punctuation, and its position in the text; `start` and `end` are
    equal if the position is not known."""

    text: str
    start: int
    end: int


def spaceless(letter: str) -> bool:
    """Whether a letter belongs to a script that writes no spaces between words."""
    if unicodedata.east_asian_width(letter) not in "WF":
        return False
    return not unicodedata.name(letter, "").startswith("HANGUL")


def unspaced(letter: str) -> bool:
    """Whether a letter belongs to a script without spaces between words, also to a narrow one."""
    if spaceless(letter):
        return True
    return unicodedata.name(letter, "").startswith(UNSPACED_SCRIPTS)


class Joiner:
    """Joins texts that come one after the other: with a space, except between letters of scripts
    that have none between words (Chinese, Japanese, Thai, Lao, Khmer and Burmese)."""

    def __init__(self) -> None:
        self._last = ""

    def push(self, text: str) -> str:
        """What the next text adds to those before it."""
        text = text.strip()
        if not text:
            return ""
        spaced = self._last and not (unspaced(self._last) and unspaced(text[0]))
        self._last = text[-1]
        return f" {text}" if spaced else text


def join_texts(texts: Iterable[str]) -> str:
    """Join texts as `Joiner` does."""
    joiner = Joiner()
    return "".join(joiner.push(text) for text in texts)


def _is_ideograph(letter: str) -> bool:
    code = ord(letter)
    return code >= FIRST_IDEOGRAPH and any(first <= code <= last for first, last in IDEOGRAPHS)


def _is_shown(letter: str) -> bool:
    """Whether a character is part of a word for the reference: letter, number or apostrophe."""
    return letter == "'" or unicodedata.category(letter)[0] in "LN" or _is_ideograph(letter)


def reference_spelling(word: str) -> str:
    """A word as the reference spells it, without combining marks."""
    return "".join(letter for letter in word if _is_shown(letter))


def _shown(text: str) -> Iterator[tuple[int, str]]:
    """Indices and characters that are part of words; unlike the reference, also combining marks."""
    marked = False
    for index, letter in enumerate(text):
        category = unicodedata.category(letter)
        mark = category in ("Mn", "Mc") and marked
        marked = mark or (category[0] == "L" and not _is_ideograph(letter))
        if mark or _is_shown(letter):
            yield index, letter


def split_words(text: str, language: str | None = None) -> list[WordSpan]:
    """Cut a text into the words that are given times; none of a text without letters and numbers.

    Words are cut at spaces, and each CJK ideograph is a word; punctuation is left out and joins
    what it stands between (`don't-stop` is `don'tstop`). Japanese is cut by nagisa, Korean by
    soynlp.

    Raises:
        MissingExtra: the language needs a package that is not installed.
    """
    if not text.strip():
        return []
    if language == "Japanese":
        return _located(text, _japanese(text.strip()))
    if language == "Korean":
        return _located(text, _korean(text.strip()))
    return _spaced(text)


def _spaced(text: str) -> list[WordSpan]:
    spans: list[WordSpan] = []
    word, start, end = "", 0, 0
    for index, letter in _shown(text):
        # A space between two characters separates words; punctuation does not.
        parted = word and any(map(str.isspace, text[end:index]))
        if parted or (word and (_is_ideograph(letter) or _is_ideograph(word[0]))):
            spans.append(WordSpan(word, start, end))
            word = ""
        if not word:
            start = index
        word, end = word + letter, index + 1
    if word:
        spans.append(WordSpan(word, start, end))
    return spans


def _located(text: str, tokens: Iterable[str]) -> list[WordSpan]:
    """The words of tokens that another program cut a text into, with their positions.

    A token that the program spelled in another way has no position.
    """
    spans: list[WordSpan] = []
    cursor = 0
    for token in tokens:
        index = text.find(token, cursor, cursor + 2 * len(token) + 8)
        start, end = (index, index + len(token)) if index >= 0 else (cursor, cursor)
        cursor = end if index >= 0 else min(cursor + len(token), len(text))
        word = "".join(letter for _, letter in _shown(token))
        if word:
            spans.append(WordSpan(word, start, end))
    return spans


def _japanese(text: str) -> list[str]:
    try:
        import nagisa
    except ImportError:
        raise _missing("Japanese", "nagisa", "ja") from None
    words: list[str] = nagisa.tagging(text).words
    return words


def _korean(text: str) -> list[str]:
    try:
        from soynlp.tokenizer import LTokenizer
    except ImportError:
        raise _missing("Korean", "soynlp", "ko") from None
    words: list[str] = LTokenizer().tokenize(text)
    return words


def _missing(language: str, package: str, extra: str) -> MissingExtra:
    return MissingExtra(
        f"Finding the words of {language} needs the package {package}",
        "it is not installed",
        f"run pip install 'auris-asr[{extra}]'",
    )


def compression_ratio(text: str) -> float:
    """Length of a text over its compressed length, which is large where it repeats itself."""
    data = text.encode("utf-8", "replace")
    return len(data) / len(zlib.compress(data))
