"""Crops of the speech of single speakers, from clips in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from auris.audio.features import filter_banks, log_mel
from auris.training import augment
from auris.training.data import TrainingClip
from auris.training.examples import AUDIO, PLAN, TrainingBatch, floats, generator
from auris.training.speaker_recipe import SpeakerRecipe
from auris.types import SAMPLE_RATE, Samples

SPEEDS = (1.0, 0.9, 1.1)
"""A voice that is played slower or faster is another speaker."""

UNCHANGED = 0
"""Number of the speed of the recording."""

SPEED_SHARES = (0.5, 0.25, 0.25)

UNKNOWN = -1
"""The class of a clip whose speaker is not known."""

FRAME = SAMPLE_RATE // 100
PAUSE_DB = -35.0
"""A frame this far below the loud frames of its clip is silent."""

AROUND_FRAMES = 15
"""So many silent frames around speech are used; longer pauses are shortened to twice that."""

SECONDS_PER_CROP = 3.0
"""A speaker has a crop an epoch for so many seconds of speech."""

LEAST_CROPS = 2

TEACHER_SAMPLES = 5 * SAMPLE_RATE // 2
"""The embedding of the teacher is of at most so much of a clip."""

LEAST_TEACHER_FRAMES = 20
"""A shorter clip has no such embedding."""


def without_pauses(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Samples without the middle of long pauses, and without silence at both ends."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float32)
    if not len(frames):
        return samples
    levels = 10.0 * np.log10(np.square(frames).mean(1) + 1e-3)
    loud = (levels > np.percentile(levels, 95) + PAUSE_DB).astype(np.int64)
    near = np.convolve(loud, np.ones(2 * AROUND_FRAMES + 1, np.int64), "same")[: len(loud)] > 0
    return np.asarray(frames[near].astype(np.int16).ravel())


@dataclass
class SpeakerBatch(TrainingBatch):
    """Crops of one length.

    Attributes:
        targets: of each crop the number of its class.
        teachers: embedding of each crop's clip by the teacher; zeros where there is none.
    """

    teachers: Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    def to(self, device: torch.device) -> SpeakerBatch:
        """The batch with its tensors on a device."""
        mels = [mel.to(device) for mel in self.mels]
        return dataclasses.replace(self, mels=mels, teachers=self.teachers.to(device))


@dataclass(frozen=True)
class Crop:
    """A crop to be made: its clips in order, their speaker and the speed of playback."""

    clips: tuple[int, ...]
    speaker: int
    speed: int

    @property
    def target(self) -> int:
        """Number of its class."""
        return UNKNOWN if self.speaker == UNKNOWN else self.speaker * len(SPEEDS) + self.speed


@dataclass(frozen=True)
class SpeakerPlan:
    """The crops of the batches of an epoch, and the length of each batch in samples."""

    batches: list[list[Crop]]
    samples: list[int]


class Imitated(Protocol):
    """A trained speaker encoder that takes log filter banks, such as CAM++."""

    width: int

    def embed(self, features: Tensor) -> Tensor:
        """The embedding [width], of unit length, of features [frames, 80]."""


class Teacher:
    """The embeddings of clips by another encoder, each computed when it is first needed.

    Attributes:
        digest: a hash of the encoder's weights.
    """

    def __init__(self, encoder: Imitated, digest: str) -> None:
        self._encoder, self.digest = encoder, digest
        self._known: dict[int, Tensor] = {}

    def embedding(self, index: int, clip: TrainingClip) -> Tensor:
        """The embedding of the clip of a number; zeros where it is too short."""
        if index not in self._known:
            samples = torch.from_numpy(floats(clip)[:TEACHER_SAMPLES])
            features = filter_banks(samples)
            embedding = torch.zeros(self._encoder.width)
            if len(features) >= LEAST_TEACHER_FRAMES:
                embedding = self._encoder.embed(features).float().clone()
            self._known[index] = embedding
        return self._known[index]


class SpeakerClips:
    """Clips by speaker.

    Args:
        teacher: gives the embedding of a clip; None for no teacher.
    """

    def __init__(
        self, clips: Sequence[TrainingClip], recipe: SpeakerRecipe, teacher: Teacher | None
    ) -> None:
        self.clips, self.recipe, self.teacher = clips, recipe, teacher
        names = sorted({clip.speaker for clip in clips} - {""})
        numbers = {name: number for number, name in enumerate(names)}
        self.speakers = len(names)
        self._members: dict[int, list[int]] = {}
        for index, clip in enumerate(clips):
            number = numbers.get(clip.speaker, UNKNOWN)
            if number != UNKNOWN or teacher is not None:
                self._members.setdefault(number, []).append(index)

    def plan(self, epoch: int) -> SpeakerPlan:
        """The crops of an epoch, counted from 0."""
        recipe = self.recipe
        rng = generator(recipe.seed, PLAN, epoch)
        crops: list[Crop] = []
        for speaker, members in sorted(self._members.items()):
            crops += self._crops(speaker, members, rng)
        order = rng.permutation(len(crops)).tolist()
        batches, samples = [], []
        while order:
            seconds = rng.uniform(recipe.shortest_crop, recipe.longest_crop)
            size = round(recipe.batch_seconds / seconds)
            batches.append([crops[i] for i in order[:size]])
            samples.append(round(seconds * SAMPLE_RATE))
            del order[:size]
        return SpeakerPlan(batches, samples)

    def _crops(self, speaker: int, members: list[int], rng: np.random.Generator) -> list[Crop]:
        """The crops of a speaker in an epoch."""
        recipe = self.recipe
        seconds = self._seconds(members)
        most = len(members) if speaker == UNKNOWN else recipe.speaker_crops
        count = int(np.clip(seconds / SECONDS_PER_CROP, LEAST_CROPS, max(most, LEAST_CROPS)))
        crops = []
        for first in np.resize(rng.permutation(members), count).tolist():
            row = [first]
            # Clips of one speaker are joined until they are long enough.
            while speaker != UNKNOWN and self._seconds(row) < 1.2 * recipe.longest_crop:
                row.append(int(rng.choice(members)))
            speed = (
                UNCHANGED if speaker == UNKNOWN else int(rng.choice(len(SPEEDS), p=SPEED_SHARES))
            )
            crops.append(Crop(tuple(row), speaker, speed))
        return crops

    def _seconds(self, row: Sequence[int]) -> float:
        return sum(self.clips[i].seconds for i in row)

    def load(self, epoch: int, first: int = 0) -> Generator[SpeakerBatch, None, None]:
        """The batches of an epoch from number `first` on."""
        plan = self.plan(epoch)
        for number in range(first, len(plan.batches)):
            yield self._batch(plan, epoch, number)

    def _batch(self, plan: SpeakerPlan, epoch: int, number: int) -> SpeakerBatch:
        rng = generator(self.recipe.seed, AUDIO, epoch, number)
        crops, length = plan.batches[number], plan.samples[number]
        config = self.recipe.model_config()
        mels = []
        for crop in crops:
            samples = self._samples(crop, length, rng)
            mel = log_mel(samples, config.frontend, config.encoder.mel_bins)
            mels.append(augment.mask(mel, rng))
        targets: list[tuple[int, ...]] = [(crop.target,) for crop in crops]
        teachers = torch.zeros(len(crops), self.recipe.embedding)
        if self.teacher is not None:
            for row, crop in enumerate(crops):
                if crop.speed == UNCHANGED:
                    teachers[row] = self.teacher.embedding(crop.clips[0], self.clips[crop.clips[0]])
        return SpeakerBatch(mels, targets, [], [], teachers=teachers)

    def _samples(self, crop: Crop, length: int, rng: np.random.Generator) -> Samples:
        """A part of the joined clips, played at the crop's speed and disturbed."""
        joined = np.concatenate([floats(self.clips[i]) for i in crop.clips])
        speed = SPEEDS[crop.speed]
        needed = int(length * speed) + 1
        joined = np.resize(joined, max(needed, len(joined)))
        latest = len(joined) - needed
        if crop.speed == UNCHANGED:  # It has a part of the clip whose embedding the teacher gives.
            latest = min(latest, len(self.clips[crop.clips[0]].samples) // 2)
        start = int(rng.integers(0, latest + 1))
        samples = joined[start : start + needed]
        if crop.speed != UNCHANGED:
            samples = soxr.resample(samples, speed * SAMPLE_RATE, SAMPLE_RATE, quality="LQ")
        samples = np.resize(samples, max(length, len(samples)))[:length]
        return augment.disturbed(samples, rng, self.recipe.noise_share, self.recipe.room_share)
