"""A model with adapters that are not merged writes the texts of the merged model."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from auris import AsrPipeline
from auris.checkpoints.adapters import load_adapter, save_adapter
from auris.cli.main import app
from auris.errors import CheckpointError, TrainingError, UnsupportedOption
from auris.models.adapted import AdaptedLinear
from auris.recognition.fingerprint import model_values
from auris.recognition.load import load_model, with_adapter
from auris.training.exporting import export_adapter
from auris.training.recipes import TuneRecipe
from auris.training.run_options import Sources
from tests.tiny_models import qwen_config, tone_speech, write_tiny
from tests.training.conftest import train_here
from tests.training.tones import write_wav

# Not imported here: with that of transformers it takes seconds, in every worker process.
pytestmark = pytest.mark.skipif(not find_spec("peft"), reason="needs peft")

RECIPE = TuneRecipe.of(
    {"max_steps": 6, "lora_rank": 4, "lora_alpha": 8, "lr": 0.05, "warmup_steps": 1,
     "batch_seconds": 8, "bf16": False}
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a run that has trained adapters of it, and these adapters."""
    folder = tmp_path_factory.mktemp("adapters")
    write_tiny(folder / "base", config=qwen_config())
    write_wav(folder / "a.wav", tone_speech(2.0, 1))
    rows = "wav,text,language\na.wav,Guten Morgen!,German\n"
    (folder / "train.csv").write_text(rows)
    sources = Sources([folder / "train.csv"], model=folder / "base")
    train_here(RECIPE, sources, folder / "run", dtype="float32")
    export_adapter(folder / "run", folder / "adapter")
    return folder


LENGTHS = (1.0, 2.5, 4.0)


def tokens(pipeline: AsrPipeline) -> list[tuple[int, ...]]:
    """Tokens of several recordings."""
    recordings = [(tone_speech(seconds, seed), 16000) for seed, seconds in enumerate(LENGTHS)]
    results = [pipeline.transcribe(recording, vad=False) for recording in recordings]
    return [tuple(t for segment in result.segments for t in segment.tokens) for result in results]


def test_the_tokens_are_those_of_the_merged_model(folder: Path) -> None:
    base = AsrPipeline(folder / "base", "cpu", dtype="float32")
    merged = AsrPipeline(folder / "run" / "model", "cpu", dtype="float32")
    adapted = AsrPipeline(folder / "base", "cpu", dtype="float32", adapter=folder / "adapter")
    assert tokens(adapted) == tokens(merged)
    assert tokens(adapted) != tokens(base)
    # Half-precision weights of the base are computed with by PyTorch, too.
    assert AsrPipeline(folder / "base", "cpu", adapter=folder / "adapter").backend.model.adapter


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_adapters_of_weights_in_16_bits(folder: Path, dtype: str) -> None:
    """Native code would run such a decoder without adapters."""
    adapted = AsrPipeline(folder / "base", "cpu", dtype=dtype, adapter=folder / "adapter")
    assert adapted.backend.decode_step == "PyTorch"
    base = AsrPipeline(folder / "base", "cpu", dtype=dtype)
    assert tokens(adapted) != tokens(base)


def test_models_with_adapters_share_the_weights(folder: Path, tmp_path: Path) -> None:
    layers = load_adapter(folder / "adapter").layers
    half = {name: (layer.down, 0.5 * layer.up) for name, layer in layers.items()}
    save_adapter(tmp_path / "half", half, 4, 8)
    loaded = load_model(folder / "base", device="cpu", dtype="float32")
    one = with_adapter(loaded, folder / "adapter")
    other = with_adapter(one, tmp_path / "half")
    linear = one.backend.model.decoder.layers[0].qkv
    second = other.backend.model.decoder.layers[0].qkv
    assert isinstance(linear, AdaptedLinear)
    assert isinstance(second, AdaptedLinear)
    assert second.base.weight.data_ptr() == linear.base.weight.data_ptr()
    assert torch.equal(2 * second.get_buffer("up_weight"), linear.get_buffer("up_weight"))
    assert not isinstance(loaded.backend.model.decoder.layers[0].qkv, AdaptedLinear)


def test_results_are_bound_to_their_adapters(folder: Path) -> None:
    base = AsrPipeline(folder / "base", "cpu", dtype="float32")
    adapted = AsrPipeline(folder / "base", "cpu", dtype="float32", adapter=folder / "adapter")
    values = [model_values(pipeline)["adapter"] for pipeline in (base, adapted)]
    assert values[0] == ""
    assert len(values[1]) == 64


