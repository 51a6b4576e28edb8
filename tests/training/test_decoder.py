"""A decoder behind a trained encoder: stages, where its parts come from, resuming, use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from auris.audio.io import load
from auris.checkpoints.layouts import LayoutName
from auris.checkpoints.load import load_weights, open_checkpoint
from auris.checkpoints.quantize import quantize
from auris.config import QwenAsrConfig
from auris.errors import CheckpointError, TensorError, TrainingError, UsageError
from auris.pipeline import AsrPipeline
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.exporting import export_run, written
from auris.training.recipes import AsrRecipe, CtcRecipe, TuneRecipe
from auris.training.run import train
from auris.training.run_options import RunOptions, Sources
from auris.training.starting import asr_recipe_kind
from tests.streaming.live import same, stable, updates_of
from tests.tiny_models import aligner_config, qwen_config, write_tiny
from tests.training.conftest import broken_off, quiet, train_here
from tests.training.tones import tones, write_wav

MakeCtc = Callable[..., CtcRecipe]
SMALL: dict[str, Any] = {
    "hidden": 24,
    "decoder_layers": 1,
    "decoder_heads": 2,
    "kv_heads": 1,
    "head_dim": 8,
    "decoder_ff": 32,
}


def recipe(given: bool = False, **changes: Any) -> DecoderRecipe:
    """A short run; `given`: without the shapes of a decoder."""
    values = {
        **({} if given else SMALL),
        "decoder_from_step": 2,
        "encoder_from_step": 4,
        "max_steps": 6,
        "warmup_steps": 1,
        "lr": 1e-2,
        "batch_seconds": 3.0,
        "checkpoint_steps": 2,
        "augment_from_epoch": 2,
        "bf16": False,
    }
    return DecoderRecipe.of({**values, **changes})


@pytest.fixture
def ctc_run(data: Path, tmp_path: Path, tiny: MakeCtc) -> Path:
    """A run of `auris train ctc`."""
    train_here(tiny(max_steps=3), Sources([data]), tmp_path / "ctc")
    return tmp_path / "ctc"


def weights(run: Path, checkpoint: str = "last") -> dict[str, Tensor]:
    return load_file(run / checkpoint / "model.safetensors")


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts of which a weight has changed: `head`, or the names of the model's modules."""
    names = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    return {name.removeprefix("model.").partition(".")[0] for name in names}


def stage_by_stage(
    monkeypatch: pytest.MonkeyPatch, made: DecoderRecipe, sources: Sources, out: Path
) -> list[set[str]]:
    """What moves in steps 1 and 2, 3 and 4, 5 and 6."""
    result = []
    broken_off(monkeypatch, 0, lambda: train(made, sources, out, reporter=quiet()))
    before = weights(out)
    for end in (2, 4, None):
        resume = lambda: train(made, sources, out, RunOptions(resume=True), quiet())  # noqa: E731
        if end is None:
            resume()
        else:
            broken_off(monkeypatch, end, resume)
        after = weights(out)
        result.append(moved(before, after))
        before = after
    return result


