"""traits.json next to a model's weights: its inference defaults.

The file is optional, and only Auris reads it. It says in which chunks the model recognizes best,
which languages it knows and whether it was trained with contexts:

    {"chunk_seconds": 5, "vad": true, "languages": ["English"], "contexts": false}

Options of a call come before it. A language that it does not name is refused. A context for a model
that was trained without contexts is left out, with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auris.checkpoints.configs import read_json, write_json
from auris.errors import CheckpointError, LanguageError

__all__ = [
    "DEFAULTS_FILE",
    "InferenceDefaults",
    "load_inference_defaults",
    "save_inference_defaults",
]

DEFAULTS_FILE = "traits.json"

SHORTEST, LONGEST = 1.0, 1200.0
"""Seconds of the shortest and the longest chunk that `auris.audio.segmentation` cuts."""


@dataclass(frozen=True)
class InferenceDefaults:
    """What a model was made for.

    Attributes:
        chunk_seconds: target length of the chunks that it recognizes best; None for the usual one.
        vad: whether recordings should be cut where nobody speaks, and long silence be left out.
        languages: English names of those that it knows; None if unknown.
        contexts: whether it was trained with contexts (names and words to expect); None if unknown,
            and then it is given them.
    """

    chunk_seconds: float | None = None
    vad: bool = False
    languages: tuple[str, ...] | None = None
    contexts: bool | None = None

    @property
    def accepts_contexts(self) -> bool:
        """Whether the model is given contexts: unless it was trained without any."""
        return self.contexts is not False

    def check_language(self, *languages: str | None) -> None:
        """Refuse languages that the model does not know; None is the model's own choice.

        Raises:
            LanguageError: there is one.
        """
        known = self.languages
        if known is None:
            return
        unknown = [name for name in languages if name is not None and name not in known]
        if unknown:
            raise LanguageError(
                f"This model knows {', '.join(known)}",
                f"the language is {', '.join(unknown)}",
                "leave the language out, or choose another model",
            )


def save_inference_defaults(defaults: InferenceDefaults, directory: Path) -> Path:
    """Write the defaults next to a model's weights; returns the file."""
    values = {
        "vad": defaults.vad,
        "chunk_seconds": defaults.chunk_seconds,
        "languages": defaults.languages,
        "contexts": defaults.contexts,
    }
    known = {name: value for name, value in values.items() if value is not None}
    return write_json(directory / DEFAULTS_FILE, known)


def load_inference_defaults(directory: Path) -> InferenceDefaults:
    """Read the defaults of a model directory; general ones if it has none.

    Raises:
        CheckpointError: the file is damaged, or holds something else.
    """
    path = directory / DEFAULTS_FILE
    if not path.exists():
        return InferenceDefaults()
    content = read_json(path)
    unknown = sorted(set(content) - {"chunk_seconds", "vad", "languages", "contexts"})
    if unknown:
        raise _damaged(path, f"there is also {', '.join(unknown)}")
    return InferenceDefaults(
        _seconds(path, content.get("chunk_seconds")),
        _truth(path, "vad", content.get("vad", False)),
        _languages(path, content.get("languages")),
        _truth(path, "contexts", content["contexts"]) if "contexts" in content else None,
    )


def _seconds(path: Path, value: Any) -> float | None:
    if value is None:
        return None
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not SHORTEST <= value <= LONGEST:
        raise _damaged(path, f"chunk_seconds is {value!r}, not {SHORTEST:g} to {LONGEST:g}")
    return float(value)


def _truth(path: Path, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _damaged(path, f"{name} is {value!r}, not true or false")
    return value


def _languages(path: Path, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(n, str) for n in value):
        raise _damaged(path, f"languages is {value!r}, no list of names")
    return tuple(value)


def _damaged(path: Path, fault: str) -> CheckpointError:
    return CheckpointError(
        f"{DEFAULTS_FILE} may hold chunk_seconds, vad, languages and contexts",
        f"in {str(path)!r} {fault}",
        "correct it, or remove it",
    )