def test_the_command_line_writes_and_uses_adapters(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    call = ["train", "export", "--run", str(folder / "run"), "--out", str(out), "--adapter"]
    done = CliRunner().invoke(app, call, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    content = (out / "adapter.safetensors").read_bytes()
    assert content == (folder / "adapter" / "adapter.safetensors").read_bytes()
    call = ["transcribe", "--model", str(folder / "base"), "--device", "cpu", "--dtype", "float32"]
    call += [str(folder / "a.wav"), "-f", "json", "--no-vad"]
    written = [
        json.loads(CliRunner().invoke(app, [*call, *more], catch_exceptions=False).stdout)
        for more in ([], ["--adapter", str(out)])
    ]
    ids = [[segment["tokens"] for segment in one["segments"]] for one in written]
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    "damage",
    ["absent", "rank", "tensors", "nan", "shapes", "other rank", "none", "number", "infinite",
     "integers", "deep", "unknown"],
)  # fmt: skip
def test_damaged_adapters_are_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    layers = load_adapter(folder / "adapter").layers
    weights = {name: (layer.down, layer.up) for name, layer in layers.items()}
    if damage == "nan":
        weights["layers.0.qkv"][1][0, 0] = float("nan")
    if damage == "shapes":
        weights["layers.0.qkv"] = (weights["layers.0.qkv"][0][:, :-1], weights["layers.0.qkv"][1])
    directory = tmp_path / "adapter"
    if damage == "none":
        weights = {}
    if damage == "number":
        weights = {"layers.0.qkv": (torch.tensor(1.0), torch.tensor(1.0))}
    if damage == "integers":
        weights = {name: (down.int(), up.int()) for name, (down, up) in weights.items()}
    if damage == "unknown":
        weights["layers.0.none"] = (torch.zeros(4, 0), torch.zeros(0, 4))
    if damage != "absent":
        save_adapter(directory, weights, {"rank": 0, "other rank": 2}.get(damage, 4), 8)
    settings = {"infinite": '{"format": 1, "rank": Infinity, "alpha": 8}', "deep": "[" * 100_000}
    if damage in settings:
        (directory / "adapter.json").write_text(settings[damage])
    if damage == "tensors":
        save_file({"layers.0.qkv.down": torch.zeros(4, 4)}, directory / "adapter.safetensors")
    with pytest.raises(CheckpointError):
        load_model(folder / "base", device="cpu", adapter=directory)


def test_packed_weights_and_runs_without_adapters_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOption, match="adapter changes the decoder"):
        AsrPipeline("tiny-ctc", "cpu", adapter=folder / "adapter")
    plain = TuneRecipe.of({"max_steps": 1, "batch_seconds": 8, "bf16": False})
    sources = Sources([folder / "train.csv"], model=folder / "base")
    train_here(plain, sources, tmp_path / "run")
    with pytest.raises(TrainingError, match="no lora_rank"):
        export_adapter(tmp_path / "run", tmp_path / "adapter")


def test_the_server_serves_adapters_by_name(folder: Path) -> None:
    pytest.importorskip("fastapi")
    from auris.cli.values import named_directory
    from auris.errors import UsageError
    from auris.server.model_registry import ModelRegistry
    from auris.server.settings import Settings

    named = [named_directory(f"{name}={folder / 'adapter'}") for name in ("german", "other")]
    settings = Settings(
        models=(str(folder / "base"),), device="cpu", dtype="float32", adapters=tuple(named)
    )
    registry = ModelRegistry.load(settings)
    assert [model.name for model in registry] == ["base", "german", "other"]
    assert registry.default.name == "base"
    models = [model.engine.recognizer.backend.model for model in registry]
    assert [bool(model.adapter) for model in models] == [False, True, True]
    shared = [model.decoder.layers[0].qkv.base.weight.data_ptr() for model in models[1:]]
    assert shared[0] == shared[1]
    assert registry.pick("german").digest != registry.default.digest
    with pytest.raises(UsageError, match="names of their own"):
        ModelRegistry.load(Settings(models=(str(folder / "base"),), device="cpu",
                                    adapters=(("base", str(folder / "adapter")),)))  # fmt: skip
    for wrong in ("german", "=x", "a b=x"):
        with pytest.raises(UsageError, match="NAME=DIR"):
            named_directory(wrong)
