"""What a run is trained on: clips in memory, or a corpus that is read meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from auris.training.corpus.plan import CorpusPlan
from auris.training.data import ClipForm, DataReport, TrainedOn, TrainingClip, with_units
from auris.training.examples import Preprocessor
from auris.training.trainer import (
    CorpusTrainer,
    RecognizerParts,
    RecognizerTrainer,
    Trainer,
)


class RunData(Protocol):
    """The training data of a run."""

    @property
    def held_out(self) -> list[TrainingClip]:
        """Clips that are scored instead."""

    def texts(self) -> list[str]:
        """Texts from which a vocabulary is learned."""

    def trained_on(self, contexts: bool) -> TrainedOn:
        """What the model sees; `contexts` whether rows get contexts anyway."""

    def spell(self, preprocessor: Preprocessor) -> None:
        """Give the clips their units."""

    def describe(self, names: int | None = 5) -> str:
        """The data as text; with `names` of the rows that are left out, or all."""

    def trainer(self, parts: RecognizerParts) -> RecognizerTrainer:
        """The loop over the data."""


@dataclass
class ClipsInMemory:
    """Clips of manifests, read before the run."""

    report: DataReport
    held_out: list[TrainingClip] = field(default_factory=list)

    def texts(self) -> list[str]:
        """Those of all clips."""
        return [clip.text for clip in self.report.clips]

    def trained_on(self, contexts: bool) -> TrainedOn:
        """Of all clips."""
        return TrainedOn.of(self.report.clips, contexts)

    def spell(self, preprocessor: Preprocessor) -> None:
        """Give the clips their units, and leave out those that CTC cannot align."""
        self.report = with_units(self.report, preprocessor.spell, preprocessor.aligned)

    def describe(self, names: int | None = 5) -> str:
        """The report on the clips."""
        return self.report.describe(names)

    def trainer(self, parts: RecognizerParts) -> Trainer:
        """The loop over the clips."""
        return Trainer(parts, self.report.clips)


@dataclass
class CorpusInStorage:
    """A corpus that is read while the model is trained."""

    plan: CorpusPlan
    form: ClipForm
    held_out: list[TrainingClip] = field(default_factory=list)

    def texts(self) -> list[str]:
        """Those that the sources state."""
        return self.plan.texts(self.form)

    def trained_on(self, contexts: bool) -> TrainedOn:
        """As far as the sources state it."""
        return self.plan.trained_on(self.form, contexts)

    def spell(self, preprocessor: Preprocessor) -> None:
        """Clips get their units when they are read."""

    def describe(self, names: int | None = 5) -> str:
        """The plan."""
        return self.plan.describe()

    def trainer(self, parts: RecognizerParts) -> CorpusTrainer:
        """The loop over the corpus."""
        return CorpusTrainer(parts, self.plan, self.form)
