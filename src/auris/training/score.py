"""Error rates and loss of a model in training on its development sets."""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from auris.evaluation.wer import normalizer_named, word_edits
from auris.text.words import unspaced
from auris.training.data import TrainingClip
from auris.training.examples import DataShard, Preprocessor, TrainingBatch, floats
from auris.training.sampler import by_length
from auris.training.tasks import Losses, Task

BATCH_SECONDS = 50.0


@dataclass(frozen=True)
class DevScores:
    """Error rates of the development sets as fractions, over `comparable` words, and the loss per
    unit over all sets, as in training; not a number without sets."""

    rates: dict[str, float]
    loss: float = math.nan

    @property
    def mean(self) -> float:
        """Mean error rate; not a number without sets."""
        return sum(self.rates.values()) / len(self.rates) if self.rates else math.nan


@dataclass(frozen=True)
class Scorer:
    """A model in training, and how it computes.

    Attributes:
        task: the model, in evaluation mode only while it computes.
        device: where the model is.
        bf16: compute in bfloat16 where autocast does.
        all_parts: whether every part of the model has been trained.
    """

    task: Task
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bf16: bool = False
    all_parts: bool = True

    @property
    def _preprocessor(self) -> Preprocessor:
        return dataclasses.replace(self.task.preprocessor, frames=None)  # As in recognition.

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.task.training
        self.task.eval()
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, self.bf16):
            yield
        self.task.train(training)

    def transcribe(self, clips: Sequence[TrainingClip]) -> list[str]:
        """Greedy transcripts of a batch of clips."""
        preprocessor = self._preprocessor
        mels = [preprocessor.mel(floats(clip)).to(self.device) for clip in clips]
        with self._evaluating():
            return self.task.write(mels, [clip.prompt for clip in clips], self.all_parts)

    def losses(self, clips: Sequence[TrainingClip]) -> Losses | None:
        """Losses of clips; None where CTC cannot align any of their texts."""
        preprocessor = self._preprocessor
        batch = TrainingBatch([], [], [], [])
        for clip in clips:
            samples, ids = floats(clip), tuple(preprocessor.spell(clip.text))
            if preprocessor.fits(samples, ids):
                batch.mels.append(preprocessor.mel(samples))
                batch.targets.append(ids)
                batch.languages.append(clip.language)
                batch.contexts.append(clip.prompt)
        if not batch.mels:
            return None
        with self._evaluating():
            return Losses(*self.task(batch.to(self.device), self.all_parts))


def comparable(text: str) -> str:
    """A text as it is compared: its spoken form, or else the text in lower case.

    In a text with characters of scripts that have no spaces between words, each such character
    becomes a word, and punctuation is dropped. The word error rate of such a text is then its
    character error rate.
    """
    compared = normalizer_named("spoken")(text)
    if not any(map(unspaced, compared)):
        return compared
    letters = unicodedata.normalize("NFKC", compared)
    plain = (char if unicodedata.category(char)[0] in "LMN" else " " for char in letters)
    return " ".join("".join(f" {c} " if unspaced(c) else c for c in plain).split())


def count_errors(references: Sequence[str], texts: Sequence[str]) -> tuple[int, int]:
    """Edits between texts and their references, and words of the references."""
    expected, written = map(comparable, references), map(comparable, texts)
    edits = words = 0
    for reference, text in zip(expected, written, strict=True):
        edits += word_edits(reference, text).total()
        words += len(reference.split())
    return edits, words


def score(
    scorer: Scorer,
    sets: Mapping[str, Sequence[TrainingClip]],
    shard: DataShard | None = None,
    add_up: Callable[[Tensor], Tensor] = lambda values: values,
    after_batch: Callable[[], None] = lambda: None,
) -> DevScores:
    """Score the development sets; the processes of a run share the batches.

    The batches are those of one process, so the rates do not depend on the number of processes.

    Args:
        sets: clips by the name of their set.
        shard: the part of the batches that this process scores.
        add_up: adds values up over all processes.
        after_batch: called equally often in every process, so that no process waits long.
    """
    if not sets:
        return DevScores({})
    shard = shard or DataShard()
    errors, sums = torch.zeros(len(sets), 2, dtype=torch.int64), torch.zeros(2, 2)
    batches = [
        (number, [clips[i] for i in batch])
        for number, clips in enumerate(sets.values())
        for batch in by_length([clip.seconds for clip in clips], BATCH_SECONDS)
    ]
    for first in range(0, len(batches), shard.of):
        for number, clips in shard.take(batches[first : first + shard.of]):
            texts = scorer.transcribe(clips)
            errors[number] += torch.tensor(count_errors([clip.text for clip in clips], texts))
            losses = scorer.losses(clips)
            if losses is not None:
                kinds = len(losses.sums)
                sums[0, :kinds] += losses.sums.cpu()
                sums[1, :kinds] += losses.counts.cpu()
        after_batch()
    errors, sums = add_up(errors.to(scorer.device)), add_up(sums.to(scorer.device))
    edits, words = errors.cpu().unbind(1)
    loss = float(Losses(*sums.cpu()).total) if bool(sums[1].any()) else math.nan
    rates = (edits / words.clamp(min=1)).tolist()
    return DevScores(dict(zip(sets, rates, strict=True)), loss)
