"""lm_weights.json next to a model's weights: how much a language model counts in its search.

`auris benchmark lm` fits the numbers on development sets and writes the file. A model without it
is searched with general ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from auris.checkpoints.configs import is_number, read_json, write_json
from auris.errors import CheckpointError

LM_WEIGHTS = "lm_weights.json"

FORMAT_VERSION = 1

LARGEST_WEIGHT = 100.0


@dataclass(frozen=True)
class LmWeights:
    """How a model is searched with a language model.

    Attributes:
        weight: of the log-probabilities of the language model.
        word_bonus: what every word adds; it makes up for the cost of a longer text.
        beam_size: hypotheses that are followed where a call does not say.
        measured: how the numbers were fitted and what came of it, for readers.
    """

    weight: float
    word_bonus: float
    beam_size: int = 8
    measured: Mapping[str, Any] = field(default_factory=dict)


def save_lm_weights(weights: LmWeights, directory: Path) -> Path:
    """Write the file next to a model's weights; returns it."""
    content = {"format_version": FORMAT_VERSION, **asdict(weights)}
    return write_json(directory / LM_WEIGHTS, content)


def load_lm_weights(directory: Path) -> LmWeights | None:
    """Read the file of a model directory; None where there is none.

    Raises:
        CheckpointError: the file is damaged, or of another version.
    """
    path = directory / LM_WEIGHTS
    if not path.exists():
        return None
    content = read_json(path)
    if content.get("format_version") != FORMAT_VERSION:
        raise _damaged(path, f"its format_version is {content.get('format_version')!r}")
    weight, word_bonus = content.get("weight"), content.get("word_bonus")
    beam_size, measured = content.get("beam_size"), content.get("measured", {})
    if not _is_weight(weight) or not _is_weight(word_bonus):
        raise _damaged(path, f"weight and word_bonus are {weight!r} and {word_bonus!r}")
    if not isinstance(beam_size, int) or isinstance(beam_size, bool) or beam_size < 1:
        raise _damaged(path, f"beam_size is {beam_size!r}")
    if not isinstance(measured, dict):
        raise _damaged(path, f"measured is {measured!r}")
    return LmWeights(float(weight), float(word_bonus), beam_size, measured)


def _is_weight(value: Any) -> TypeGuard[float]:
    return is_number(value) and abs(value) <= LARGEST_WEIGHT


def _damaged(path: Path, fault: str) -> CheckpointError:
    return CheckpointError(
        f"{LM_WEIGHTS} has to hold what auris benchmark lm writes",
        f"in {str(path)!r} {fault}",
        "fit it anew, or remove it",
    )
