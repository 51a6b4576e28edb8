"""Training of Qwen3-ASR models: labels, padding, both losses, adapters, whole checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from auris.checkpoints.calibration import (
    MAPS,
    Calibration,
    Logistic,
    load_calibration,
    save_calibration,
)
from auris.checkpoints.ctc_head import CTC_HEAD
from auris.checkpoints.export import export
from auris.checkpoints.inference_defaults import (
    InferenceDefaults,
    load_inference_defaults,
    save_inference_defaults,
)
from auris.errors import ConfigError, TrainingError, UsageError
from auris.models.qwen_asr import QwenAsr
from auris.pipeline import AsrPipeline
from auris.text.prompt import AUDIO_PAD, TEXT_TAG, TURN_END
from auris.training.asr import IGNORED, AsrTask, dialogues, merged
from auris.training.base_recipe import Recipe
from auris.training.examples import TrainingBatch
from auris.training.exporting import export_run
from auris.training.folder import RunFolder
from auris.training.recipes import AsrRecipe, TuneRecipe
from auris.training.run import train
from auris.training.run_options import RunOptions, Sources
from auris.training.score import DevScores
from auris.training.starting import asr_task, checkpoint_task
from tests.tiny_models import ctc_config, qwen_config, tiny_model, tiny_tokenizer, write_tiny
from tests.training.conftest import broken_off, quiet
from tests.training.tones import tones, write_wav

ids = st.lists(st.integers(0, 99), min_size=1, max_size=9)


@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=5), st.sampled_from(["left", "right"]))
def test_labels_mask_exactly_the_prompt_with_padding_on_either_side(
    pairs: list[tuple[list[int], list[int]]], side: str
) -> None:
    talk = dialogues([p for p, _ in pairs], [r for _, r in pairs], 999, side)
    for row, (prompt, reply) in enumerate(pairs):
        kept = talk.ids[row] != 999
        assert talk.ids[row][kept].tolist() == prompt + reply
        assert talk.labels[row][kept].tolist() == [IGNORED] * len(prompt) + reply
        assert set(talk.labels[row][~kept].tolist()) <= {IGNORED}
        padded = talk.ids.shape[1] - len(prompt) - len(reply)
        assert kept[-1 if side == "left" else 0]
        assert int((~kept).sum()) == padded


def random_batch(seed: int, sizes: list[int]) -> TrainingBatch:
    rng = np.random.default_rng(seed)
    mels = [torch.from_numpy(rng.normal(size=(128, n)).astype(np.float32)) for n in sizes]
    targets = [tuple(rng.integers(0, 200, max(0, n // 40)).tolist()) for n in sizes]
    names = ["English" if target else "None" for target in targets]
    return TrainingBatch(mels, targets, names, ["names" * (n % 2) for n in sizes])


def tiny_task(seed: int = 0) -> AsrTask:
    torch.manual_seed(seed)
    model = QwenAsr(qwen_config()).eval()
    tokenizer = tiny_tokenizer()
    classes = model.config.decoder.vocab + 1
    head = torch.nn.Linear(model.config.decoder.hidden, classes)
    return AsrTask(model, tokenizer, TuneRecipe(ctc_weight=0.3), head)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(20, 250), min_size=1, max_size=4), st.integers(0, 99))
def test_the_loss_does_not_depend_on_the_side_of_the_padding(sizes: list[int], seed: int) -> None:
    task, batch = tiny_task(), random_batch(seed, sizes)
    with torch.no_grad():
        audio, lengths = task.audio_embeddings(batch.mels)
        left, right = (task.reply_loss(audio, lengths, batch, side) for side in ("left", "right"))
    assert int(left[1]) == int(right[1])
    assert float(left[0]) == pytest.approx(float(right[0]), rel=1e-5)


def test_the_loss_of_a_batch_is_the_mean_of_its_examples() -> None:
    task, batch = tiny_task(), random_batch(3, [60, 200, 130])
    with torch.no_grad():
        sums, counts = task(batch)
        parts = [
            task(TrainingBatch([m], [t], [n], [c]))
            for m, t, n, c in zip(
                batch.mels, batch.targets, batch.languages, batch.contexts, strict=True
            )
        ]
    assert torch.allclose(sums, sum(p[0] for p in parts), rtol=1e-4)
    assert torch.equal(counts, sum(p[1] for p in parts))


def test_an_example_is_the_official_prompt_and_reply() -> None:
    task, batch = tiny_task(), random_batch(0, [200])
    talk = task.dialogues([26], batch)
    tokenizer = task.tokenizer
    text = tokenizer.decode(t for t in talk.ids[0].tolist() if t != tokenizer.id(AUDIO_PAD))
    said = tokenizer.decode(batch.targets[0])
    assert text == f"system\n\nuser\n\nassistant\nlanguage English{TEXT_TAG}{said}"
    labelled = talk.ids[0][talk.labels[0] != IGNORED].tolist()
    assert tokenizer.decode(labelled) == f"language English{TEXT_TAG}{said}"
    assert labelled[-1] == tokenizer.id(TURN_END)
    silent = task.dialogues([13], TrainingBatch(batch.mels, [()], ["None"], [""]))
    labelled = silent.ids[0][silent.labels[0] != IGNORED].tolist()
    assert tokenizer.decode(labelled) == f"language None{TEXT_TAG}"


TEXTS = ["ab", "ba", "cd", "dc", "abc", "bcd", "dcb", "cab"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = ["wav,text"]
    for text in TEXTS:
        write_wav(tmp_path / f"{text}.wav", tones(text))
        rows.append(f"{text}.wav,{' '.join(text)}")
    (tmp_path / "tones_train.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "tones_train.csv"


@pytest.mark.no_cover
def test_a_small_model_learns_to_transcribe_tones(
    data: Path, tmp_path: Path, tiny_asr: Callable[..., AsrRecipe]
) -> None:
    recipe = tiny_asr(
        max_steps=150,
        eval_steps=75,
        decoder_from_step=40,
        lr=0.01,
        warmup_steps=20,
        d_model=32,
        hidden=32,
        head_dim=16,
        decoder_layers=2,
        batch_seconds=20.0,
        augment_from_epoch=999,
        checkpoint_steps=999,
        dropout=0.0,
    )
    run = train(recipe, Sources([data], [data]), tmp_path / "run", reporter=quiet())
    assert (run.progress.best or 0.0) < 0.1
    pipeline = AsrPipeline.from_pretrained(tmp_path / "run" / "model", dtype="float32")
    read = [pipeline.transcribe(tmp_path / f"{text}.wav").text for text in TEXTS]
    right = sum(text == " ".join(said) for text, said in zip(read, TEXTS, strict=True))
    assert right >= len(TEXTS) - 1
    assert (tmp_path / "run" / "model" / CTC_HEAD).is_file()


def test_the_decoder_is_frozen_until_its_step(
    data: Path,
    tmp_path: Path,
    tiny_asr: Callable[..., AsrRecipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = tiny_asr(max_steps=4, decoder_from_step=2)
    out = tmp_path / "run"
    broken_off(monkeypatch, 2, lambda: train(recipe, Sources([data]), out, reporter=quiet()))
    early = load_file(out / "last" / "model.safetensors")
    torch.manual_seed(recipe.seed)
    fresh = asr_task(recipe, RunFolder(out).units()).model.decoder.state_dict()
    assert all(torch.equal(early[f"model.decoder.{name}"], t) for name, t in fresh.items())
    late = train(recipe, Sources([data]), out, RunOptions(resume=True), quiet()).task.state_dict()
    moved = "model.decoder.layers.0.qkv.weight"
    assert not torch.equal(late[moved], early[moved])


def tune_data(tmp_path: Path) -> Path:
    lines = []
    for text in TEXTS:
        write_wav(tmp_path / f"{text}.wav", tones(text))
        line = {"audio": f"{text}.wav", "text": f"The Fox, {text}!", "language": "English"}
        lines.append(json.dumps({**line, "prompt": "fox"}))
    (tmp_path / "tune.jsonl").write_text("\n".join(lines))
    return tmp_path / "tune.jsonl"


def tune(tmp_path: Path, model: Path, **changes: object) -> tuple[float, float, Path]:
    """The first and last loss of a run over a checkpoint, and the model it wrote."""
    values = {"max_steps": 30, "lr": 3e-3, "warmup_steps": 2, "bf16": False, **changes}
    recipe = TuneRecipe.of(values)
    out = tmp_path / f"tuned{len(changes)}"
    run = train(recipe, Sources([tune_data(tmp_path)], model=model), out, reporter=quiet())
    rows = (out / "steps.csv").read_text().splitlines()[1:]
    losses = [float(row.split(",")[2]) for row in rows]
    assert run.progress.step == 30
    return losses[0], losses[-1], out / "model"


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_checkpoint_is_fine_tuned(tmp_path: Path, lora_rank: int) -> None:
    source = write_tiny(tmp_path / "source", "hf")
    first, last, written = tune(tmp_path, source, lora_rank=lora_rank, max_steps=30)
    assert last < 0.7 * first
    before = AsrPipeline.from_pretrained(source, dtype="float32")
    after = AsrPipeline.from_pretrained(written, dtype="float32")
    assert not (written / CTC_HEAD).exists()
    assert (written / "chat_template.jinja").is_file()
    generation = json.loads((written / "generation_config.json").read_text())
    assert generation == json.loads((source / "generation_config.json").read_text())
    models = [pipeline.recognizer.backend.model for pipeline in (before, after)]
    same = [
        torch.allclose(left, right, atol=2e-3)
        for left, right in zip(
            models[0].encoder.parameters(), models[1].encoder.parameters(), strict=True
        )
    ]
    assert all(same) == bool(lora_rank)  # Adapters do not change the encoder.
    resumed = export_run(written.parent, tmp_path / "again", "last", torch.float32)
    assert (resumed / "model.safetensors").is_file()


def test_merged_adapters_give_the_same_outputs(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "source", "hf")
    task = checkpoint_task(source, TuneRecipe.of({"max_steps": 1, "lora_rank": 3}))
    torch.manual_seed(0)
    for name, parameter in task.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    assert sum(p.requires_grad for p in task.model.parameters()) == 2 * 4 * 2
    batch = random_batch(1, [150, 90])
    with torch.no_grad():
        (_, adapted), _ = task.eval()(batch)
    whole = merged(task.model)
    assert whole is task.model  # A second model would need as much memory again.
    assert not any("lora_" in name for name, _ in whole.named_parameters())
    for_merged = AsrTask(whole, task.tokenizer, TuneRecipe(), None)
    with torch.no_grad():
        (_, plain), _ = for_merged.eval()(batch)
    assert float(adapted) == pytest.approx(float(plain), rel=1e-4)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("kind", "after"),
    [("adapters", 3), ("all weights", 1), ("from nothing", 3), ("from nothing", 5)],
)
def test_a_resumed_run_gives_the_same_weights(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_asr: Callable[..., AsrRecipe],
    kind: str,
    after: int,
) -> None:
    sources = Sources([tune_data(tmp_path)])
    recipe: Recipe = tiny_asr(max_steps=6, decoder_from_step=4, batch_seconds=2)
    if kind != "from nothing":
        values = {"lr": 1e-3, "bf16": False, "checkpoint_steps": 2, "batch_seconds": 2}
        rank = 2 if kind == "adapters" else 0
        recipe = TuneRecipe.of({**values, "max_steps": 6, "lora_rank": rank})
        sources = replace(sources, model=write_tiny(tmp_path / "source", "hf"))
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(recipe, sources, whole, reporter=quiet())
    broken_off(monkeypatch, after, lambda: train(recipe, sources, part, reporter=quiet()))
    again = train(recipe, sources, part, RunOptions(resume=True), quiet())
    assert again.progress.step == 6
    logs = [(run / "steps.csv").read_text() for run in (whole, part)]
    losses = [[row.split(",")[2] for row in log.splitlines()] for log in logs]
    assert len(losses[0]) == 7
    assert losses[0] == losses[1]


def test_a_run_resumes_only_from_its_own_checkpoint(tmp_path: Path) -> None:
    sources = Sources([tune_data(tmp_path)], model=write_tiny(tmp_path / "source", "hf"))
    recipe = TuneRecipe.of({"max_steps": 1, "bf16": False})
    train(recipe, sources, tmp_path / "run", reporter=quiet())
    other = replace(sources, model=tmp_path)
    with pytest.raises(TrainingError, match="its own recipe and model"):
        train(recipe, other, tmp_path / "run", RunOptions(resume=True), quiet())
    assert sources.model is not None
    with pytest.raises(UsageError, match="model that it began with"):
        export_run(tmp_path / "run", sources.model)


def test_the_best_checkpoint_comes_after_the_decoder_step(
    data: Path,
    tmp_path: Path,
    tiny_asr: Callable[..., AsrRecipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = iter([0.1, 0.2, 0.9, 0.8, 0.85])
    monkeypatch.setattr("auris.training.trainer.score", lambda *args: DevScores({"a": next(rates)}))
    recipe = tiny_asr(epochs=5, max_steps=None, batch_seconds=20, decoder_from_step=2,
                      augment_from_epoch=99)  # fmt: skip
    train(recipe, Sources([data], [data]), tmp_path / "run", reporter=quiet())
    kept = json.loads((tmp_path / "run" / "best" / "progress.json").read_text())
    assert kept["rates"] == {"a": 0.8}


def test_clips_without_speech_are_trained_on(tmp_path: Path) -> None:
    write_wav(tmp_path / "silence.wav", np.zeros(16000, np.float32))
    line = {"audio": "silence.wav", "text": "language None<asr_text>"}
    (tmp_path / "tune.jsonl").write_text(json.dumps(line))
    source = write_tiny(tmp_path / "source", "hf")
    recipe = TuneRecipe.of({"max_steps": 2, "bf16": False})
    sources = Sources([tmp_path / "tune.jsonl"], model=source)
    run = train(recipe, sources, tmp_path / "run", reporter=quiet())
    assert [(clip.ids, clip.language) for clip in run.clips] == [((), "None")]
    assert all(map(np.isfinite, [run.progress.best]))


def test_other_architectures_and_vocabularies_are_refused(tmp_path: Path) -> None:
    recipe = TuneRecipe.of({"max_steps": 1})
    other = write_tiny(tmp_path / "ctc", config=ctc_config())
    with pytest.raises(TrainingError, match="encoder with a CTC head only"):
        checkpoint_task(other, recipe)
    source = write_tiny(tmp_path / "source", "hf")
    with pytest.raises(TrainingError, match="CTC loss needs a checkpoint with a CTC head"):
        checkpoint_task(source, TuneRecipe.of({"max_steps": 1, "ctc_weight": 0.3}))
    content = json.loads((source / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["id"] += 500
    (source / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="audio_token_id"):
        checkpoint_task(source, recipe)
    with pytest.raises(TrainingError, match="needs a checkpoint"):
        train(recipe, Sources([tune_data(tmp_path)]), tmp_path / "run", reporter=quiet())


def test_tasks_transcribe_with_the_head_and_the_decoder() -> None:
    task = tiny_task()
    batch = random_batch(5, [120, 80, 300])
    for whole in (False, True):
        together = task.write(batch.mels, batch.contexts, whole)
        alone = [
            task.write([mel], [context], whole)[0]
            for mel, context in zip(batch.mels, batch.contexts, strict=True)
        ]
        assert together == alone


def test_a_head_without_a_loss_does_not_change(tmp_path: Path) -> None:
    config, tokenizer = qwen_config(), tiny_tokenizer()
    head = torch.nn.Linear(config.decoder.hidden, config.decoder.vocab + 1)
    source = export(tiny_model(), config, tokenizer, tmp_path / "source", layout="hf",
                    dtype=torch.float32, ctc_head=head)  # fmt: skip
    # Texts that CTC cannot align do not make the loss infinite.
    first, last, written = tune(tmp_path, source, max_steps=30, lr=1e-3)
    assert math.isfinite(first + last)
    kept = load_file(written / CTC_HEAD)
    assert torch.allclose(kept["weight"].float(), head.weight, atol=1e-3)


def test_a_middle_layer_has_its_share_of_the_ctc_loss() -> None:
    whole = tiny_task()
    recipe = TuneRecipe(ctc_weight=0.3)
    *parts, both = (AsrTask(whole.model, whole.tokenizer, recipe, whole.head) for _ in range(3))
    parts[0].depths, parts[1].depths, both.depths = {1: 1.0}, {2: 1.0}, {1: 0.25, 2: 0.75}
    batch = random_batch(2, [150, 90])
    with torch.no_grad():
        first, last = (part.eval()(batch, all_parts=False)[0][0] for part in parts)
        mixed = both.eval()(batch, all_parts=False)[0][0]
        assert float(last) == float(whole.eval()(batch, all_parts=False)[0][0])
    assert float(first) != float(last)
    assert float(mixed) == pytest.approx(0.25 * float(first) + 0.75 * float(last), rel=1e-5)


def test_the_middle_layer_must_be_inside_the_encoder(tiny_asr: Callable[..., AsrRecipe]) -> None:
    assert tiny_asr(n_layers=3, middle_layer=1).depths == {1: 0.3, 3: 0.7}
    with pytest.raises(TrainingError, match="middle_layer has to lie below"):
        tiny_asr(n_layers=2, middle_layer=2)


def test_fine_tuning_keeps_the_inference_defaults(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "source", "hf")
    before = InferenceDefaults(5.0, True, ("German",), contexts=False, lower_case=True)
    save_inference_defaults(before, source)
    save_calibration(any_calibration(), source)
    written = tune(tmp_path, source, max_steps=30, checkpoint_steps=99)[2]
    assert load_inference_defaults(written) == InferenceDefaults(
        5.0, True, ("German", "English"), contexts=True, lower_case=False
    )
    assert load_calibration(written) is None  # It belongs to other weights.


def any_calibration() -> Calibration:
    maps = {name: Logistic(0.0, (1.0,) * len(features)) for name, features in MAPS.items()}
    return Calibration(silence_threshold=0.5, **maps)


def test_a_new_model_has_inference_defaults_of_its_training(
    data: Path, tmp_path: Path, tiny_asr: Callable[..., AsrRecipe]
) -> None:
    recipe = tiny_asr(max_steps=1)
    train(recipe, Sources([data], language="en"), tmp_path / "first", reporter=quiet())
    assert load_inference_defaults(tmp_path / "first" / "model") == InferenceDefaults(
        languages=("English",), contexts=False, lower_case=True
    )
    later = Sources([data], language="German", start=tmp_path / "first")
    train(recipe, later, tmp_path / "second", reporter=quiet())
    assert load_inference_defaults(tmp_path / "second" / "model").languages == ("English", "German")
    train(recipe, Sources([data]), tmp_path / "unnamed", reporter=quiet())
    assert load_inference_defaults(tmp_path / "unnamed" / "model").languages is None
