"""traits.json beside a model's weights: what the model was made for.

The file is ours alone and optional; other programs load the model all the same. It says in which
pieces the model hears best, which languages it knows and whether it was trained with contexts:

    {"chunk_seconds": 5, "vad": true, "languages": ["English"], "contexts": false}

A call that says nothing else follows it, and a language that it does not name is refused. A context
for a model that was trained without any is left out, with a warning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auris.checkpoints.configs import read_json
from auris.errors import CheckpointError, LanguageError

__all__ = ["TRAITS", "InferenceDefaults", "load_inference_defaults", "save_inference_defaults"]

TRAITS = "traits.json"

SHORTEST, LONGEST = 1.0, 1200.0
"""Of pieces, as `auris.audio.segmentation` cuts them."""


@dataclass(frozen=True)
class InferenceDefaults:
    """What a model was made for.

    Attributes:
        chunk_seconds: target length of the pieces that it hears best; None for the general one.
        vad: whether it should hear pieces that are cut where nobody speaks, without long silence.
        languages: English names of those that it knows; None where nobody said.
        contexts: whether it was trained with contexts (names and words to expect); None where
            nobody said, and then it is given them.
    """

    chunk_seconds: float | None = None
    vad: bool = False
    languages: tuple[str, ...] | None = None
    contexts: bool | None = None

    @property
    def accepts_contexts(self) -> bool:
        """Whether the model is given contexts: unless it was trained without any."""
        return self.contexts is not False

    def check_language(self, *asked: str | None) -> None:
        """Refuse languages that the model does not know; None is the model's own choice.

        Raises:
            LanguageError: there is one.
        """
        known = self.languages
        if known is None:
            return
        unknown = [name for name in asked if name is not None and name not in known]
        if unknown:
            raise LanguageError(
                f"This model knows {', '.join(known)}",
                f"{', '.join(unknown)} was asked",
                "leave the language out, or choose another model",
            )


def save_inference_defaults(traits: InferenceDefaults, directory: Path) -> Path:
    """Write traits beside a model's weights; returns the file."""
    content: dict[str, Any] = {"vad": traits.vad}
    if traits.chunk_seconds is not None:
        content["chunk_seconds"] = traits.chunk_seconds
    if traits.languages is not None:
        content["languages"] = list(traits.languages)
    if traits.contexts is not None:
        content["contexts"] = traits.contexts
    path = directory / TRAITS
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def load_inference_defaults(directory: Path) -> InferenceDefaults:
    """The traits that lie beside a model's weights; general ones where the directory has none.

    Raises:
        CheckpointError: the file is damaged, or holds something else.
    """
    path = directory / TRAITS
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


def _damaged(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"{TRAITS} may hold chunk_seconds, vad, languages and contexts",
        f"in {str(path)!r} {found}",
        "correct it, or remove it",
    )