def test_each_stage_trains_its_parts_and_no_others(
    ctc_run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = Sources([data], encoder=ctc_run)
    stages = stage_by_stage(monkeypatch, recipe(), sources, tmp_path / "run")
    assert stages == [
        {"projector", "head"},
        {"projector", "head", "decoder"},
        {"projector", "head", "decoder", "encoder"},
    ]


def test_a_given_decoder_trains_the_projector_while_it_is_frozen(
    ctc_run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = write_tiny(tmp_path / "decoder", "hf")
    made = recipe(True, ctc_weight=0.0, encoder_from_step=999)
    sources = Sources([data], encoder=ctc_run, decoder=decoder)
    stages = stage_by_stage(monkeypatch, made, sources, tmp_path / "run")
    assert stages == [{"projector"}, {"projector", "decoder"}, {"projector", "decoder"}]
    exported = export_run(tmp_path / "run", tmp_path / "model", "last", torch.float32)
    config = open_checkpoint(exported).config
    assert isinstance(config, QwenAsrConfig)
    assert config.decoder == qwen_config().decoder


def test_the_encoder_learns_at_its_share_of_the_rate(
    ctc_run: Path, data: Path, tmp_path: Path
) -> None:
    made = recipe(encoder_rate=0.25, decoder_from_step=0, encoder_from_step=0)
    run = train_here(made, Sources([data], encoder=ctc_run), tmp_path / "run")
    rates = {group["share"]: group["lr"] for group in run.optimizer.param_groups}
    assert rates.keys() == {1.0, 0.25}
    assert rates[0.25] == 0.25 * rates[1.0] > 0


def test_the_rate_rises_again_where_a_stage_begins() -> None:
    made = recipe(warmup_steps=10, decoder_from_step=100, encoder_from_step=200, max_steps=400)
    rates = [made.learning_rate(step, 400) for step in range(400)]
    assert rates[0] == rates[9] / 10 == made.lr / 10
    for first in (100, 200):
        assert rates[first] < 0.11 * rates[first - 1]
        assert rates[first + 9] == pytest.approx(rates[first - 1], rel=0.1)
    plain = AsrRecipe.of({"warmup_steps": 10, "lr": made.lr})
    assert rates[50] == plain.learning_rate(50, 400)


@pytest.mark.no_cover
@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_resumed_run_gives_the_same_weights(
    ctc_run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    text = data.read_text() + ",ab cd\n,dc ba\n"
    data.write_text(text)
    made, sources = recipe(), Sources([data], encoder=ctc_run)
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(made, sources, whole, reporter=quiet())
    broken_off(monkeypatch, after, lambda: train(made, sources, part, reporter=quiet()))
    train(made, sources, part, RunOptions(resume=True), quiet())
    assert not moved(weights(whole), weights(part))
    logs = [(run / "steps.csv").read_text().splitlines() for run in (whole, part)]
    losses = [[line.split(",")[2] for line in log] for log in logs]
    assert len(losses[0]) == 7
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "shapes",
    [{}, {"stem": "conv1d"}, {"batch_norm": True}, {"mel_bins": 48, "n_layers": 2}],
    ids=str,
)
@pytest.mark.parametrize("source", ["run", "model"])
def test_the_written_model_has_the_encoder_of_the_ctc_run(
    data: Path, tmp_path: Path, tiny: MakeCtc, shapes: dict[str, Any], source: str
) -> None:
    train_here(tiny(max_steps=3, **shapes), Sources([data]), tmp_path / "ctc")
    ctc = export_run(tmp_path / "ctc", tmp_path / "ctc-model", None, torch.float32)
    made = recipe(max_steps=4, projector="linear")
    encoder = ctc if source == "model" else tmp_path / "ctc"
    train_here(made, Sources([data], encoder=encoder), tmp_path / "run", dtype="float32")
    cpu = torch.device("cpu")
    models = [
        load_weights(open_checkpoint(path), cpu, lambda stored: stored)
        for path in (ctc, tmp_path / "run" / "model")
    ]
    mels = [torch.randn(shapes.get("mel_bins", 32), frames) for frames in (130, 40)]
    states = [model.encoder(mels)[0] for model in models]
    assert torch.equal(*states)
    assert models[0].config.frontend == models[1].config.frontend == "htk1024"


@pytest.fixture
def joined(ctc_run: Path, data: Path, tmp_path: Path) -> Path:
    """The model of a run, with a CTC head."""
    train_here(recipe(), Sources([data], encoder=ctc_run), tmp_path / "run")
    return tmp_path / "run" / "model"


def test_the_model_is_native_and_says_so(
    joined: Path, tmp_path: Path, data: Path, tiny_asr: Callable[..., AsrRecipe]
) -> None:
    assert open_checkpoint(joined).layout == "native"
    assert "transformers has no such model (this one has rms norms" in written(joined)
    # Behind the encoder of a Qwen3-ASR model it is one that transformers loads.
    train_here(tiny_asr(max_steps=1), Sources([data]), tmp_path / "asr")
    for encoder in (tmp_path / "asr", tmp_path / "asr" / "model"):
        out = tmp_path / f"behind-{encoder.name}"
        train_here(recipe(max_steps=4), Sources([data], encoder=encoder), out)
        assert open_checkpoint(out / "model").layout == "hf"
        assert written(out / "model") == f"wrote {out / 'model'}"


def test_files_batches_and_streams_agree(joined: Path, tmp_path: Path) -> None:
    pipeline = AsrPipeline.from_pretrained(joined, device="cpu")
    paths = []
    for text in ("abcd", "dcbaab", "ba" * 9):
        paths.append(tmp_path / f"{text}.wav")
        write_wav(paths[-1], tones(text))
    options: dict[str, Any] = {"chunk_seconds": 3.0, "vad": False, "max_new_tokens": 12}
    options["end_at_pauses"] = True
    alone = [pipeline.transcribe(path, **options) for path in paths]
    together = pipeline.transcribe(paths, batch_size=3, **options)
    assert [one.text for one in together] == [one.text for one in alone]
    for path, one in zip(paths, alone, strict=True):
        stream = pipeline.stream(**options)
        updates = updates_of(stream, load(path).samples, [4000])
        same(stable(updates), one.segments, path.stem)


def test_the_model_aligns_and_runs_in_8_bits(joined: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "spoken.wav", tones("abcd"))
    pipeline = AsrPipeline.from_pretrained(joined, device="cpu")
    result = pipeline.transcribe(tmp_path / "spoken.wav", word_timestamps=True, max_new_tokens=9)
    assert all(word.end >= word.start for segment in result.segments for word in segment.words)
    packed = quantize(joined, tmp_path / "packed", "int8")
    AsrPipeline.from_pretrained(packed).transcribe(tmp_path / "spoken.wav", max_new_tokens=5)
    with pytest.raises(CheckpointError, match="floating point"):
        train_here(
            recipe(), Sources([tmp_path / "tones_train.csv"], encoder=packed), tmp_path / "x"
        )


@pytest.mark.parametrize("source", ["run", "model"])
def test_a_run_starts_from_a_joined_model(
    joined: Path, data: Path, tmp_path: Path, source: str
) -> None:
    start = joined if source == "model" else joined.parent
    assert asr_recipe_kind(None, None, start) is DecoderRecipe
    made = recipe(True, max_steps=2, lr=1e-12, decoder_from_step=0, encoder_from_step=0)
    train_here(made, Sources([data]), tmp_path / "second", start, dtype="float32")
    before, after = weights(joined.parent), weights(tmp_path / "second")
    precision = 1e-6 if source == "run" else 2e-3
    assert all(
        torch.allclose(weight, after[name], atol=precision) for name, weight in before.items()
    )
    assert asr_recipe_kind(None, None, tmp_path / "second") is DecoderRecipe
    again = train_here(made, Sources([data]), tmp_path / "second", resume=True)
    assert again.progress.step == 2
    with pytest.raises(UsageError, match="it has hidden"):
        train_here(recipe(True, hidden=24), Sources([data]), tmp_path / "third", start)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_joined_model_is_fine_tuned(joined: Path, data: Path, tmp_path: Path, rank: int) -> None:
    if rank:
        pytest.importorskip("peft")
    made = TuneRecipe.of({"max_steps": 2, "bf16": False, "lora_rank": rank, "lr": 1e-2})
    train_here(made, Sources([data], model=joined), tmp_path / "tuned")
    layout: LayoutName = "native"
    checkpoint = open_checkpoint(tmp_path / "tuned" / "model")
    assert checkpoint.layout == layout
    given = open_checkpoint(joined).config
    assert dataclasses.replace(checkpoint.config) == given
    AsrPipeline.from_pretrained(tmp_path / "tuned" / "model")


def test_the_sources_may_be_gone_when_a_run_is_exported(
    ctc_run: Path, joined: Path, tmp_path: Path
) -> None:
    ctc_run.rename(tmp_path / "moved")
    export_run(joined.parent, tmp_path / "again", "last")


def test_unfit_sources_are_refused(
    ctc_run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never_read(*args: object, **options: object) -> None:
        raise AssertionError("recordings are read")

    monkeypatch.setattr("auris.training.run.load_clips", never_read)
    aligner = write_tiny(tmp_path / "aligner", config=aligner_config())
    ctc_model = ctc_run / "model"
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({}, TrainingError, "name encoder"),
        ({"encoder": tmp_path / "none"}, TrainingError, "none of them"),
        ({"encoder": "tiny-gtc"}, TrainingError, "encoder takes the folder of a run"),
        ({"encoder": aligner}, TrainingError, "forced aligner"),
        ({"encoder": tmp_path}, CheckpointError, "config.json"),
        ({"encoder": ctc_run, "decoder": ctc_model}, TrainingError, "CTC head only"),
        ({"encoder": ctc_run, "start": ctc_run}, UsageError, "starts from another"),
        ({"start": ctc_run}, TrainingError, "with encoder"),
        ({"start": ctc_model}, TrainingError, "with encoder"),
    ]
    for sources, kind, message in cases:
        with pytest.raises(kind, match=message):
            train(recipe(True), Sources([data], **sources), tmp_path / "run", reporter=quiet())
    shaped = Sources([data], encoder=ctc_run, decoder=write_tiny(tmp_path / "decoder"))
    with pytest.raises(UsageError, match="it has hidden, decoder_layers"):
        train(recipe(), shaped, tmp_path / "run", reporter=quiet())
    with pytest.raises(UsageError, match="a recipe that joins none"):
        train(AsrRecipe(), Sources([data], encoder=ctc_run), tmp_path / "run", reporter=quiet())
    assert not (tmp_path / "run").exists()


def test_a_config_with_other_mel_bins_than_the_weights_is_refused(
    ctc_run: Path, data: Path, tmp_path: Path
) -> None:
    config = ctc_run / "model" / "config.json"
    config.write_text(config.read_text().replace('"mel_bins": 32', '"mel_bins": 80'))
    with pytest.raises(TensorError, match=r"encoder\.stem\.out\.weight"):
        train_here(recipe(), Sources([data], encoder=ctc_run / "model"), tmp_path / "run")
    with pytest.raises(TrainingError, match="it has mel_bins"):
        recipe(mel_bins=80)


def test_a_run_is_resumed_with_its_own_encoder(
    ctc_run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, out = Sources([data], encoder=ctc_run), tmp_path / "run"
    broken_off(monkeypatch, 1, lambda: train(recipe(), sources, out, reporter=quiet()))
    assert asr_recipe_kind(None, None, out) is DecoderRecipe
    for other in (ctc_run / "model", None):
        with pytest.raises(TrainingError, match="its own recipe and model"):
            train_here(recipe(), Sources([data], encoder=other), out, resume=True)
    about = out / "run.json"
    about.write_text(about.read_text().replace('"fresh"', '"new"'))
    with pytest.raises(TrainingError, match="files of a run"):
        train_here(recipe(), sources, out, resume=True)


def test_the_decoder_has_to_be_trained_before_the_run_ends(
    ctc_run: Path, data: Path, tmp_path: Path
) -> None:
    made = recipe(decoder_from_step=6, encoder_from_step=6)
    with pytest.raises(TrainingError, match="before the run ends"):
        train_here(made, Sources([data], encoder=ctc_run), tmp_path / "run")
    with pytest.raises(TrainingError, match="at least decoder_from_step"):
        recipe(decoder_from_step=6, encoder_from_step=5)


def test_the_stages_are_told(ctc_run: Path, data: Path, tmp_path: Path) -> None:
    assert recipe().stages(6).splitlines() == [
        "steps 1 to 2 train: projector; steps 3 to 4 train: projector, decoder; "
        "steps 5 to 6 train: projector, decoder, encoder"
    ]
    assert recipe(decoder_from_step=0, encoder_from_step=9).stages(6) == (
        "steps 1 to 6 train: projector, decoder"
    )
