"""Training of speaker encoders: losses, resuming, error rates and the written model."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from auris.checkpoints.speaker import load_speaker_encoder, save_speaker_encoder
from auris.errors import ConfigError, TensorError, TrainingError, UsageError
from auris.models.speaker_encoder import VoiceStatistics
from auris.training import voices as voice_statistics
from auris.training.data import TrainingClip
from auris.training.run_options import RunOptions
from auris.training.speaker import (
    SpeakerTask,
    SpeakerTrainer,
    crop_embeddings,
    equal_errors,
    pair_errors,
)
from auris.training.speaker_data import (
    SPEEDS,
    UNKNOWN,
    SpeakerBatch,
    SpeakerClips,
    Teacher,
    without_pauses,
)
from auris.training.speaker_recipe import SpeakerRecipe
from auris.training.speaker_run import SpeakerSources, export_speaker, train_speaker
from auris.training.starting import load_checkpoint
from auris.training.voices import measure
from auris.types import SAMPLE_RATE
from tests.tiny_models import ctc_config, tiny_model, write_tiny
from tests.training.conftest import SHORT, quiet
from tests.training.tones import write_wav

SIZES: dict[str, Any] = {
    **{name: value for name, value in SHORT.items() if name != "augment_from_epoch"},
    "embedding": 8,
    "attention": 4,
    "shortest_crop": 0.5,
    "longest_crop": 1.0,
    "batch_seconds": 4.0,
    "speaker_crops": 2,
}


def recipe_of(**changes: Any) -> SpeakerRecipe:
    return SpeakerRecipe.of({**SIZES, **changes})


def voice(speaker: int, seconds: float = 1.0, seed: int = 0) -> NDArray[np.int16]:
    """Harmonics of a pitch of the speaker's own, with a formant of their own, and faint noise."""
    rng = np.random.default_rng([speaker, seed])
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 90.0 * 1.35**speaker * rng.uniform(0.97, 1.03)
    formant = 500.0 + 450.0 * speaker
    wave = 0.02 * rng.standard_normal(len(times))
    for harmonic in range(1, 20):
        strength = np.exp(-(((pitch * harmonic - formant) / 500.0) ** 2))
        wave += strength * np.sin(2 * np.pi * pitch * harmonic * times)
    return (6000 * wave / np.abs(wave).max()).astype(np.int16)


