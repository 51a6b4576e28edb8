"""Keys and values of a recipe: their types, their rules, and their former names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from auris.audio.features import HOP, WINDOW
from auris.config import CHUNK_FRAMES, MAX_WINDOW_FRAMES, TOKEN_FRAMES
from auris.errors import TrainingError
from auris.types import SAMPLE_RATE

TextForm = Literal["spoken", "written"]
"""Whether texts are brought to `auris.text.normalize.spoken` or kept as they are written."""

LARGEST = 1e9
"""Far beyond any recipe, and little enough that a wrong number ends in an error at once."""

FORMER_KEYS = {"hush_share": "silence_share"}
"""Present names of keys that older recipes have under another name."""

Rule = tuple[str, Callable[[Any], bool], str]
"""What has to be true of a value, whether it is, and the keys that the rule is for."""


def _within(low: float, high: float, names: str) -> Rule:
    return f"has to lie in {low}..{high}", lambda value: low <= value <= high, names


def _one_of(values: tuple[object, ...], name: str) -> Rule:
    return f"has to be {' or '.join(map(str, values))}", lambda value: value in values, name


RULES: list[Rule] = [
    (
        "has to be positive",
        lambda value: value > 0,
        "lr batch_seconds max_grad_norm augment_from_epoch checkpoint_steps long_seconds "
        "gradient_accumulation_steps units projector_dim vocabulary hidden decoder_layers "
        "decoder_heads kv_heads head_dim decoder_ff lora_alpha",
    ),
    (
        "must not be negative",
        lambda value: value >= 0,
        "wd warmup_steps decay_steps join_copies join_shorter average_over decoder_from_step",
    ),
    ("has to lie in [0, 1)", lambda value: 0 <= value < 1, "val_split middle_weight"),
    ("has to be from 0 to 2**63 - 1", lambda value: 0 <= value < 1 << 63, "seed"),
    ("has to be at most 10000", lambda value: value <= 10_000, "epochs"),
    _within(0, 1, "long_share context_share ctc_weight"),
    _within(0, 10, "silence_share"),
    _within(0, 1 << 12, "lora_rank"),
    _within(1, MAX_WINDOW_FRAMES // CHUNK_FRAMES, "window_seconds"),
    ("has to be at least 2", lambda value: value >= 2, "join_most"),
    ("has to be at least 100", lambda value: value >= 100, "max_mel_length"),
    _one_of((SAMPLE_RATE,), "sample_rate"),
    _one_of((WINDOW,), "win_length"),
    _one_of((HOP,), "hop_length"),
    _one_of((TOKEN_FRAMES,), "downsample_time"),
    _one_of((100 / TOKEN_FRAMES,), "target_hz"),
    _one_of(("conv2d", "conv1d"), "stem"),
    _one_of(get_args(TextForm), "text"),
]
"""Rules for the values that are not None."""


KINDS: dict[str, Any] = {"bool": bool, "int": int, "float": (int, float), "list[float]": list}
"""Python's types of JSON values by annotation; any other annotation is of text."""


def is_of_type(value: Any, annotation: str) -> bool:
    """Whether a JSON value has the type of a dataclass field; a bool is no number."""
    kind = annotation.removesuffix(" | None")
    if value is None:
        return kind != annotation
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, KINDS.get(kind, str))


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
            "A recipe has to be a JSON object", f"it is a {type(values).__name__}", "correct it"
        )
    twice = [name for former, name in FORMER_KEYS.items() if {former, name} <= values.keys()]
    if twice:
        raise TrainingError(
            "A recipe may hold every key once",
            f"it has {twice[0]} under its present and its former name",
            "remove one of them",
        )
    given: dict[str, Any] = values
    present = {FORMER_KEYS.get(name, name): value for name, value in given.items()}
    unknown = sorted(present.keys() - types.keys() - {"batch_size"})
    if unknown:
        raise TrainingError(
            f"A recipe may hold the keys {', '.join(types)}",
            f"it has {', '.join(unknown)}",
            "remove or rename them",
        )
    for name, value in present.items():
        _require_type(name, types.get(name, "int"), value)
    if "batch_size" not in present:
        return present
    size, frames = present.pop("batch_size"), present.get("max_mel_length", default_frames)
    if "batch_seconds" in present or size < 1:
        both = ", together with batch_seconds" if "batch_seconds" in present else ""
        raise TrainingError(
            "In a recipe batch_size has to be positive, and replaces batch_seconds",
            f"it is {size}{both}",
            "correct the recipe",
        )
    return {**present, "batch_seconds": size * frames / 100}


def _require_type(name: str, annotation: str, value: Any) -> None:
    rule = None
    if not is_of_type(value, annotation):
        rule = f"of type {annotation}"
    elif isinstance(value, int | float) and not abs(value) <= LARGEST and name != "seed":
        rule = f"a number of at most {LARGEST:.0e}"
    if rule is not None:
        raise TrainingError(
            f"In a recipe {name} has to be {rule}", f"it is {value!r}", "correct the recipe"
        )
