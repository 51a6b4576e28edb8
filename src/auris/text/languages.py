"""The languages of Qwen3-ASR: English names, as the model writes them, and their codes."""

from __future__ import annotations

from collections.abc import Iterable

from auris.errors import LanguageError, UsageError

# fmt: off
LANGUAGES = {
    "ar": "Arabic", "yue": "Cantonese", "zh": "Chinese", "cs": "Czech", "da": "Danish",
    "nl": "Dutch", "en": "English", "fil": "Filipino", "fi": "Finnish", "fr": "French",
    "de": "German", "el": "Greek", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian",
    "it": "Italian", "ja": "Japanese", "ko": "Korean", "mk": "Macedonian", "ms": "Malay",
    "fa": "Persian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian",
    "es": "Spanish", "sv": "Swedish", "th": "Thai", "tr": "Turkish", "vi": "Vietnamese",
}
# fmt: on
"""English name by code."""

LANGUAGE_CODES = {name: code for code, name in LANGUAGES.items()}

_NAMES = {name.lower(): name for name in LANGUAGES.values()}


def language_name(language: str | None) -> str | None:
    """English name of a language given by code or name in any case ("en", "English", "ENGLISH").

    None, "" and "auto" give None, the model's choice.
    """
    given = (language or "auto").strip().lower()
    if given == "auto":
        return None
    name = LANGUAGES.get(given) or _NAMES.get(given)
    if name is None:
        raise LanguageError(
            "The language has to be auto or a language of Qwen3-ASR, by code or English name",
            f"it is {(language or '')[:40]!r}",
            f"choose one of {', '.join(f'{code} ({name})' for code, name in LANGUAGES.items())}",
        )
    return name


def language_names(languages: Iterable[str] | None) -> tuple[str, ...] | None:
    """English names of languages to choose from, each once; None leaves the choice free."""
    if languages is None:
        return None
    given: list[str] = []
    if isinstance(languages, Iterable):
        given = [languages] if isinstance(languages, str) else list(languages)
    named = all(isinstance(language, str) for language in given)
    names = dict.fromkeys(map(language_name, given)) if named else {}
    if not names or None in names:
        raise UsageError(
            "languages has to be a list of codes or English names",
            f"it is {languages!r}",
            "name some, such as en and zh, or leave it out",
        )
    return tuple(name for name in names if name is not None)
