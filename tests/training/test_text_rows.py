"""Rows of a manifest without audio, which train the decoder of a joined model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from auris.errors import TrainingError
from auris.models.cache import UncachedRows
from auris.models.qwen_asr import QwenAsr
from auris.text.prompt import TEXT_TAG, TURN_END
from auris.training import data as loading
from auris.training.data import TrainedOn, TrainingClip, load_clips, split_clips
from auris.training.decoder import DecoderTask
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.examples import EpochBatches, TrainingBatch, plan_epoch
from auris.training.manifests import read_manifest
from auris.training.recipes import CtcRecipe
from auris.training.run_options import Sources
from tests.tiny_models import qwen_config, tiny_tokenizer
from tests.training.conftest import train_here
from tests.training.tones import tone_clip, tones, write_wav

RECIPE = DecoderRecipe.of(
    {
        "max_steps": 4,
        "ctc_weight": 0.25,
        "decoder_from_step": 1,
        "encoder_from_step": 1,
        "batch_seconds": 2.0,
        "join_shorter": 9.0,
        "long_share": 1.0,
        "context_share": 1.0,
        "augment_from_epoch": 1,
        "bf16": False,
    }
)


def task(fresh: bool = True) -> DecoderTask:
    torch.manual_seed(0)
    model = QwenAsr(qwen_config())
    head = torch.nn.Linear(model.config.decoder.hidden, model.config.decoder.vocab + 1)
    return DecoderTask(model, tiny_tokenizer(), RECIPE, head, fresh)


def manifest(tmp_path: Path) -> Path:
    write_wav(tmp_path / "ab.wav", tones("ab"))
    rows = [
        {"audio": "ab.wav", "text": "ab", "language": "English"},
        {"audio": "", "text": "cd dc", "speaker": "ann"},
        {"audio": None, "text": "language German<asr_text>dc cd"},
        {"audio": None, "text": "!"},
        {"audio": None, "text": "language None<asr_text>"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def text_clip(text: str, ids: tuple[int, ...]) -> TrainingClip:
    return TrainingClip(text, np.zeros(0, np.int16), text, ids=ids)


def test_rows_without_audio_are_loaded_where_they_are_used(tmp_path: Path) -> None:
    rows = read_manifest(manifest(tmp_path))
    report = load_clips(rows, 9.0, texts=True)
    assert [(clip.text, clip.has_audio) for clip in report.clips] == [
        ("ab", True),
        ("cd dc", False),
        ("dc cd", False),
    ]
    assert report.skipped[loading.EMPTY_TEXT] == ["'!' without audio"]
    described = report.describe()
    assert "1 clips, 0.00 hours" in described
    assert "2 texts without audio, which train the decoder alone" in described
    assert "name no language" not in described
    assert TrainedOn.of(report.clips).languages == ("English",)
    others = load_clips(rows, 9.0)
    assert len(others.clips) == 1
    assert "'cd dc' without audio" in others.skipped[loading.MISSING]


@pytest.mark.parametrize(
    ("language", "text", "lower_case"),
    [
        ("English", "it's a cab", True),
        ("English", "A cab", False),
        ("English", "route 66", False),
        ("English", "a café", False),
        ("German", "ein café in 66", True),
        ("German", "Ein Café", False),
    ],
)
def test_lower_case_of_english_alone_is_that_of_spoken_forms(
    language: str, text: str, lower_case: bool
) -> None:
    clips = [
        TrainingClip("a", np.ones(9, np.int16), one, language=language) for one in ("ab", text)
    ]
    assert TrainedOn.of(clips).lower_case == lower_case


def test_rows_without_audio_are_never_held_out() -> None:
    clips = [tone_clip(text) for text in ("ab", "cd", "abc", "dcb")]
    clips += [text_clip(f"text {n}", (1,)) for n in range(9)]
    trained, scored = split_clips(clips, 0.5, 3)
    assert all(clip.has_audio for clip in scored)
    assert sum(not clip.has_audio for clip in trained) == 9


def test_texts_are_batched_once_and_joined_to_nothing() -> None:
    clips = [dataclasses.replace(tone_clip("ab" * n, "ann"), ids=(1, 2)) for n in range(1, 5)]
    clips += [text_clip(f"words {n}", tuple(range(5, 30))) for n in range(6)]
    plan = plan_epoch(clips, RECIPE, 0)
    assert any(len(row) > 1 for row in plan.examples)
    assert all(clips[i].has_audio for row in plan.examples if len(row) > 1 for i in row)
    assert all(clips[i].has_audio for n in plan.contexts for i in plan.examples[n])
    # 25 tokens count as 2 s of audio, so that every text has a batch of its own.
    epoch = EpochBatches(clips, RECIPE, task().preprocessor, plan)
    loaded = list(epoch.load())
    texts = [text for batch in loaded for text in batch.texts]
    assert texts == [tuple(range(5, 30))] * 6
    assert any(not batch.mels for batch in loaded)
    for batch in loaded:
        kinds = (batch.mels, batch.targets, batch.languages, batch.contexts)
        assert len({len(kind) for kind in kinds}) == 1
    with_workers = list(epoch.load(workers=1))
    assert [batch.texts for batch in with_workers] == [batch.texts for batch in loaded]


@torch.no_grad()
def test_a_text_is_a_language_model_example() -> None:
    made = task().eval()
    ids = tuple(made.tokenizer.encode("the fox"))
    sums, counts = made(TrainingBatch([], [], [], [], texts=[ids, ids[:1]]))
    assert counts.tolist() == [0, len(ids) + 3]
    tag, end = made.tokenizer.id(TEXT_TAG), made.tokenizer.id(TURN_END)
    expected = torch.zeros(())
    for text in (ids, ids[:1]):
        row = torch.tensor([[tag, *text, end]])
        labels = torch.tensor([*text, end])
        dialogue = made.model.decoder.embed(row)
        states = made.model.decoder.states(
            dialogue, UncachedRows.of([row.shape[1]], "right", row.device)
        )
        logits = made.model.decoder.logits(states[0, :-1])
        expected += torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    assert torch.allclose(sums[1], 0.75 * expected, rtol=1e-5)
    assert float(sums[0]) == 0


def test_texts_add_to_the_loss_of_recordings_and_train_the_decoder_alone() -> None:
    made = task().eval()
    batch = TrainingBatch([torch.randn(128, 90)], [(97, 98)], ["English"], [""])
    texts = TrainingBatch([], [], [], [], texts=[(99, 100)])
    together = made(dataclasses.replace(batch, texts=texts.texts))
    alone = [made(one) for one in (batch, texts)]
    for part, (first, second) in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.allclose(part, first + second)
    made.train()
    made.begin_step(3)
    made(texts)[0].sum().backward()
    with_gradient = {
        name.split(".")[1] for name, p in made.named_parameters() if p.grad is not None
    }
    assert with_gradient == {"decoder"}


@pytest.mark.parametrize("fresh", [True, False])
def test_texts_are_left_out_while_the_decoder_is_frozen(fresh: bool) -> None:
    made = task(fresh).train()
    made.begin_step(0)
    sums, counts = made(TrainingBatch([], [], [], [], texts=[(99, 100)]), made.trains_all_parts(0))
    assert sums.detach().tolist() == counts.tolist() == [0, 0]
    sums.sum().backward()  # A step of texts alone has a gradient, of zeros.
    assert all(p.grad is None or not p.grad.any() for p in made.parameters())


def test_a_run_needs_recordings_and_scores_nothing_else(
    tmp_path: Path, data: Path, tiny: Callable[..., CtcRecipe]
) -> None:
    train_here(tiny(max_steps=2), Sources([data]), tmp_path / "ctc")
    texts = tmp_path / "texts.csv"
    texts.write_text("wav,text\n,ab cd\n,dc\n")
    encoder = tmp_path / "ctc"
    recipe = dataclasses.replace(RECIPE, context_share=0.0)
    with pytest.raises(TrainingError, match="No clip can be used"):
        train_here(recipe, Sources([texts], encoder=encoder), tmp_path / "run")
    with pytest.raises(TrainingError, match="at least one usable clip"):
        train_here(recipe, Sources([data], [texts], encoder=encoder), tmp_path / "run")
    run = train_here(recipe, Sources([data, texts], encoder=encoder), tmp_path / "other")
    assert [clip.text for clip in run.clips if not clip.has_audio] == ["ab cd", "dc"]
    assert "2 texts without audio" in (tmp_path / "other" / "data.txt").read_text()
    compiled = dataclasses.replace(recipe, use_compile=True, batch_seconds=30.0)
    with pytest.raises(TrainingError, match="use_compile"):
        train_here(compiled, Sources([data, texts], encoder=encoder), tmp_path / "third")