def clip(speaker: int, seed: int, name: str | None = None) -> TrainingClip:
    samples = voice(speaker, 1.0, seed)
    return TrainingClip(f"{speaker}-{seed}", samples, "x", f"s{speaker}" if name is None else name)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training manifest of four speakers, and a development manifest of two others."""
    folder = tmp_path_factory.mktemp("voices")
    paths = (folder / "voices_train.csv", folder / "voices_dev.csv")
    for path, speakers in zip(paths, ((0, 1, 2, 3), (4, 5)), strict=True):
        rows = [["wav", "text", "speaker"]]
        for speaker in speakers:
            for seed in range(3):
                wav = folder / f"{speaker}-{seed}.wav"
                write_wav(wav, voice(speaker, 1.0, seed).astype(np.float32) / 32768)
                rows.append([wav.name, "", f"s{speaker}"])
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return paths


def run(
    manifests: tuple[Path, Path],
    out: Path,
    resume: bool = False,
    stop_after: int | None = None,
    **changes: Any,
) -> list[float]:
    """Train; the loss of every step. `stop_after` breaks the run off."""
    losses: list[float] = []
    inner = SpeakerTrainer.step

    def step(self: SpeakerTrainer, batches: Any) -> float:
        if len(losses) == stop_after:
            raise InterruptedError
        losses.append(inner(self, batches))
        return losses[-1]

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(InterruptedError):
        patch.setattr(SpeakerTrainer, "step", step)
        sources = SpeakerSources([manifests[0]], [manifests[1]])
        options = RunOptions(resume=resume, dtype="float32")
        train_speaker(recipe_of(**changes), sources, out, options, quiet())
    return losses


@pytest.mark.parametrize("stop", [2, 5])
def test_a_resumed_run_has_the_same_losses(
    manifests: tuple[Path, Path], tmp_path: Path, stop: int
) -> None:
    whole = run(manifests, tmp_path / "whole")
    assert len(whole) == 9
    begun = run(manifests, tmp_path / "parts", stop_after=stop)
    again = run(manifests, tmp_path / "parts", resume=True)
    assert begun == whole[:stop]
    assert again == whole[-len(again) :]
    assert len(begun) + len(again) >= 9
    for name in ("last", "model"):
        one, other = (tmp_path / part / name / "model.safetensors" for part in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes()


def test_the_written_model_has_the_embeddings_of_the_checkpoint(
    manifests: tuple[Path, Path], tmp_path: Path
) -> None:
    run(manifests, tmp_path)
    model = load_speaker_encoder(tmp_path / "model")
    mels = [torch.randn(32, 130), torch.randn(32, 57)]
    with torch.inference_mode():
        both = model(mels)
        alone = torch.cat([model([mel]) for mel in mels])
    assert torch.allclose(both, alone, atol=1e-5)
    assert torch.allclose(both.norm(dim=1), torch.ones(2))
    other = export_speaker(tmp_path, tmp_path / "half", "last")
    rounded = load_speaker_encoder(other)
    with torch.inference_mode():
        assert torch.allclose(rounded(mels), both, atol=0.05)
    assert json.loads((other / "config.json").read_text())["dtype"] == "float16"
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0].endswith(",voices")
    assert -1.0 < model.config.threshold < 1.0
    assert model.config.threshold != SpeakerTask(recipe_of(), 2).model.config.threshold


def test_the_variation_of_voices_is_written(manifests: tuple[Path, Path], tmp_path: Path) -> None:
    run(manifests, tmp_path)
    model = load_speaker_encoder(tmp_path / "model")
    assert model.config.axes == 8
    voices = model.voices
    assert voices is not None
    task = SpeakerTask(recipe_of(), 4)
    load_checkpoint(tmp_path, "best", task)
    clips = [clip(speaker, seed) for speaker in range(4) for seed in range(3)]
    data = SpeakerClips(clips, recipe_of(), None)
    embeddings, targets = crop_embeddings(task.model.eval(), data, torch.device("cpu"))
    assert embeddings.shape == (len(targets), 8)
    assert set(targets.tolist()) <= set(range(4 * len(SPEEDS)))
    points = (embeddings - voices.mean.numpy()) @ voices.axes.numpy().T
    assert np.isfinite(points).all()
    assert (voices.variances > 0).all()


def test_variances_of_known_voices_are_measured() -> None:
    """Points of each voice have a variance of 1, and those of voices the given ones."""
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(400), 12)
    between = np.array([3.0, 0.5, 0.0]) * generator.standard_normal((400, 3))
    inside = np.array([1.0, 0.1, 2.0]) * generator.standard_normal((4800, 3))
    turned = np.linalg.qr(generator.standard_normal((3, 3)))[0]
    embeddings = (between[speakers] + inside + [4.0, 0.0, 1.0]) @ turned
    voices = VoiceStatistics(2, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voice_statistics, "EVEN_SHARE", 0.0)
        measure(voices, embeddings, speakers)
    np.testing.assert_allclose(voices.variances.numpy(), [25.0, 9.0], rtol=0.15)
    points = (embeddings - voices.mean.numpy()) @ voices.axes.numpy().T
    np.testing.assert_allclose(points.mean(0), [0, 0], atol=1e-4)
    apart = points - np.stack([points[speakers == one].mean(0) for one in speakers])
    np.testing.assert_allclose((apart**2).mean(0) * 12 / 11, [1, 1], rtol=0.05)


def test_voices_that_cannot_be_measured_are_left_out(tmp_path: Path) -> None:
    model = SpeakerTask(recipe_of(), 2).model
    assert model.voices is not None
    measure(model.voices, np.eye(8), np.array([0, 1, 2, 3, UNKNOWN, UNKNOWN, 4, 4]))
    assert not model.voices.variances.any()
    out = save_speaker_encoder(model, 0.5, tmp_path / "model", torch.float32)
    assert "axes" not in json.loads((out / "config.json").read_text())
    loaded = load_speaker_encoder(out)
    assert loaded.voices is None
    assert torch.equal(loaded.out.weight, model.out.weight)


def test_training_tells_voices_apart() -> None:
    shapes = {"d_model": 32, "d_ff": 64, "embedding": 16}
    recipe = recipe_of(margin=0.1, scale=10.0, batch_seconds=12.0, dropout=0.0, **shapes)
    clips = [clip(speaker, seed) for speaker in range(4) for seed in range(3)]
    torch.manual_seed(0)
    task = SpeakerTask(recipe, 4)
    data = SpeakerClips(clips, recipe, None)
    optimizer = torch.optim.AdamW(task.parameters(), lr=5e-3)
    losses = []
    for epoch in range(60):
        task.begin_step(epoch)
        for batch in data.load(epoch):
            sums, counts = task(batch)
            loss = (sums / counts.clamp(min=1)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])
    rate, _ = pair_errors(task.model.eval(), [clip(s, seed) for s in range(4) for seed in (7, 8)])
    assert rate < 0.25


def test_the_margin_and_unknown_speakers_in_the_loss() -> None:
    recipe = recipe_of(margin=0.3, scale=10.0, teacher_weight=2.0)
    task = SpeakerTask(recipe, 2).eval()
    mels = [torch.randn(32, 60) for _ in range(3)]
    teachers = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    teachers[0] = 0
    batch = SpeakerBatch(mels, [(1,), (4,), (UNKNOWN,)], [], [], teachers=teachers)
    task.begin_step(1000)
    with torch.inference_mode():
        sums, counts = task(batch)
        embeddings = task.model(mels)
    assert counts.tolist() == [2, 2]
    cosines = embeddings[:2] @ torch.nn.functional.normalize(task.classes.detach(), dim=1).T
    cosines[0, 1] -= 0.3
    cosines[1, 4] -= 0.3
    expected = -(10 * cosines).log_softmax(1)[[0, 1], [1, 4]].sum()
    assert float(sums[0]) == pytest.approx(float(expected), rel=1e-5)
    apart = 2.0 * (1 - (embeddings[1:] * teachers[1:]).sum(1)).sum()
    assert float(sums[1]) == pytest.approx(float(apart), rel=1e-5)
    task.begin_step(0)
    assert task.margin == 0.0


class CountingTeacher:
    """Gives every clip the same embedding, and counts the calls."""

    width = 8

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, features: Tensor) -> Tensor:
        self.calls += 1
        assert features.shape[1] == 80
        return torch.eye(8)[0]


def test_clips_of_unknown_speakers_are_used_with_a_teacher_alone() -> None:
    recipe = recipe_of(teacher_weight=1.0)
    clips = [clip(0, 0), clip(1, 0), clip(2, 0, ""), clip(3, 0, "")]
    alone = [t for batch in SpeakerClips(clips, recipe, None).load(0) for t in batch.targets]
    assert (UNKNOWN,) not in alone
    encoder = CountingTeacher()
    data = SpeakerClips(clips, recipe, Teacher(encoder, "digest"))
    for epoch in range(6):
        for batch in data.load(epoch):
            for (target,), teacher in zip(batch.targets, batch.teachers, strict=True):
                unchanged = target == UNKNOWN or target % len(SPEEDS) == 0
                assert teacher.any() == unchanged
    assert encoder.calls == len(clips)


def test_batches_are_functions_of_seed_epoch_and_number() -> None:
    clips = [clip(speaker, seed) for speaker in range(3) for seed in range(2)]
    first, second = (SpeakerClips(clips, recipe_of(), None) for _ in range(2))
    list(first.load(0))
    for one, other in zip(first.load(1, 1), list(second.load(1))[1:], strict=True):
        assert one.targets == other.targets
        assert all(map(torch.equal, one.mels, other.mels))
        assert len({mel.shape for mel in one.mels}) == 1


def test_pauses_are_shortened() -> None:
    speech, silence = voice(0, 1.0), np.zeros(SAMPLE_RATE, np.int16)
    joined = without_pauses(np.concatenate([silence, speech, silence, speech, silence]))
    assert len(joined) / SAMPLE_RATE == pytest.approx(2.6, abs=0.05)
    assert len(without_pauses(speech)) == len(speech)
    assert len(without_pauses(speech[:50])) == 50


def test_equal_errors_of_known_similarities() -> None:
    similarities = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.1], np.float32)
    same = np.array([True, True, False, True, False, False])
    rate, threshold = equal_errors(similarities, same)
    assert rate == pytest.approx(1 / 3)
    assert 0.6 <= threshold <= 0.8
    assert equal_errors(similarities, similarities > 0.5)[0] == 0.0


def test_a_frozen_stem_does_not_change(manifests: tuple[Path, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run(manifests, tmp_path, train_stem=False, max_steps=4)
    torch.manual_seed(recipe_of().seed)
    fresh = SpeakerTask(recipe_of(), 4).state_dict()
    stored = load_file(tmp_path / "last" / "model.safetensors")
    same = {name for name, weight in stored.items() if torch.equal(weight, fresh[name])}
    assert {name for name in stored if ".stem." in name} <= same
    assert "model.out.weight" not in same


def test_a_run_begins_with_the_encoder_of_another(
    manifests: tuple[Path, Path], tmp_path: Path
) -> None:
    config = ctc_config()
    model = tiny_model(config)
    given = write_tiny(tmp_path / "given", config=config)
    shapes = config.encoder
    sizes = {
        "mel_bins": shapes.mel_bins,
        "d_model": shapes.d_model,
        "n_heads": shapes.heads,
        "d_ff": shapes.ffn,
        "conv_channels": shapes.conv_channels,
    }
    sources = SpeakerSources([manifests[0]], encoder=given)
    recipe = recipe_of(max_steps=1, lr=1e-9, **sizes)
    trainer = train_speaker(recipe, sources, tmp_path / "run", None, quiet())
    ours = trainer.task.model.encoder.layers[0].qkv.weight
    assert torch.allclose(ours, model.encoder.layers[0].qkv.weight, atol=1e-3)
    with pytest.raises(TrainingError, match="shapes of the recipe"):
        train_speaker(recipe_of(), sources, tmp_path / "other", None, quiet())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_split": 0.1}, "it has val_split"),
        ({"silence_share": 0.1}, "it has silence_share"),
        ({"shortest_crop": 2.0}, "shortest_crop may not exceed"),
        ({"batch_seconds": 1.0}, "batch_seconds has to hold two crops"),
        ({"middle_layer": 1}, "middle_layer"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_impossible_recipes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        recipe_of(**changes)


def test_impossible_runs_are_refused(manifests: tuple[Path, Path], tmp_path: Path) -> None:
    data, dev = manifests

    def refused(error: type[Exception], message: str, sources: SpeakerSources, **more: Any) -> None:
        recipe = recipe_of(**more.pop("recipe", {}))
        with pytest.raises(error, match=message):
            train_speaker(recipe, sources, tmp_path / "run", RunOptions(**more), quiet())

    one = tmp_path / "one.csv"
    rows = data.read_text().replace("s1", "s0").replace("s2", "s0").replace("s3", "s0")
    one.write_text(rows.replace("\n0-", f"\n{data.parent}/0-"))
    refused(TrainingError, "two speakers", SpeakerSources([one]))
    refused(TrainingError, "two speakers", SpeakerSources([data], [one]))
    refused(TrainingError, "names of their own", SpeakerSources([data], [dev, dev]))
    missing = tmp_path / "missing.pt"
    refused(UsageError, "belong together", SpeakerSources([data], teacher=missing))
    refused(UsageError, "belong together", SpeakerSources([data]), recipe={"teacher_weight": 1})
    refused(UsageError, "for a new run", SpeakerSources([data], encoder="tiny-ctc"), resume=True)
    refused(TrainingError, "hold the files of a run", SpeakerSources([data]), resume=True)


def test_damaged_speaker_models_are_refused(manifests: tuple[Path, Path], tmp_path: Path) -> None:
    run(manifests, tmp_path / "run", max_steps=1)
    model = tmp_path / "run" / "model"
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "embedding": 9}))
    with pytest.raises(TensorError, match="shape"):
        load_speaker_encoder(model)
    (model / "config.json").write_text(json.dumps({**config, "threshold": 2.0}))
    with pytest.raises(ConfigError, match="threshold"):
        load_speaker_encoder(model)
    (model / "config.json").write_text(json.dumps({**config, "axes": 9}))
    with pytest.raises(ConfigError, match="axes"):
        load_speaker_encoder(model)
    (model / "config.json").write_text(json.dumps({**config, "architecture": "aut_ctc"}))
    with pytest.raises(ConfigError, match="speaker_encoder"):
        load_speaker_encoder(model)
