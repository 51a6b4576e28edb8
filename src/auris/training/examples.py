"""From clips in memory to what the model hears in one step."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from auris.audio.mel import log_mel, mel_frames
from auris.config import AutCtcConfig, audio_tokens
from auris.training import augment
from auris.training.data import Clip
from auris.training.recipes import Recipe
from auris.training.sampler import batches, examples
from auris.training.units import frames_needed
from auris.types import Samples

__all__ = ["Batch", "EpochPlan", "make_batch", "plan_epoch"]

PLAN, AUDIO, DROPOUT = range(3)
"""What a generator is for: each purpose has its own stream of chances."""


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one step.

    Attributes:
        mels: [bins, T_i] of each example.
        targets: unit ids of each example.
    """

    mels: list[Tensor]
    targets: list[tuple[int, ...]]


@dataclass(frozen=True)
class EpochPlan:
    """Which examples an epoch hears, in which batches."""

    epoch: int
    examples: list[tuple[int, ...]]
    batches: list[list[int]]


def generator(*words: int) -> np.random.Generator:
    """Chances that depend on `words` alone, so that a resumed run draws the same ones."""
    return np.random.default_rng(list(words))


def plan_epoch(clips: Sequence[Clip], recipe: Recipe, epoch: int) -> EpochPlan:
    """The plan of an epoch, counted from 0."""
    rng = generator(recipe.seed, PLAN, epoch)
    copies = recipe.join_copies if _augments(recipe, epoch) else 0
    rows = examples(clips, rng, recipe.join_shorter, recipe.join_most, copies)
    seconds = [sum(clips[i].seconds for i in row) for row in rows]
    # A clip under half a second costs as much as one of half a second.
    seconds = [max(length, 0.5) for length in seconds]
    return EpochPlan(epoch, rows, batches(seconds, recipe.batch_seconds, rng))


def _augments(recipe: Recipe, epoch: int) -> bool:
    return epoch + 1 >= recipe.augment_from_epoch


def floats(clip: Clip) -> Samples:
    """Samples as float32 in -1..1."""
    return clip.samples.astype(np.float32) / 32768.0


def _fits(samples: Samples, ids: Sequence[int]) -> bool:
    return frames_needed(ids) <= audio_tokens(mel_frames(len(samples)))


def _example(
    members: Sequence[Clip], rng: np.random.Generator, augmented: bool
) -> tuple[Samples, tuple[int, ...]]:
    """Audio and units; what cannot be aligned once varied is heard as it was recorded."""
    ids = tuple(unit for clip in members for unit in clip.ids)
    if augmented:
        joined = augment.join([floats(clip) for clip in members], rng)
        varied = augment.vary(joined, rng)
        if _fits(varied, ids):
            return varied, ids
        if _fits(joined, ids):
            return joined, ids
    return floats(members[0]), members[0].ids


def make_batch(
    clips: Sequence[Clip], recipe: Recipe, config: AutCtcConfig, plan: EpochPlan, index: int
) -> Batch:
    """Batch `index` of an epoch: a function of its arguments alone."""
    augmented = _augments(recipe, plan.epoch)
    mels, targets = [], []
    for row in plan.batches[index]:
        rng = generator(recipe.seed, AUDIO, plan.epoch, row)
        members = [clips[i] for i in plan.examples[row]]
        samples, ids = _example(members, rng, augmented)
        mel = log_mel(samples, config.frontend, config.encoder.mel_bins)
        mels.append(augment.mask(mel, rng) if augmented else mel)
        targets.append(ids)
    return Batch(mels, targets)


class Batches(Dataset[Batch]):
    """The batches of an epoch by index, for torch's loader."""

    def __init__(
        self, clips: Sequence[Clip], recipe: Recipe, config: AutCtcConfig, plan: EpochPlan
    ) -> None:
        self._make = functools.partial(make_batch, clips, recipe, config, plan)

    def __getitem__(self, index: int) -> Batch:
        return self._make(index)


def load_batches(
    clips: Sequence[Clip],
    recipe: Recipe,
    config: AutCtcConfig,
    plan: EpochPlan,
    first: int,
    workers: int,
) -> Iterator[Batch]:
    """The batches of an epoch from `first` on.

    Args:
        workers: processes that prepare batches ahead; 0 prepares each when it is asked for. The
            batches are the same. Processes rather than threads, whose pools would quarrel with
            the trainer's for the processors; they share the clips' memory with it.
    """
    loader = DataLoader(
        Batches(clips, recipe, config, plan),
        batch_size=None,
        sampler=range(first, len(plan.batches)),
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    return iter(loader)


def dropout_seed(seed: int, step: int) -> int:
    """Seed of torch's generator for one step."""
    return int(generator(seed, DROPOUT, step).integers(2**62))
