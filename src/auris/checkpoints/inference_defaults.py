"""traits.json next to a model's weights: its inference defaults.

The file is optional, and only Auris reads it. It says in which chunks the model recognizes best,
which languages it knows, whether it reads contexts, and whether it was trained on lower case only:

    {"chunk_seconds": 5, "pause_seconds": 0.5, "vad": true, "languages": ["English"],
     "contexts": false, "lower_case": true}

Options of a call come before it. A language that it does not name is refused. The words of a
context are hotwords of a model that reads none, with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auris.checkpoints.configs import is_number, read_json, write_json
from auris.errors import CheckpointError, LanguageError

DEFAULTS_FILE = "traits.json"

KEYS = ("vad", "chunk_seconds", "languages", "contexts", "pause_seconds", "lower_case")

RANGES = {"chunk_seconds": (1.0, 1200.0), "pause_seconds": (0.2, 2.0)}
"""Least and largest values: of the chunks that `auris.audio.segmentation` cuts, and of the pauses
that `auris.audio.pauses` finds."""


@dataclass(frozen=True)
class InferenceDefaults:
    """What a model was made for.

    Attributes:
        chunk_seconds: target length of the chunks that it recognizes best; None for the usual one.
        vad: whether recordings should be cut where nobody speaks, and long silence be left out.
        languages: English names of those that it knows; None if unknown.
        contexts: whether it reads contexts (names and words to expect); None if unknown, and then a
            model with a decoder has them in its prompt.
        pause_seconds: length of the first pause that ends a chunk of live speech; None for the
            usual one.
        lower_case: whether it was trained on recordings whose texts have no capital letter.
    """

    chunk_seconds: float | None = None
    vad: bool = False
    languages: tuple[str, ...] | None = None
    contexts: bool | None = None
    pause_seconds: float | None = None
    lower_case: bool = False

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
    known = {name: value for name in KEYS if (value := getattr(defaults, name)) is not None}
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
    unknown = sorted(set(content) - set(KEYS))
    if unknown:
        raise _damaged(path, f"there is also {', '.join(unknown)}")
    seconds = {name: _seconds(path, name, content.get(name)) for name in RANGES}
    for name in ("vad", "contexts", "lower_case"):
        if not isinstance(content.get(name, False), bool):
            raise _damaged(path, f"{name} is {content[name]!r}, not true or false")
    languages = content.get("languages")
    names = languages if isinstance(languages, list) else []
    if languages is not None and not (names and all(isinstance(name, str) for name in names)):
        raise _damaged(path, f"languages is {languages!r}, no list of names")
    return InferenceDefaults(
        seconds["chunk_seconds"],
        content.get("vad", False),
        tuple(names) or None,
        content.get("contexts"),
        seconds["pause_seconds"],
        content.get("lower_case", False),
    )


def _seconds(path: Path, name: str, value: Any) -> float | None:
    """A value of `RANGES`, or None."""
    if value is None:
        return None
    least, largest = RANGES[name]
    if not (is_number(value) and least <= value <= largest):
        raise _damaged(path, f"{name} is {value!r}, not {least:g} to {largest:g}")
    return float(value)


def _damaged(path: Path, fault: str) -> CheckpointError:
    return CheckpointError(
        f"{DEFAULTS_FILE} may hold {', '.join(sorted(KEYS))}",
        f"in {str(path)!r} {fault}",
        "correct it, or remove it",
    )
