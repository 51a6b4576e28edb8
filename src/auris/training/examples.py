"""From clips in memory to the inputs of one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from auris.audio.features import HOP, log_mel, mel_frames
from auris.config import FRAME_SECONDS, TOKEN_FRAMES, Frontend, audio_tokens
from auris.decoding.ctc import frames_needed
from auris.training import augment
from auris.training.augment import GAP_SECONDS, PAUSE_SECONDS
from auris.training.contexts import ContextSource
from auris.training.data import TrainingClip
from auris.training.recipes import RecognizerRecipe
from auris.training.sampler import batches, long_rows, short_rows
from auris.training.stopping import defer_signals, signals_blocked
from auris.types import Samples

SILENCE_SECONDS = (1.0, 15.0)
"""Lengths of examples in which nobody speaks."""

Item = TypeVar("Item")

PLAN, AUDIO, DROPOUT, CONTEXT = range(4)
"""Purposes of random numbers; each has a generator of its own."""


@dataclass  # Not frozen, since Fabric writes the types of its precision into a copy.
class TrainingBatch:
    """Inputs and targets of one step.

    Attributes:
        mels: [bins, T_i] of each example.
        targets: unit ids of each example; none where nobody speaks.
        languages: English name of each example's language, "None" where nobody speaks.
        contexts: context in the prompt of each example.
        texts: unit ids of texts without audio, in addition to the examples.
        counted: whether the losses count. A process without an example of its own computes one
            that does not count, since all processes have to take every step.
    """

    mels: list[Tensor]
    targets: list[tuple[int, ...]]
    languages: list[str]
    contexts: list[str]
    texts: list[tuple[int, ...]] = field(default_factory=list)
    counted: bool = True

    def to(self, device: torch.device) -> TrainingBatch:
        """The batch with its mels on a device."""
        return dataclasses.replace(self, mels=[mel.to(device) for mel in self.mels])


@dataclass(frozen=True)
class Preprocessor:
    """Makes features of audio and ids of texts.

    Attributes:
        frontend, mel_bins: of the log-mel.
        spell: unit ids of a text.
        frames: length that every mel is padded to with silence, or None for its own.
        aligned: whether CTC has to align texts to audio, so that a text may be too long.
    """

    frontend: Frontend
    mel_bins: int
    spell: Callable[[str], list[int]]
    frames: int | None = None
    aligned: bool = True

    def mel(self, samples: Samples) -> Tensor:
        """[bins, T] of samples."""
        if self.frames is not None:
            samples = np.pad(samples, (0, max(0, self.frames * HOP - len(samples))))
        return log_mel(samples, self.frontend, self.mel_bins)

    def fits(self, samples: Samples, ids: Sequence[int]) -> bool:
        """Whether the samples are not too long, and CTC can align the units if it has to."""
        if self.frames is not None and len(samples) > self.frames * HOP:
            return False
        return not self.aligned or frames_needed(ids) <= audio_tokens(mel_frames(len(samples)))


@dataclass(frozen=True)
class EpochPlan:
    """The examples of an epoch and their batches.

    Attributes:
        epoch: from 0; it decides whether examples are augmented.
        key: what random numbers depend on, in addition to the seed.
        examples: clips of each example; an example without clips is one without speech.
        batches: examples of each batch.
        contexts: drawn for some examples, by their numbers.
    """

    epoch: int
    key: tuple[int, ...]
    examples: list[tuple[int, ...]]
    seconds: list[float]
    batches: list[list[int]]
    contexts: Mapping[int, str]


def generator(*words: int) -> np.random.Generator:
    """A random generator whose seed is `words`, so that a resumed run draws the same numbers."""
    return np.random.default_rng(list(words))


def plan_epoch(
    clips: Sequence[TrainingClip],
    recipe: RecognizerRecipe,
    epoch: int,
    key: tuple[int, ...] | None = None,
) -> EpochPlan:
    """The plan of an epoch, counted from 0.

    Args:
        key: what random numbers depend on; by default the epoch.
    """
    key = (epoch,) if key is None else key
    rng = generator(recipe.seed, PLAN, *key)
    lengths = [planned_seconds(clip) for clip in clips]
    recorded = [i for i, clip in enumerate(clips) if clip.has_audio]
    rows: list[tuple[int, ...]] = [(i,) for i in range(len(clips))]
    silence: list[float] = []
    if _augments(recipe, epoch):
        joined = short_rows(clips, rng, recipe.join_shorter, recipe.join_most, recipe.join_copies)
        paused = [lengths[i] + PAUSE_SECONDS[1] for i in recorded]
        longest = min(recipe.long_seconds, recipe.longest_seconds, recipe.batch_seconds)
        long = long_rows(paused, rng, recipe.long_share, longest)
        joined += [tuple(recorded[i] for i in row) for row in long]
        rows += [row for row in joined if _alike([clips[i] for i in row])]
        drawn = rng.uniform(*SILENCE_SECONDS, int(recipe.silence_share * len(recorded)))
        silence = drawn.clip(max=recipe.longest_seconds).tolist()
    # A clip under half a second costs as much as one of half a second.
    seconds = [max(sum(lengths[i] for i in row), 0.5) for row in rows] + silence
    rows += [()] * len(silence)
    contexts = _contexts(clips, rows, recipe, key)
    if not recipe.use_compile:
        grouped = batches(seconds, recipe.batch_seconds, rng)
        return EpochPlan(epoch, key, rows, seconds, grouped, contexts)
    # The last batch is filled up with examples that are used twice.
    order = rng.permutation(len(rows))
    filled = np.resize(order, -(-len(rows) // recipe.rows) * recipe.rows)
    grouped = filled.reshape(-1, recipe.rows).tolist()
    return EpochPlan(epoch, key, rows, seconds, grouped, contexts)


def _contexts(
    clips: Sequence[TrainingClip],
    rows: Sequence[tuple[int, ...]],
    recipe: RecognizerRecipe,
    key: tuple[int, ...],
) -> dict[int, str]:
    """Contexts of a share of the examples whose clips have no prompt of their own."""
    if recipe.context_share == 0:
        return {}
    rng = generator(recipe.seed, CONTEXT, *key)
    source = ContextSource([clip.text for clip in clips])
    return {
        number: source.draw(" ".join(clips[i].text for i in row), rng)
        for number, row in enumerate(rows)
        if rng.random() < recipe.context_share
        and all(clips[i].has_audio and not clips[i].prompt for i in row)
    }


def planned_seconds(clip: TrainingClip) -> float:
    """Length of a clip; of a text without audio, that of as many encoder tokens as it has units."""
    return clip.seconds if clip.has_audio else FRAME_SECONDS * TOKEN_FRAMES * len(clip.ids)


def _alike(members: Sequence[TrainingClip]) -> bool:
    """Whether clips may be joined: all with words, of one language and one prompt."""
    kinds = {(clip.language, clip.prompt) for clip in members}
    return len(kinds) == 1 and all(clip.ids for clip in members)


def _augments(recipe: RecognizerRecipe, epoch: int) -> bool:
    return epoch + 1 >= recipe.augment_from_epoch


def floats(clip: TrainingClip) -> Samples:
    """Samples as float32 in -1..1."""
    return clip.samples.astype(np.float32) / 32768.0


def _example(
    members: Sequence[TrainingClip],
    preprocessor: Preprocessor,
    rng: np.random.Generator,
    augmented: bool,
) -> tuple[Samples, tuple[int, ...]]:
    """Audio and units; an example that cannot be aligned once varied is used as recorded."""
    if augmented:
        ids = tuple(preprocessor.spell(" ".join(clip.text for clip in members)))
        one_voice = len({clip.speaker for clip in members}) == 1
        pauses = GAP_SECONDS if one_voice else PAUSE_SECONDS
        joined = augment.join([floats(clip) for clip in members], rng, pauses)
        varied = augment.vary(joined, rng)
        if preprocessor.fits(varied, ids):
            return varied, ids
        if preprocessor.fits(joined, ids):
            return joined, ids
    return floats(members[0]), members[0].ids


@dataclass(frozen=True)
class DataShard:
    """The part of every batch that a process computes: each `of`-th row from `rank` on."""

    rank: int = 0
    of: int = 1

    def take(self, rows: Sequence[Item]) -> Sequence[Item]:
        """The rows of this part; perhaps none."""
        return rows[self.rank :: self.of]


Packed = tuple[Tensor, list[int], TrainingBatch]
"""The mels of a batch in a row [bins, sum of T_i], their lengths, and the batch without them.

