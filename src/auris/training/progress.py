"""Where a run stands, as a checkpoint records it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from auris.errors import TrainingError

__all__ = ["TrainingProgress"]

FORMER_NAMES = {"heard": "batches", "whole": "all_parts"}
"""Present names of fields that checkpoints of older versions have under another name."""


@dataclass
class TrainingProgress:
    """Where a run stands.

    Attributes:
        epoch, batch, step: the next epoch and batch of it, and the steps done, all from 0. With
            all batches of an epoch done, what remains of it is scoring.
        batches: batches of the whole run so far.
        losses: losses of the epoch's steps so far.
        skipped: steps of the run whose loss or gradient was not finite.
        best: lowest mean error rate so far (or training loss, without development sets).
        all_parts: whether that was with every part of the model in training.
        data: fingerprint of the clips in their order.
        seconds: time spent in the epoch so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    batches: int = 0
    losses: list[float] = field(default_factory=list)
    skipped: int = 0
    best: float | None = None
    all_parts: bool = False
    data: str = ""
    seconds: float = 0.0

    @property
    def loss(self) -> float:
        """Mean of the epoch's finite losses."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        return math.fsum(finite) / len(finite) if finite else math.nan

    @classmethod
    def of(cls, values: Any) -> TrainingProgress:
        """From a checkpoint's JSON.

        Raises:
            TrainingError: it is not what a checkpoint holds.
        """
        try:
            given = {FORMER_NAMES.get(name, name): value for name, value in values.items()}
            progress = cls(**given)
            counts = (progress.epoch, progress.batch, progress.step, progress.batches)
            numbers = [*counts, progress.skipped, progress.seconds, progress.best or 0.0]
            numbers += progress.losses
            sound = all(isinstance(number, (int, float)) for number in numbers) and (
                all(isinstance(n, int) and n >= 0 for n in counts)
                and {each.name for each in fields(cls)} == set(given)
                and isinstance(progress.data, str)
            )
        except (AttributeError, TypeError):
            sound = False
        if not sound:
            raise TrainingError(
                "progress.json of a checkpoint has to be as training wrote it",
                "it is not",
                "start a new run",
            )
        return progress

    def to_dict(self) -> dict[str, Any]:
        """As a checkpoint records it."""
        return asdict(self)

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.batch, self.losses, self.seconds = self.epoch + 1, 0, [], 0.0
