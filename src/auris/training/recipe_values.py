"""Keys and values of a recipe, as they are read from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auris.errors import TrainingError, UsageError

__all__ = ["checked_values", "read_values"]

LARGEST = 1e9
"""Far beyond any recipe, and little enough that a wrong number ends in an error at once."""

FORMER_KEYS = {"hush_share": "silence_share"}
"""Present names of keys that older recipes have under another name."""


def read_values(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UsageError: there is no such file, or it cannot be opened.
        TrainingError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(
            "A recipe has to be a readable JSON file",
            f"{str(path)!r} cannot be read ({error.strerror})",
            "check the path",
        ) from error
    except (ValueError, RecursionError) as error:
        raise TrainingError(
            "a recipe has to be a readable JSON file", f"{path}: {error}", "check the path"
        ) from error


def checked_values(values: Any, types: Mapping[str, str], default_frames: int) -> dict[str, Any]:
    """The values of a JSON object by the present names of their keys.

    Args:
        values: content of a recipe.
        types: type of every key that the recipe may have, as it is written in Python.
        default_frames: max_mel_length of a recipe that does not have it.

    Raises:
        TrainingError: no object, unknown keys, or wrong types.
    """
    if not isinstance(values, dict):
        raise TrainingError(
            "a recipe has to be a JSON object", f"it is a {type(values).__name__}", "correct it"
        )
    present = _in_seconds(_renamed(values), default_frames)
    unknown = sorted(set(present) - set(types))
    if unknown:
        raise TrainingError(
            f"a recipe may hold the keys {', '.join(types)}",
            f"it has {', '.join(unknown)}",
            "remove or rename them",
        )
    for name, value in present.items():
        _require_type(name, types[name], value)
    return present


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values with former names of keys replaced by the present ones.

    Raises:
        TrainingError: a key is given under both names.
    """
    both = [name for old, name in FORMER_KEYS.items() if old in values and name in values]
    if both:
        raise TrainingError(
            "a recipe may hold every key once",
            f"it has {both[0]} under its present and its former name",
            "remove one of them",
        )
    return {FORMER_KEYS.get(name, name): value for name, value in values.items()}


def _in_seconds(values: dict[str, Any], default_frames: int) -> dict[str, Any]:
    """A recipe's values with batch_size, rows of max_mel_length, as batch_seconds.

    Raises:
        TrainingError: both are given, or batch_size is no positive integer.
    """
    if "batch_size" not in values:
        return values
    rest = {name: value for name, value in values.items() if name != "batch_size"}
    size, frames = values["batch_size"], values.get("max_mel_length", default_frames)
    _require_type("batch_size", "int", size)
    _require_type("max_mel_length", "int", frames)
    if "batch_seconds" in values or size < 1:
        raise TrainingError(
            "in a recipe batch_size has to be positive, and stands in the place of batch_seconds",
            f"it is {size}" + (", beside batch_seconds" if "batch_seconds" in values else ""),
            "correct the recipe",
        )
    return {**rest, "batch_seconds": size * frames / 100}


def _require_type(name: str, annotation: str, value: Any) -> None:
    kinds: dict[str, tuple[type, ...]] = {"bool": (bool,), "float": (int, float)}
    allowed = (
        (str,) if annotation.startswith(("Literal", "TextForm")) else kinds.get(annotation, (int,))
    )
    wrong_bool = isinstance(value, bool) and annotation != "bool"
    optional = "None" in annotation and value is None
    if not optional and (wrong_bool or not isinstance(value, allowed)):
        raise TrainingError(
            f"in a recipe {name} has to be of type {annotation}",
            f"it is {value!r}",
            "correct the recipe",
        )
    if isinstance(value, (int, float)) and not abs(value) <= LARGEST and name != "seed":
        raise TrainingError(
            f"in a recipe {name} has to be a number of at most {LARGEST:.0e}",
            f"it is {value}",
            "correct the recipe",
        )
