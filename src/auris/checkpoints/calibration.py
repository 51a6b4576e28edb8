"""calibration.json next to a model's weights: what its probabilities are worth.

Only Auris reads the file; other programs load the model without it. It holds three logistic maps
from features that `auris.recognition.confidence` makes to probabilities, and what was measured
when they were fitted. A model without the file has no calibration. New weights need a new one:
`measured` names the weights that it was fitted to by their hash.

calibration_search.json holds the same for texts of a search with a beam of 2 or more: of texts
with the same log-probabilities, other shares are right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auris.checkpoints.configs import write_json
from auris.checkpoints.versioned_json import VersionedJson, read_versioned

CALIBRATION = "calibration.json"

SEARCH_CALIBRATION = "calibration_search.json"

FILES = (CALIBRATION, SEARCH_CALIBRATION)

FORMAT_VERSION = 1

TOKEN_FEATURES = ("own", "lowest", "piece")
WORD_FEATURES = ("mean", "lowest", "piece", "tokens")
SILENCE_FEATURES = ("silence", "piece", "empty")
"""Features of each map, in order; see `auris.recognition.confidence`."""

LARGEST_WEIGHT = 1e6


@dataclass(frozen=True)
class Logistic:
    """A map from features to a probability: 1 / (1 + exp(-(bias + weights · features)))."""

    bias: float
    weights: tuple[float, ...]

    def __call__(self, features: Sequence[float]) -> float:
        """The probability, 0..1; features as many as weights."""
        parts = (w * x for w, x in zip(self.weights, features, strict=True))
        score = self.bias + math.fsum(parts)
        # Beyond it the probability is 0 or 1 in float64, and exp would overflow.
        return 1.0 / (1.0 + math.exp(-min(max(score, -500.0), 500.0)))


@dataclass(frozen=True)
class Calibration:
    """What a model's probabilities are worth.

    Attributes:
        token: probability that the words a token writes are right, of `TOKEN_FEATURES`.
        word: probability that a word is right, of `WORD_FEATURES`.
        silence: probability that a chunk holds no speech, of `SILENCE_FEATURES`.
        silence_threshold: a chunk with a larger probability is judged to hold no speech.
        measured: how it was fitted and what came of it, for readers.
    """

    token: Logistic
    word: Logistic
    silence: Logistic
    silence_threshold: float
    measured: Mapping[str, Any] = field(default_factory=dict)


MAPS = {"token": TOKEN_FEATURES, "word": WORD_FEATURES, "silence": SILENCE_FEATURES}


@dataclass(frozen=True)
class Calibrations:
    """The calibrations of a model.

    Attributes:
        greedy: of texts that were decoded greedily or sampled.
        search: of texts of a search.
    """

    greedy: Calibration | None = None
    search: Calibration | None = None

    def of_beam(self, beam_size: int) -> Calibration | None:
        """The calibration of a text; that of the other texts where there is only one."""
        own, other = self.greedy, self.search
        if beam_size > 1:
            own, other = other, own
        return other if own is None else own


NO_CALIBRATIONS = Calibrations()


def save_calibrations(calibrations: Calibrations, directory: Path) -> None:
    """Write the calibrations of a model next to its weights."""
    for name, calibration in zip(FILES, vars(calibrations).values(), strict=True):
        if calibration is not None:
            save_calibration(calibration, directory, name)


def load_calibrations(directory: Path) -> Calibrations:
    """Read the calibrations of a model directory.

    Raises:
        CheckpointError: a file is damaged, or of another version.
    """
    return Calibrations(*(load_calibration(directory, name) for name in FILES))


def save_calibration(
    calibration: Calibration, directory: Path, file_name: str = CALIBRATION
) -> Path:
    """Write a calibration next to a model's weights; returns the file."""
    content: dict[str, Any] = {"format_version": FORMAT_VERSION}
    for name, features in MAPS.items():
        fitted: Logistic = getattr(calibration, name)
        weights = dict(zip(features, fitted.weights, strict=True))
        content[name] = {"bias": fitted.bias, "weights": weights}
    content["silence_threshold"] = calibration.silence_threshold
    content["measured"] = dict(calibration.measured)
    return write_json(directory / file_name, content)


def load_calibration(directory: Path, file_name: str = CALIBRATION) -> Calibration | None:
    """Read a calibration of a model directory; None where it has none.

    Raises:
        CheckpointError: the file is damaged, or of another version.
    """
    file = read_versioned(
        directory / file_name,
        FORMAT_VERSION,
        "benchmarks/calibration.py",
        "fit it anew, or remove it for uncalibrated confidences",
    )
    if file is None:
        return None
    threshold = file.number(file.values.get("silence_threshold"), "silence_threshold", 1.0)
    if threshold < 0.0:
        raise file.damaged(f"silence_threshold is {threshold!r}, not 0 to 1")
    maps = {name: _logistic(file, name) for name in MAPS}
    return Calibration(silence_threshold=threshold, measured=file.measured, **maps)


def _logistic(file: VersionedJson, name: str) -> Logistic:
    features, content = MAPS[name], file.values.get(name)
    given = content if isinstance(content, dict) else {}
    weights = given.get("weights")
    if not isinstance(weights, dict) or set(weights) != set(features):
        names = sorted(weights) if isinstance(weights, dict) else None
        raise file.damaged(f"{name!r} has to weigh {', '.join(features)}, and weighs {names}")
    return Logistic(
        file.number(given.get("bias"), f"bias of {name!r}", LARGEST_WEIGHT),
        tuple(
            file.number(weights[feature], f"weight of {feature!r} in {name!r}", LARGEST_WEIGHT)
            for feature in features
        ),
    )
