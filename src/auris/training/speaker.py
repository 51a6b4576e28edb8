"""Training of a speaker encoder: its losses, and its error rate on pairs of clips."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from itertools import chain, count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from auris.audio.features import log_mel
from auris.models.speaker_encoder import SpeakerEncoder
from auris.training.data import TrainingClip, fingerprint
from auris.training.examples import floats
from auris.training.loop import LoopParts, TrainingLoop
from auris.training.score import DevScores
from auris.training.speaker_data import SPEEDS, UNKNOWN, SpeakerBatch, SpeakerClips
from auris.training.speaker_recipe import DEFAULT_THRESHOLD, SpeakerRecipe
from auris.training.tasks import TrainedModel
from auris.training.trainer import count_steps
from auris.training.voices import MOST_CROPS, MOST_EPOCHS, measure
from auris.types import SAMPLE_RATE

TRIAL_SECONDS = 2.0
"""Length of the clips of a pair."""

MOST_TRIALS = 12
"""Clips of each speaker of a development set."""

STEM = "model.encoder.stem."


class SpeakerTask(TrainedModel):
    """A speaker encoder and the classes of its training speakers.

    Attributes:
        threshold: similarity at which as many pairs of one speaker are lower as pairs of two are
            higher, in the development sets that were scored last.
    """

    threshold: Tensor

    def __init__(self, recipe: SpeakerRecipe, speakers: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = SpeakerEncoder(recipe.model_config())
        self.classes = nn.Parameter(0.05 * torch.randn(speakers * len(SPEEDS), recipe.embedding))
        self.register_buffer("threshold", torch.tensor(DEFAULT_THRESHOLD))
        self.margin = recipe.margin

    def forward(self, batch: SpeakerBatch, all_parts: bool = True) -> tuple[Tensor, Tensor]:
        """Sums and counts of two losses: of the classes, and of the distance from the teacher."""
        embeddings = self.model(batch.mels, self.recipe.train_stem)
        targets = torch.tensor([target for (target,) in batch.targets], device=embeddings.device)
        known = targets != UNKNOWN
        cosines = embeddings[known] @ F.normalize(self.classes.float(), dim=-1).T
        margins = self.margin * F.one_hot(targets[known], len(self.classes))
        logits = self.recipe.scale * (cosines - margins)
        classes = F.cross_entropy(logits, targets[known], reduction="sum")
        taught = batch.teachers.any(1)
        distances = 1.0 - (embeddings[taught] * batch.teachers[taught]).sum(-1)
        sums = torch.stack([classes, self.recipe.teacher_weight * distances.sum()])
        return sums, torch.stack([known.sum(), taught.sum()]).float()

    def begin_step(self, step: int) -> None:
        """Let the margin grow, since a new encoder learns nothing with a large one."""
        grown = step / (2 * self.recipe.warmup_steps + 1)
        self.margin = self.recipe.margin * min(1.0, grown)

    def rate_share(self, name: str) -> float:
        """The stem, which may come from another model, changes more slowly."""
        return self.recipe.stem_rate if name.startswith(STEM) else 1.0


class SpeakerTrainer(TrainingLoop):
    """Trains a `SpeakerTask`; the rates of development sets are equal error rates."""

    recipe: SpeakerRecipe
    task: SpeakerTask

    def __init__(self, parts: LoopParts, data: SpeakerClips) -> None:
        self._data = data
        super().__init__(parts)

    def _fingerprint(self) -> str:
        teacher = self._data.teacher
        return fingerprint(self._data.clips) + ("" if teacher is None else f" {teacher.digest}")

    def _count_steps(self) -> int:
        batches = (len(self._data.plan(epoch).batches) for epoch in count())
        return count_steps(self.recipe, batches)

    def _batches(self, epoch: int, first: int) -> Generator[SpeakerBatch, None, None]:
        return self._data.load(epoch, first)

    def _scores(self, all_parts: bool) -> DevScores:
        self.task.eval()
        self._measure_voices()
        if not self.dev:
            return DevScores({})
        errors = {name: pair_errors(self.task.model, clips) for name, clips in self.dev.items()}
        thresholds = [threshold for _, threshold in errors.values()]
        mean = math.fsum(thresholds) / len(thresholds)
        self.task.threshold.fill_(min(mean, 1.0))  # Products of unit vectors may exceed 1.
        return DevScores({name: rate for name, (rate, _) in errors.items()})

    def _measure_voices(self) -> None:
        """Measure how the embeddings of crops vary."""
        voices = self.task.model.voices
        assert voices is not None
        embeddings, speakers = crop_embeddings(self.task.model, self._data, self.fabric.device)
        measure(voices, embeddings, speakers)


@torch.inference_mode()
def crop_embeddings(
    model: SpeakerEncoder, data: SpeakerClips, device: torch.device
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Embeddings of the crops of the first epochs, and the numbers of their classes."""
    rows: list[NDArray[np.float64]] = []
    targets: list[int] = []
    batches = chain.from_iterable(data.load(epoch) for epoch in range(MOST_EPOCHS))
    for batch in batches:
        rows.append(model(batch.to(device).mels).double().cpu().numpy())
        targets += [target for (target,) in batch.targets]
        if len(targets) >= MOST_CROPS:
            break
    return np.concatenate(rows), np.array(targets)


@torch.inference_mode()
def pair_errors(model: SpeakerEncoder, clips: Sequence[TrainingClip]) -> tuple[float, float]:
    """Equal error rate of all pairs of clips of known speakers, and its threshold.

    Clips are cut to two seconds, and of each speaker only the first ones are used.
    """
    embeddings: dict[str, list[Tensor]] = {}
    encoder = model.config.encoder
    for clip in clips:
        mine = embeddings.setdefault(clip.speaker, [])
        if clip.speaker and len(mine) < MOST_TRIALS:
            samples = floats(clip)[: int(TRIAL_SECONDS * SAMPLE_RATE)]
            mine.append(model([log_mel(samples, model.config.frontend, encoder.mel_bins)])[0])
    speakers = np.repeat(np.arange(len(embeddings)), [len(one) for one in embeddings.values()])
    rows = torch.stack([one for mine in embeddings.values() for one in mine])
    first, second = np.triu_indices(len(rows), 1)
    return equal_errors(
        (rows @ rows.T).float().numpy()[first, second], speakers[first] == speakers[second]
    )


def equal_errors(similarities: NDArray[np.float32], same: NDArray[np.bool_]) -> tuple[float, float]:
    """Equal error rate of pairs, and the similarity at which it lies.

    Args:
        similarities: of each pair.
        same: whether it is of one speaker.
    """
    order = np.argsort(-similarities, kind="stable")
    missed = 1.0 - np.cumsum(same[order]) / max(int(same.sum()), 1)
    alarms = np.cumsum(~same[order]) / max(int((~same).sum()), 1)
    index = int(np.argmin(np.abs(missed - alarms)))
    return float(missed[index] + alarms[index]) / 2, float(similarities[order[index]])
