"""The weights of a language model next to those of a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from auris.checkpoints.lm_weights import LM_WEIGHTS, LmWeights, load_lm_weights, save_lm_weights
from auris.errors import CheckpointError


def test_written_weights_are_read_again(tmp_path: Path) -> None:
    weights = LmWeights(0.5, 2.5, 8, 0.4, "english", {"sets": {"dev": 0.25}})
    save_lm_weights(weights, tmp_path)
    assert load_lm_weights(tmp_path) == weights


def test_weights_of_earlier_versions_are_read(tmp_path: Path) -> None:
    content = (
        '{"format_version": 1, "weight": 0.5, "word_bonus": 1, "beam_size": 8, "measured": {}}'
    )
    (tmp_path / LM_WEIGHTS).write_text(content, encoding="utf-8")
    assert load_lm_weights(tmp_path) == LmWeights(0.5, 1.0, 8)


def test_a_model_without_the_file_has_none(tmp_path: Path) -> None:
    assert load_lm_weights(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"format_version": 2, "weight": 0.5, "word_bonus": 1, "beam_size": 8}',
        '{"format_version": 1, "weight": "much", "word_bonus": 1, "beam_size": 8}',
        '{"format_version": 1, "weight": 0.5, "word_bonus": 1e9, "beam_size": 8}',
        '{"format_version": 1, "weight": 0.5, "word_bonus": 1, "beam_size": 0}',
        '{"format_version": 1, "weight": 0.5, "word_bonus": 1, "beam_size": true}',
        '{"format_version": 1, "weight": 0.5, "word_bonus": 1, "beam_size": 8, "measured": 3}',
        '{"format_version": 1, "weight": 0.5, "word_bonus": 1, "beam_size": 8, "ctc_weight": "a"}',
        '{"format_version": 1, "weight": 0.5, "word_bonus": 1, "beam_size": 8, "lm": "../words"}',
        '{"format_version": 1, "weight": 0.5, "word_bonus": 1, "beam_size": 8, "lm": 3}',
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / LM_WEIGHTS).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match="fit it anew"):
        load_lm_weights(tmp_path)
