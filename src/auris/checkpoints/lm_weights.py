"""lm_weights.json next to a model's weights: how the model is searched with a language model.

`auris benchmark lm` fits the numbers on development sets and writes the file. A model without it
is searched with general ones. If the file names a language model, texts are searched with it by
default: this file alone decides the default search of a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from auris.checkpoints.configs import write_json
from auris.checkpoints.versioned_json import read_versioned

LM_WEIGHTS = "lm_weights.json"

FORMAT_VERSION = 1

LARGEST_WEIGHT = 100.0

CTC_WEIGHT = 0.3
"""Weight of the scores of a CTC head in a search with a decoder, if nothing else is known."""


@dataclass(frozen=True)
class LmWeights:
    """How a model is searched with a language model.

    Attributes:
        weight: of the log-probabilities of the language model.
        word_bonus: what every word adds; it makes up for the cost of a longer text.
        beam_size: hypotheses that are followed where a call does not say.
        ctc_weight: of the scores of the CTC head next to the weights of a model with a decoder.
        lm: name of the language model that is used by default: that of a bundled one, or of a file
            in the directory of the model; None for none.
        measured: how the numbers were fitted and what came of it, for readers.
    """

    weight: float
    word_bonus: float
    beam_size: int = 8
    ctc_weight: float = CTC_WEIGHT
    lm: str | None = None
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
    file = read_versioned(
        directory / LM_WEIGHTS, FORMAT_VERSION, "auris benchmark lm", "fit it anew, or remove it"
    )
    if file is None:
        return None
    numbers = {"ctc_weight": CTC_WEIGHT, **file.values}
    weight, word_bonus, ctc_weight = (
        file.number(numbers.get(name), name, LARGEST_WEIGHT)
        for name in ("weight", "word_bonus", "ctc_weight")
    )
    beam_size, lm = file.values.get("beam_size"), file.values.get("lm")
    if not isinstance(beam_size, int) or isinstance(beam_size, bool) or beam_size < 1:
        raise file.damaged(f"beam_size is {beam_size!r}")
    if lm is not None and (not isinstance(lm, str) or lm in ("", "..") or Path(lm).name != lm):
        raise file.damaged(f"lm is {lm!r}, no name of a file")
    return LmWeights(weight, word_bonus, beam_size, ctc_weight, lm, file.measured)
