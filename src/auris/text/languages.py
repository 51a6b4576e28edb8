"""The languages of Qwen3-ASR: English names, as the model writes them, and their codes."""

from __future__ import annotations

from auris.errors import LanguageError

__all__ = ["LANGUAGES", "language_name"]

LANGUAGES = {
    "ar": "Arabic",
    "yue": "Cantonese",
    "zh": "Chinese",
    "cs": "Czech",
    "da": "Danish",
    "nl": "Dutch",
    "en": "English",
    "fil": "Filipino",
    "fi": "Finnish",
    "fr": "French",
    "de": "German",
    "el": "Greek",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "mk": "Macedonian",
    "ms": "Malay",
    "fa": "Persian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "es": "Spanish",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "vi": "Vietnamese",
}
"""English name by code."""

_NAMES = {name.lower(): name for name in LANGUAGES.values()}


def language_name(language: str | None) -> str | None:
    """English name of a language given by code or name in any case.

    Args:
        language: "en", "English", "ENGLISH"; None, "" or "auto" leave the choice to the model.

    Returns:
        the name, or None for the model's choice.

    Raises:
        LanguageError: no such language.
    """
    asked = (language or "auto").strip().lower()
    if asked == "auto":
        return None
    name = LANGUAGES.get(asked) or _NAMES.get(asked)
    if name is None:
        raise LanguageError(
            "The language has to be auto or one that Qwen3-ASR knows, by code or English name",
            f"{language!r} was asked",
            f"choose one of {', '.join(f'{code} ({name})' for code, name in LANGUAGES.items())}",
        )
    return name
