"""calibration.json: writing, reading, and damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.checkpoints.calibration import (
    CALIBRATION,
    Calibration,
    Logistic,
    load_calibration,
    save_calibration,
)
from auris.errors import CheckpointError

SAMPLE = Calibration(
    token=Logistic(0.5, (1.0, 2.0, 3.0)),
    word=Logistic(-0.25, (1.5, -2.0, 0.0, 4.0)),
    silence=Logistic(1.0, (0.1, 0.2, 0.3)),
    silence_threshold=0.75,
    measured={"held_out": {"ece": 0.01}},
)


def test_it_round_trips(tmp_path: Path) -> None:
    path = save_calibration(SAMPLE, tmp_path)
    assert path.name == CALIBRATION
    assert load_calibration(tmp_path) == SAMPLE


def test_a_directory_without_calibration(tmp_path: Path) -> None:
    assert load_calibration(tmp_path) is None


@given(st.floats(-1e6, 1e6), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2))
def test_results_are_probabilities(bias: float, features: list[float]) -> None:
    chance = Logistic(bias, (1e6, -1e6))(features)
    assert 0.0 <= chance <= 1.0


def test_a_map_is_monotonic() -> None:
    assert Logistic(0.0, (1.0,))([0.0]) == 0.5
    assert Logistic(0.0, (1.0,))([2.0]) == pytest.approx(0.880797, abs=1e-6)
    with pytest.raises(ValueError, match="zip"):
        Logistic(0.0, (1.0,))([1.0, 2.0])


def _damage(content: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    for key in way:
        content = content[key]
    if value is KeyError:
        del content[last]
    else:
        content[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format_version", 2),
        ("format_version", KeyError),
        ("silence_threshold", None),
        ("silence_threshold", True),
        ("silence_threshold", -0.1),
        ("silence_threshold", 1.1),
        ("measured", []),
        ("word", KeyError),
        ("word", [1, 2]),
        ("word.bias", "0.5"),
        ("word.bias", float("nan")),
        ("word.weights", {"mean": 1.0}),
        ("word.weights.mean", KeyError),
        ("word.weights.other", 1.0),
        ("token.weights.own", float("inf")),
        ("silence.weights.piece", None),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, path: str, value: Any) -> None:
    file = save_calibration(SAMPLE, tmp_path)
    content = json.loads(file.read_text())
    _damage(content, path, value)
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"calibration.json has to hold .* fit it anew"):
        load_calibration(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 1'])
def test_a_file_without_a_json_object_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / CALIBRATION).write_text(content)
    with pytest.raises(CheckpointError, match=r"calibration.json"):
        load_calibration(tmp_path)
