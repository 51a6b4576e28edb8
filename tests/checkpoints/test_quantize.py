"""Quantized directories: written completely or not at all, loading, and refused uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from auris import AsrPipeline
from auris.alignment.aligner import ForcedAligner
from auris.backends import native
from auris.checkpoints import packed_files as files
from auris.checkpoints.export import convert
from auris.checkpoints.quantize import quantize
from auris.diagnostics.doctor import check_model
from auris.errors import CheckpointError, ConfigError, DeviceError, OutputError, UsageError
from auris.text.tokenizer import Tokenizer
from tests.checkpoints.files import read_config, read_weights, write_config, write_weights
from tests.narrow_int4 import narrow_int4  # noqa: F401
from tests.recordings import BUDGET, clip, plain
from tests.tiny_models import aligner_config, ctc_config, qwen_config, write_tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = qwen_config(decoder_layers=3)
    return write_tiny(tmp_path_factory.mktemp("source") / "m", "hf", config, seed=1)


@pytest.fixture(scope="module", params=["int8", "int4"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def small(source: Path, dtype: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantize(source, tmp_path_factory.mktemp("quantized") / "m", dtype)


def transcribed(model: Path, **options: Any) -> dict[str, Any]:
    pipeline = AsrPipeline.from_pretrained(model, **options)
    budget = {"max_new_tokens": BUDGET} if hasattr(pipeline.backend.model, "decoder") else {}
    return plain(pipeline.transcribe(clip(2.0), **budget))


def test_a_quantized_directory_equals_quantizing_while_loading(
    source: Path, small: Path, dtype: Any
) -> None:
    whole = transcribed(source, dtype=dtype)
    assert (
        transcribed(small)
        == transcribed(small, dtype=dtype)
        == transcribed(small, copy=True)
        == whole
    )


@pytest.mark.parametrize("layout", ["published", "native"])
def test_every_layout_gives_the_same_bytes(
    layout: Any, source: Path, small: Path, dtype: Any, tmp_path: Path
) -> None:
    other = quantize(convert(source, tmp_path / layout, layout), tmp_path / "m", dtype)
    assert (other / files_of(other)[0]).read_bytes() == (small / files_of(small)[0]).read_bytes()


def files_of(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.safetensors"))


def test_it_is_a_complete_native_directory(source: Path, small: Path, dtype: Any) -> None:
    config = read_config(small)
    assert config["format"] == "auris"
    assert config["quantization"] == {"dtype": dtype, "group": 32}
    assert files_of(small) == ["model.safetensors"]
    tokenizer, original = (Tokenizer.from_directory(path) for path in (small, source))
    assert tokenizer.added == original.added
    modes = {path.stat().st_mode for path in small.iterdir()}
    assert len(modes) == 1
    for finding in check_model(small):
        assert finding.ok, finding
    found = [finding.text for finding in check_model(small) if finding.what == "tensors"]
    assert f"{dtype}, the rest float32" in found[0]


def test_large_tensors_are_aligned_to_cache_lines(small: Path) -> None:
    with safe_open(small / "model.safetensors", framework="pt") as held:
        layer = held.get_tensor("decoder.layers.1.down.weight")
    assert layer.data_ptr() % 64 == 0
    assert layer.dtype in (torch.int8, torch.uint8)


def test_other_kinds_of_models(tmp_path: Path) -> None:
    ctc = write_tiny(tmp_path / "ctc", "native", ctc_config(), seed=1)
    assert transcribed(quantize(ctc, tmp_path / "ctc8")) == transcribed(ctc, dtype="int8")
    aligner = write_tiny(tmp_path / "aligner", "published", aligner_config(), seed=1)
    small = quantize(aligner, tmp_path / "aligner4", "int4")
    words = [
        ForcedAligner.from_pretrained(model, dtype="int4").align(clip(2.0), "turn on the lights")
        for model in (aligner, small)
    ]
    assert words[0] == words[1]


def test_a_ctc_head_is_copied(tmp_path: Path) -> None:
    out = quantize(AsrPipeline.from_pretrained("tiny").model.directory, tmp_path / "m", "int4")
    assert files_of(out) == ["ctc_head.safetensors", "model.safetensors"]
    pipeline = AsrPipeline.from_pretrained(out)
    found = pipeline.transcribe("examples/kitchen_fan.flac", word_timestamps=True)
    assert found.text == "switch the kitchen fan off"
    assert len(found.words or ()) == 5


def test_it_runs_without_native_code(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    pipeline = AsrPipeline.from_pretrained(small)
    assert pipeline.backend.native_decoder is None
    assert pipeline.transcribe(clip(2.0), max_new_tokens=BUDGET).segments[0].tokens


def test_quantized_models_are_not_quantized_or_converted_again(
    small: Path, dtype: Any, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=f"already in {dtype}"):
        quantize(small, tmp_path / "again")
    with pytest.raises(CheckpointError, match="floating point for this"):
        convert(small, tmp_path / "other", "hf")
    other = "int4" if dtype == "int8" else "int8"
    for asked in ("float32", other):
        with pytest.raises(DeviceError, match=f"quantized to {dtype} can only compute"):
            AsrPipeline.from_pretrained(small, dtype=asked)
    assert not list(tmp_path.iterdir())


def test_unsupported_requests(source: Path, small: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int8 or int4"):
        quantize(source, tmp_path / "m", "int5")
    with pytest.raises(UsageError, match="32, 64, 128"):
        quantize(source, tmp_path / "m", "int4", 48)
    with pytest.raises(UsageError, match="new or empty directory"):
        quantize(source, small)
    with pytest.raises(DeviceError, match=r"dtype has to be auto.*int8, int4"):
        AsrPipeline.from_pretrained(source, dtype="int5")
    assert not list(tmp_path.iterdir())


def test_packed_weights_run_only_on_the_cpu(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert AsrPipeline.from_pretrained(small).backend.device.type == "cpu"
    with pytest.raises(DeviceError, match="int8 and int4 run on the CPU"):
        AsrPipeline.from_pretrained(small, device="cuda")


def test_a_full_disk_leaves_no_files(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, packed = files.pack, []

    def full(*given: Any) -> Any:
        packed.append(given)
        if len(packed) == 5:
            raise OSError(28, "No space left on device")
        return pack(*given)

    monkeypatch.setattr(files, "pack", full)
    with pytest.raises(OutputError, match="No space left"):
        quantize(source, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_weights_with_nan_are_refused(source: Path, tmp_path: Path) -> None:
    broken = write_tiny(tmp_path / "broken", "native")
    tensors = read_weights(broken)
    tensors["decoder.layers.1.down.weight"][3, 4] = torch.inf
    write_weights(broken, tensors)
    with pytest.raises(CheckpointError, match=r"decoder\.layers\.1\.down\.weight holds others"):
        quantize(broken, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "quantization",
    [
        True,
        "int8",
        {},
        {"dtype": "int8"},
        {"dtype": "int3", "group": 32},
        {"dtype": "int4", "group": 33},
        {"dtype": "int8", "group": 32, "bits": 8},
        {"dtype": ["int8"], "group": 32},
    ],
)
def test_configs_of_other_versions_are_refused(
    quantization: Any, small: Path, tmp_path: Path
) -> None:
    for path in small.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_config(tmp_path, {**read_config(small), "quantization": quantization})
    with pytest.raises(ConfigError, match=r"quantization in config\.json has to name dtype"):
        AsrPipeline.from_pretrained(tmp_path)


def test_tensors_that_do_not_fit_are_named(source: Path, tmp_path: Path) -> None:
    out = quantize(source, tmp_path / "m", "int4")
    config = json.loads((out / "config.json").read_text())
    write_config(out, {**config, "quantization": {"dtype": "int8", "group": 32}})
    with pytest.raises(CheckpointError, match=r"4 unknown.*layers\.1\.down\.steps"):
        AsrPipeline.from_pretrained(out)
    write_config(out, config)
    tensors = read_weights(out)
    tensors["decoder.layers.1.qkv.weight"] = tensors["decoder.layers.1.qkv.weight"].to(torch.int8)
    write_weights(out, tensors)
    with pytest.raises(CheckpointError, match=r"qkv\.weight has to be of type U8, but it is I8"):
        AsrPipeline.from_pretrained(out)
