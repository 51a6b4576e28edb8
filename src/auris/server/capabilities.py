"""What a model can be asked for."""

from __future__ import annotations

from typing import Any

from auris.errors import AurisError
from auris.server.calls import check_options
from auris.server.model_registry import ServedModel
from auris.server.transcription_request import TranscriptionRequest
from auris.text.languages import LANGUAGES

__all__ = ["capabilities"]


def capabilities(served: ServedModel) -> dict[str, Any]:
    """What a call may ask of a model: languages by code, a prompt, times of words.

    The checks of a call say it, so that the two never differ.
    """
    return {
        "languages": [
            code
            for code, name in LANGUAGES.items()
            if _can(served, TranscriptionRequest("", language=name))
        ],
        "prompt": _can(served, TranscriptionRequest("", context="a")),
        "words": _can(served, TranscriptionRequest("", words=True)),
    }


def _can(served: ServedModel, asked: TranscriptionRequest) -> bool:
    try:
        check_options(served, asked)
    except AurisError:
        return False
    return True
