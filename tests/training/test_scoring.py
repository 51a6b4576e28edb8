"""Scores of a model in training on its development sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from auris.training.data import TrainingClip
from auris.training.examples import DataShard
from auris.training.score import Scorer, comparable, count_errors, score
from auris.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


@pytest.mark.parametrize("training", [True, False])
def test_transcription_disables_dropout_and_restores_the_mode(
    trainer: MakeTrainer,
    clips: list[TrainingClip],
    tmp_path: Path,
    training: bool,
) -> None:
    run = trainer(tmp_path, dropout=0.9)
    model = run.task.train(training)
    first, second = (Scorer(run.task).transcribe(clips) for _ in range(2))
    assert first == second
    assert len(set(first)) > 1
    assert model.training == training


def test_processes_share_the_scoring(
    trainer: MakeTrainer, clips: list[TrainingClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auris.training.score.BATCH_SECONDS", 1.0)
    task = Scorer(trainer(tmp_path).task)
    sets = {"all": clips, "some": clips[:3]}
    alone = score(task, sets)
    parts: list[torch.Tensor] = []
    rounds: list[int] = []

    def collect(values: torch.Tensor) -> torch.Tensor:
        parts.append(values)
        return values

    for rank in range(2):
        rounds.append(0)

        def count() -> None:
            rounds[-1] += 1

        score(task, sets, shard=DataShard(rank, 2), add_up=collect, after_batch=count)
    assert rounds[0] == rounds[1] > 1
    assert all(bool(part.any()) for part in parts)
    errors, losses = parts[0] + parts[2], parts[1] + parts[3]
    assert (errors[:, 0] / errors[:, 1]).tolist() == list(alone.rates.values())
    assert float(losses[0, 0] / losses[1, 0]) == pytest.approx(alone.loss, rel=1e-5)


def test_texts_without_spaces_are_compared_by_character() -> None:
    assert comparable("你好，世界！") == "你 好 世 界"
    assert comparable("ขอบคุณ") == " ".join("ขอบคุณ")
    assert comparable("ＯＫ 你好 Fine") == "ok 你 好 fine"
    assert comparable("What's up?") == "what's up"
    assert comparable("Room 5") == "room 5"


def test_one_wrong_character_is_not_a_wrong_text() -> None:
    assert count_errors(["今天天气很好"], ["今天天气不好"]) == (1, 6)
    assert count_errors(["", "a b"], ["c", "a b"]) == (1, 2)
