"""Examples: always alignable, and a function of seed, epoch and place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer

from auris.config import audio_tokens
from auris.training import augment
from auris.training.data import Clip, DataReport, with_units
from auris.training.examples import make_batch, plan_epoch
from auris.training.recipes import Recipe
from auris.training.units import ALPHABET, frames_needed, train_units
from tests.training.tones import tone_clip


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    tokenizer: Tokenizer = train_units(["abcd"], len(ALPHABET))
    # Seven units in the seven frames of half a second; joined to another, they do not fit.
    full = Clip("full", tone_clip("ab").samples[:4800], "abcdab", "ann")
    raw = [full] * 4 + [tone_clip(text, "ann") for text in ("abcd", "ba", "dc")]
    return with_units(raw, tokenizer, DataReport())[0]


@pytest.mark.parametrize("epoch", range(1, 6))
def test_what_varied_too_short_is_heard_as_recorded(
    clips: list[Clip], tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    monkeypatch.setattr(augment, "vary", lambda samples, rng: samples[: len(samples) // 4])
    recipe = tiny(batch_seconds=99)
    plan = plan_epoch(clips, recipe, epoch)
    assert any(len(row) > 1 for row in plan.examples)
    batch = make_batch(clips, recipe, recipe.model_config(), plan, 0)
    for mel, target in zip(batch.mels, batch.targets, strict=True):
        assert frames_needed(target) <= audio_tokens(mel.shape[1])


def test_joined_examples_have_all_the_units(clips: list[Clip], tiny: Callable[..., Recipe]) -> None:
    recipe = tiny(batch_seconds=99, join_copies=8)
    plan = plan_epoch(clips[-2:], recipe, 1)
    batch = make_batch(clips[-2:], recipe, recipe.model_config(), plan, 0)
    ids = [clip.ids for clip in clips[-2:]]
    for row, target in zip(plan.batches[0], batch.targets, strict=True):
        assert target == tuple(unit for i in plan.examples[row] for unit in ids[i])


def test_the_first_epochs_hear_recordings_as_they_are(
    clips: list[Clip], tiny: Callable[..., Recipe]
) -> None:
    recipe = tiny(augment_from_epoch=3, batch_seconds=99)
    for epoch, same in ((0, True), (1, True), (2, False)):
        plan = plan_epoch(clips, recipe, epoch)
        other = tiny(augment_from_epoch=3, batch_seconds=99, seed=5)
        mels = make_batch(clips, recipe, recipe.model_config(), plan, 0).mels
        again = make_batch(clips, recipe, recipe.model_config(), plan, 0).mels
        elsewhere = make_batch(clips, other, other.model_config(), plan, 0).mels
        assert all(map(torch.equal, mels, again))
        assert all(map(torch.equal, mels, elsewhere)) == same
        assert all(len(row) == 1 for row in plan.examples) == same


def test_short_clips_count_as_half_a_second(clips: list[Clip], tiny: Callable[..., Recipe]) -> None:
    short = [tone_clip("a") for _ in range(40)]
    plan = plan_epoch(short, tiny(batch_seconds=3.0), 0)
    assert max(map(len, plan.batches)) == 6
