"""Random contexts for training, of spoken and of other words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from auris.errors import TrainingError
from auris.training.contexts import MOST_OTHERS, MOST_SPOKEN, ContextSource
from auris.training.data import DataReport, TrainingClip, with_units
from auris.training.examples import EpochBatches, Preprocessor, plan_epoch
from auris.training.recipes import AsrRecipe, CtcRecipe
from auris.training.units import ALPHABET, train_units
from tests.training.tones import tone_clip

CORPUS = ["the cat sat on the mat", "the dog saw the cat", "a zebra", "the the the the rhubarb"]


def words_of(context: str) -> list[str]:
    return context.lower().replace(",", " ").replace(";", " ").split()


def test_contexts_have_spoken_and_other_words() -> None:
    source = ContextSource(CORPUS)
    rng = np.random.default_rng(1)
    corpus = {word for text in CORPUS for word in text.split()}
    drawn = [words_of(source.draw("the rhubarb", rng)) for _ in range(300)]
    said = [sum(word in ("the", "rhubarb") for word in words) for words in drawn]
    assert any(said)
    assert any(count < len(words) for count, words in zip(said, drawn, strict=True))
    assert all(set(words) <= corpus for words in drawn)
    assert all(len(words) <= MOST_SPOKEN + MOST_OTHERS for words in drawn)
    # Lists of one or two words are not rare.
    assert sum(len(words) <= 2 for words in drawn) > 15


def test_rarer_words_are_preferred() -> None:
    source = ContextSource([*CORPUS, *["common word"] * 500])
    rng = np.random.default_rng(2)
    drawn = [words_of(source.draw("common rhubarb", rng)) for _ in range(400)]
    lists = [words for words in drawn if words != ["common", "word"]]
    rare = sum("rhubarb" in words and "common" not in words for words in lists)
    assert rare > 1.5 * sum("common" in words and "rhubarb" not in words for words in lists)


def test_contexts_of_silence_have_no_spoken_words() -> None:
    source, rng = ContextSource(CORPUS), np.random.default_rng(3)
    drawn = [source.draw("", rng) for _ in range(50)]
    assert sum(map(bool, drawn)) > 30


def test_a_corpus_without_words_has_empty_contexts() -> None:
    source, rng = ContextSource(["", ""]), np.random.default_rng(4)
    assert {source.draw("", rng) for _ in range(20)} == {""}


@pytest.fixture(scope="module")
def clips() -> list[TrainingClip]:
    raw = [tone_clip(text, "ann") for text in ("abcd", "ba", "dc", "cab") * 10]
    return with_units(DataReport(raw), train_units(["abcd"], len(ALPHABET)).encode).clips


def test_a_share_of_the_examples_has_a_random_context(
    clips: list[TrainingClip], tiny_asr: Callable[..., AsrRecipe]
) -> None:
    recipe = tiny_asr(context_share=0.5, silence_share=0.2, long_share=0.5, batch_seconds=9)
    plan = plan_epoch(clips, recipe, 1)
    share = len(plan.contexts) / len(plan.examples)
    assert 0.3 < share < 0.7
    assert plan.contexts == plan_epoch(clips, recipe, 1).contexts
    assert plan.contexts != plan_epoch(clips, recipe, 2).contexts
    assert any(len(plan.examples[number]) > 1 for number in plan.contexts)
    tokenizer = train_units(["abcd"], len(ALPHABET))
    preprocessor = Preprocessor("slaney400", 128, tokenizer.encode)
    for index, rows in enumerate(plan.batches[:5]):
        batch = EpochBatches(clips, recipe, preprocessor, plan).batch(index)
        assert batch.contexts == [plan.contexts.get(row, "") for row in rows]


def test_prompts_of_the_manifest_are_not_replaced(
    clips: list[TrainingClip], tiny_asr: Callable[..., AsrRecipe]
) -> None:
    prompted = [
        TrainingClip(c.name, c.samples, c.text, c.speaker, c.ids, prompt="Kubernetes")
        for c in clips
    ]
    assert not plan_epoch(prompted, tiny_asr(context_share=1.0), 0).contexts


def test_batches_are_the_same_with_and_without_contexts(
    clips: list[TrainingClip], tiny_asr: Callable[..., AsrRecipe]
) -> None:
    plain = plan_epoch(clips, tiny_asr(), 1)
    drawn = plan_epoch(clips, tiny_asr(context_share=1.0), 1)
    assert (plain.examples, plain.batches) == (drawn.examples, drawn.batches)


def test_a_ctc_recipe_has_no_contexts(tiny: Callable[..., CtcRecipe]) -> None:
    with pytest.raises(TrainingError, match="context_share"):
        tiny(context_share=0.1)
