"""Models in GGUF files, written by the package of the format."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

gguf = pytest.importorskip("gguf")

from auris import AsrPipeline  # noqa: E402
from auris.backends.devices import pick_dtypes  # noqa: E402
from auris.checkpoints import gguf_files  # noqa: E402
from auris.checkpoints.export import convert  # noqa: E402
from auris.checkpoints.hub import resolve  # noqa: E402
from auris.checkpoints.load import open_checkpoint, read_tokenizer  # noqa: E402
from auris.checkpoints.quantize import quantize  # noqa: E402
from auris.diagnostics.doctor import check_model  # noqa: E402
from auris.errors import CheckpointError, MissingExtra, UnknownModel  # noqa: E402
from auris.recognition.fingerprint import model_digest  # noqa: E402
from tests.checkpoints.files import read_weights, write_weights  # noqa: E402
from tests.checkpoints.foreign_files import as_kind, gguf_name, weights_of, write_gguf  # noqa: E402
from tests.recordings import BUDGET, clip, tokens  # noqa: E402
from tests.tiny_models import qwen_config, write_tiny  # noqa: E402

Kind = gguf.GGMLQuantizationType
WIDE = {"hidden": 256, "d_model": 64, "decoder_heads": 4, "head_dim": 64}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = qwen_config(**WIDE)
    return write_tiny(tmp_path_factory.mktemp("gguf") / "published", "published", config, seed=3)


def dequantized(published: Path, text: Path, out: Path) -> Path:
    """The directory whose weights are those that two files mean, read by the format's package."""
    shutil.copytree(published, out)
    meant = {}
    for file in (text, text.with_name(f"mmproj-{text.name}")):
        for tensor in gguf.GGUFReader(file).tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            meant[tensor.name] = torch.from_numpy(values.copy())
    tensors = read_weights(out)
    write_weights(out, {n: meant[gguf_name(n)].reshape(t.shape) for n, t in tensors.items()})
    return out


@pytest.mark.parametrize(
    "kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q5_1, Kind.Q4_K, Kind.Q6_K]
)
def test_weights_are_those_that_the_blocks_mean(
    published: Path, tmp_path: Path, kind: object
) -> None:
    text = write_gguf(published, tmp_path / "files", as_kind(kind))
    meant = weights_of(dequantized(published, text, tmp_path / "meant"))
    ours = weights_of(text)
    assert set(ours) == set(meant)
    for name, tensor in meant.items():
        assert torch.equal(ours[name], tensor), name
    if kind not in (Kind.F32, Kind.Q4_K, Kind.Q6_K):
        original = weights_of(published)
        assert any(not torch.equal(ours[name], tensor) for name, tensor in original.items())


def test_config_and_tokenizer(published: Path, tmp_path: Path) -> None:
    text = write_gguf(published, tmp_path, as_kind(Kind.Q8_0))
    checkpoint, original = open_checkpoint(text), open_checkpoint(published)
    assert checkpoint.config == original.config
    ours, wanted = read_tokenizer(checkpoint), read_tokenizer(original)
    assert ours.added == wanted.added
    for sentence in ("Hello, the world!", "naïve 世界\n", "<asr_text>"):
        assert ours.encode(sentence) == wanted.encode(sentence)
    assert open_checkpoint(tmp_path).config == original.config, "a directory of both files"
    head = write_tiny(tmp_path / "head", "published", qwen_config(tied=False, **WIDE))
    untied = write_gguf(head, tmp_path / "untied", as_kind(Kind.F16))
    assert open_checkpoint(untied).config == open_checkpoint(head).config


def test_texts_are_those_of_the_dequantized_weights(published: Path, tmp_path: Path) -> None:
    text = write_gguf(published, tmp_path / "files", as_kind(Kind.Q8_0))
    meant = dequantized(published, text, tmp_path / "meant")
    for dtype in ("float32", "bfloat16"):
        pair = [AsrPipeline(one, "cpu", dtype=dtype) for one in (str(text), meant)]
        one = clip(2.0)
        results = [pipeline.transcribe(one, max_new_tokens=BUDGET) for pipeline in pair]
        assert tokens(results[0]) == tokens(results[1])
    packed = [AsrPipeline(one, "cpu", dtype="int8").backend.model for one in (text, meant)]
    ours, theirs = (model.get_submodule("decoder").state_dict() for model in packed)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    # Files of this kind count as bfloat16, which not every processor computes in.
    usual = pick_dtypes("auto", torch.device("cpu"), torch.bfloat16, native_decoder=False)
    assert AsrPipeline(text, "cpu").backend.dtype == usual.computed


def test_directories_made_of_files(published: Path, tmp_path: Path) -> None:
    text = write_gguf(published, tmp_path / "files", as_kind(Kind.Q8_0))
    assert weights_of(convert(text, tmp_path / "converted", "hf", dtype=torch.float32))
    quantized = open_checkpoint(quantize(text, tmp_path / "int8"))
    assert quantized.quantization is not None
    assert [one for one in check_model(text) if one.ok is False] == []
    assert resolve(str(text)).directory == text
    before = model_digest(text)
    assert model_digest(tmp_path / "files") == before
    encoder = text.with_name(f"mmproj-{text.name}")
    encoder.write_bytes(encoder.read_bytes() + b"\0")
    assert model_digest(text) != before


def test_files_that_cannot_be_used(published: Path, tmp_path: Path) -> None:
    text = write_gguf(published, tmp_path, as_kind(Kind.Q8_0))
    encoder = text.with_name(f"mmproj-{text.name}")
    with pytest.raises(CheckpointError, match="holds no text model"):
        open_checkpoint(encoder)
    with pytest.raises(UnknownModel, match="is a file"):
        resolve(str(published / "config.json"))
    shutil.copy(encoder, tmp_path / "mmproj-other.gguf")
    with pytest.raises(CheckpointError, match=r"one GGUF file of the encoder .* mmproj-other"):
        open_checkpoint(text)
    (tmp_path / "mmproj-other.gguf").unlink()
    shutil.copy(text, tmp_path / "other.gguf")
    assert open_checkpoint(text).gguf is not None
    with pytest.raises(
        CheckpointError, match=r"of the text model, but it holds model\.gguf, other"
    ):
        open_checkpoint(tmp_path)
    encoder.unlink()
    with pytest.raises(CheckpointError, match="it holds none"):
        open_checkpoint(text)


@pytest.mark.parametrize("length", [0, 3, 5, 20, 200, 5000, -40])
def test_damaged_files(published: Path, tmp_path: Path, length: int) -> None:
    text = write_gguf(published, tmp_path, as_kind(Kind.Q8_0))
    text.write_bytes(text.read_bytes()[: length or None] if length else b"")
    with pytest.raises(CheckpointError, match="cannot be used"):
        weights_of(text)


def test_unknown_kinds_are_named(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_gguf(published, tmp_path, as_kind(Kind.TQ1_0))
    with pytest.raises(CheckpointError, match=r"is of the kind TQ1_0"):
        weights_of(text)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(CheckpointError, match=r"is of the kind with the number 34"):
        weights_of(text)


def test_kinds_that_need_the_package(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_gguf(published, tmp_path / "k", as_kind(Kind.Q4_K))
    plain = write_gguf(published, tmp_path / "p", as_kind(Kind.Q8_0))
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert weights_of(plain)
    with pytest.raises(MissingExtra, match="kind Q4_K need the package gguf"):
        weights_of(text)


def test_the_window_is_that_of_the_official_models() -> None:
    assert qwen_config().encoder.window_frames == gguf_files.WINDOW_FRAMES == 800