A worker hands every tensor over in a file of shared memory, and a process may have few open.
"""


def packed(batch: TrainingBatch) -> Packed:
    """A batch as a worker hands it over."""
    lengths = [mel.shape[1] for mel in batch.mels]
    mels = torch.cat(batch.mels, dim=1) if batch.mels else torch.zeros(0, 0)
    return mels, lengths, dataclasses.replace(batch, mels=[])


def unpacked(given: Packed) -> TrainingBatch:
    """The batch that `packed` was given."""
    mels, lengths, batch = given
    return dataclasses.replace(batch, mels=list(mels.split(lengths, dim=1)))


@dataclass(frozen=True)
class EpochBatches(Dataset[Packed]):
    """A process's share of the batches of an epoch, each a function of its index."""

    clips: Sequence[TrainingClip]
    recipe: RecognizerRecipe
    preprocessor: Preprocessor
    plan: EpochPlan
    shard: DataShard = DataShard()

    def batch(self, index: int) -> TrainingBatch:
        """The batch of an index."""
        plan, preprocessor = self.plan, self.preprocessor
        augmented = _augments(self.recipe, plan.epoch)
        rows = self.shard.take(plan.batches[index])
        batch = TrainingBatch([], [], [], [], counted=bool(rows))
        for row in rows or plan.batches[index][:1]:
            rng = generator(self.recipe.seed, AUDIO, *plan.key, row)
            members = [self.clips[i] for i in plan.examples[row]]
            if members and not members[0].has_audio:
                batch.texts.append(members[0].ids)
                continue
            samples, ids = (
                _example(members, preprocessor, rng, augmented)
                if members
                else (augment.without_speech(rng, plan.seconds[row]), ())
            )
            mel = preprocessor.mel(samples)
            batch.mels.append(augment.mask(mel, rng) if augmented and members else mel)
            batch.targets.append(ids)
            batch.languages.append(members[0].language if members else "None")
            prompt = members[0].prompt if members else ""
            batch.contexts.append(plan.contexts.get(row, prompt))
        return batch

    def __getitem__(self, index: int) -> Packed:
        """The batch of an index, for torch's loader."""
        return packed(self.batch(index))

    def load(self, first: int = 0, workers: int = 0) -> Generator[TrainingBatch, None, None]:
        """The batches from index `first` on.

        Args:
            workers: processes that prepare batches ahead; 0 prepares each when it is needed. The
                batches are the same. Processes rather than threads, whose pools would compete with
                the trainer's for the processors; they share the clips' memory with it.
        """
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=range(first, len(self.plan.batches)),
            num_workers=workers,
            worker_init_fn=defer_signals,
            multiprocessing_context="fork" if workers else None,
        )
        with signals_blocked():
            loaded = iter(loader)
        yield from map(unpacked, loaded)


def dropout_seed(seed: int, batch: int, rank: int = 0) -> int:
    """Seed of torch's generator for one batch of the run, counted over all epochs."""
    words = (seed, DROPOUT, batch, rank) if rank else (seed, DROPOUT, batch)
    return int(generator(*words).integers(2**62))
