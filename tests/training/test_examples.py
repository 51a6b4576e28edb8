"""Examples can always be aligned, and depend only on seed, epoch and position."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from auris.config import audio_tokens
from auris.decoding.ctc import frames_needed
from auris.text.tokenizer import Tokenizer
from auris.training import augment
from auris.training.data import DataReport, TrainingClip, with_units
from auris.training.examples import (
    DataShard,
    EpochBatches,
    EpochPlan,
    Preprocessor,
    TrainingBatch,
    plan_epoch,
)
from auris.training.recipes import CtcRecipe, RecognizerRecipe
from auris.training.units import ALPHABET, train_units
from tests.training.tones import tone_clip

TOKENIZER: Tokenizer = train_units(["abcd"], len(ALPHABET))
PREPROCESSOR = Preprocessor("htk1024", 32, TOKENIZER.encode)


def first(
    clips: list[TrainingClip],
    recipe: RecognizerRecipe,
    plan: EpochPlan,
    share: DataShard | None = None,
) -> TrainingBatch:
    return EpochBatches(clips, recipe, PREPROCESSOR, plan, share or DataShard()).batch(0)


@pytest.fixture(scope="module")
def clips() -> list[TrainingClip]:
    # Seven units in the seven frames of half a second; joined to another, they do not fit.
    full = TrainingClip("full", tone_clip("ab").samples[:4800], "abcdab", "ann")
    raw = [full] * 4 + [tone_clip(text, "ann") for text in ("abcd", "ba", "dc")]
    return with_units(DataReport(raw), TOKENIZER.encode).clips


@pytest.mark.parametrize("epoch", range(1, 6))
def test_audio_that_becomes_too_short_is_not_augmented(
    clips: list[TrainingClip],
    tiny: Callable[..., CtcRecipe],
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
) -> None:
    monkeypatch.setattr(augment, "vary", lambda samples, rng: samples[: len(samples) // 4])
    recipe = tiny(batch_seconds=99)
    plan = plan_epoch(clips, recipe, epoch)
    assert any(len(row) > 1 for row in plan.examples)
    batch = first(clips, recipe, plan)
    for mel, target in zip(batch.mels, batch.targets, strict=True):
        assert frames_needed(target) <= audio_tokens(mel.shape[1])


def test_joined_examples_have_the_units_of_all(
    clips: list[TrainingClip], tiny: Callable[..., CtcRecipe]
) -> None:
    recipe = tiny(batch_seconds=99, join_copies=8)
    plan = plan_epoch(clips[-2:], recipe, 1)
    batch = first(clips[-2:], recipe, plan)
    ids = [clip.ids for clip in clips[-2:]]
    for row, target in zip(plan.batches[0], batch.targets, strict=True):
        assert target == tuple(unit for i in plan.examples[row] for unit in ids[i])


def test_the_first_epochs_are_not_augmented(
    clips: list[TrainingClip], tiny: Callable[..., CtcRecipe]
) -> None:
    recipe = tiny(augment_from_epoch=3, batch_seconds=99)
    for epoch, same in ((0, True), (1, True), (2, False)):
        plan = plan_epoch(clips, recipe, epoch)
        other = tiny(augment_from_epoch=3, batch_seconds=99, seed=5)
        mels = first(clips, recipe, plan).mels
        again = first(clips, recipe, plan).mels
        elsewhere = first(clips, other, plan).mels
        assert all(map(torch.equal, mels, again))
        assert all(map(torch.equal, mels, elsewhere)) == same
        assert all(len(row) == 1 for row in plan.examples) == same


def test_short_clips_count_as_half_a_second(
    clips: list[TrainingClip], tiny: Callable[..., CtcRecipe]
) -> None:
    short = [tone_clip("a") for _ in range(40)]
    plan = plan_epoch(short, tiny(batch_seconds=3.0), 0)
    assert max(map(len, plan.batches)) == 6


@pytest.mark.parametrize("of", [1, 2, 3])
def test_the_shards_make_up_the_batch(
    clips: list[TrainingClip], tiny: Callable[..., CtcRecipe], of: int
) -> None:
    recipe = tiny(batch_seconds=99)
    plan = plan_epoch(clips, recipe, 1)
    whole = first(clips, recipe, plan)
    parts = [first(clips, recipe, plan, DataShard(rank, of)) for rank in range(of)]
    assert sorted(t for part in parts for t in part.targets) == sorted(whole.targets)
    assert all(part.counted for part in parts)


def test_a_process_without_examples_computes_one_of_weight_zero(
    clips: list[TrainingClip], tiny: Callable[..., CtcRecipe]
) -> None:
    plan = plan_epoch(clips[:1], tiny(), 0)
    idle = first(clips[:1], tiny(), plan, DataShard(1, 2))
    assert not idle.counted
    assert len(idle.mels) == 1


def test_examples_without_speech_have_no_units_and_no_language(
    clips: list[TrainingClip], tiny: Callable[..., CtcRecipe]
) -> None:
    recipe = tiny(silence_share=1.0, batch_seconds=999.0, join_copies=0)
    plan = plan_epoch(clips, recipe, 1)
    batch = first(clips, recipe, plan)
    silent = [i for i, target in enumerate(batch.targets) if not target]
    assert len(silent) == len(clips)
    assert {batch.languages[i] for i in silent} == {"None"}
    assert all(batch.mels[i].isfinite().all() for i in silent)
    assert not any(row == () for row in plan_epoch(clips, recipe, 0).examples)


def test_clips_of_two_languages_are_not_joined(tiny: Callable[..., CtcRecipe]) -> None:
    raw = [
        TrainingClip(
            f"{n}", tone_clip("abcd").samples, "abcd", language=("English", "German")[n % 2]
        )
        for n in range(40)
    ]
    mixed = with_units(DataReport(raw), TOKENIZER.encode).clips
    plan = plan_epoch(mixed, tiny(long_share=1.0, long_seconds=5.0, batch_seconds=9.0), 1)
    rows = [row for row in plan.examples if len(row) > 1]
    assert rows
    for row in rows:
        assert len({mixed[i].language for i in row}) == 1


def test_compiled_batches_have_one_shape(
    clips: list[TrainingClip], tiny: Callable[..., CtcRecipe]
) -> None:
    recipe = tiny(use_compile=True, max_mel_length=200, batch_seconds=7.0, long_share=0.5)
    preprocessor = Preprocessor("htk1024", 32, TOKENIZER.encode, frames=recipe.max_mel_length)
    for epoch in range(3):
        plan = plan_epoch(clips, recipe, epoch)
        examples = [i for rows in plan.batches for i in rows]
        assert set(examples) == set(range(len(plan.examples)))
        assert len(examples) < len(plan.examples) + recipe.rows
        for index in range(len(plan.batches)):
            batch = EpochBatches(clips, recipe, preprocessor, plan).batch(index)
            assert [tuple(mel.shape) for mel in batch.mels] == [(32, 200)] * 3
