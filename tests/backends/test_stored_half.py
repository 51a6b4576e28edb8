"""Checkpoints in a half-precision dtype that PyTorch does not compute in on the CPU: the decoder
runs with its weights as stored, in native code, and scores as the same model in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from auris import AsrPipeline
from auris.backends import native
from auris.backends.base import best_of
from auris.backends.native_decoder import LONGEST_STEP
from auris.backends.torch import TorchBackend
from auris.checkpoints.layouts import LayoutName
from auris.recognition.fingerprint import model_values
from tests.backends.test_native import SHAPES, config, prompt
from tests.processors import set_bfloat16
from tests.recordings import clip, tokens
from tests.ties import LOGITS, Ties
from tests.tiny_models import ctc_config, write_tiny

pytestmark = pytest.mark.skipif(not native.available(), reason="built without native code")

STORED = [torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def without_products_of_half_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AURIS_STATIC_STEP", raising=False)
    set_bfloat16(monkeypatch, False)


def load(directory: Path, dtype: str = "auto") -> AsrPipeline:
    return AsrPipeline.from_pretrained(directory, dtype=dtype, device="cpu")


def dtypes(backend: TorchBackend) -> tuple[torch.dtype, torch.dtype]:
    return backend.dtype, backend.decoder_dtype


def write(out: Path, dtype: torch.dtype, shape: int = 0) -> Path:
    return write_tiny(out, config=config(shape), seed=shape, dtype=dtype)


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("dtype", STORED)
def test_prompts_and_steps_score_as_float32(tmp_path: Path, dtype: torch.dtype, shape: int) -> None:
    directory = write(tmp_path / "m", dtype, shape)
    ours, theirs, ties = load(directory).backend, load(directory, "float32").backend, Ties()
    assert dtypes(ours) == (torch.float32, dtype)
    assert dtypes(theirs) == (torch.float32, torch.float32)
    assert ours.native_decoder is not None
    assert theirs.native_decoder is None
    caches = ours.new_cache(3, 8), theirs.new_cache(3, 8)
    assert caches[0].keys.dtype == torch.float32
    inputs: list[torch.Tensor | list[int]] = [
        prompt(length, shape, length) for length in (1, LONGEST_STEP + 1, 50)
    ]
    for backend, cache in zip((ours, theirs), caches, strict=True):
        backend.admit(cache, 3)
    for step in range(20):
        logits = ours.extend(caches[0], inputs)
        wanted = theirs.extend(caches[1], inputs)
        assert (logits - wanted).abs().max() <= LOGITS
        for row, (one, other) in enumerate(zip(logits[:, 0], wanted[:, 0], strict=True)):
            best = one.topk(2).values
            chosen = [int(one.argmax())], [int(other.argmax())]
            ties.same(*chosen, [float(best[0] - best[1])], f"step {step} of row {row}")
        inputs = [[choice.token] for choice in best_of(logits[:, 0])]
    assert ties.count == 0


@pytest.mark.parametrize("layout", ["native", "hf", "published"])
def test_texts_are_those_of_float32(tmp_path: Path, layout: LayoutName) -> None:
    """Alone and in a batch, with bits that do not depend on it; audio is not rounded."""
    directory = write_tiny(tmp_path / "m", layout, seed=3, dtype=torch.float16)
    ours, theirs = load(directory), load(directory, "float32")
    assert ours.backend.weights == "float16"
    recordings = [clip(1.0 + number, number) for number in range(3)]
    alone = [ours.transcribe(one, max_new_tokens=12) for one in recordings]
    wanted = [theirs.transcribe(one, max_new_tokens=12) for one in recordings]
    assert [tokens(one) for one in alone] == [tokens(one) for one in wanted]
    together = ours.transcribe(recordings, batch_size=3, max_new_tokens=12)
    assert [tokens(one) for one in together] == [tokens(one) for one in alone]
    (states,) = ours.backend.encode([torch.randn(128, 100)])
    ids = [ours.backend.model.config.audio_token_id] * len(states)
    assert torch.equal(ours.backend.embed(ids, states), theirs.backend.embed(ids, states))


@pytest.mark.parametrize("length", [3, 40])
def test_a_row_is_the_same_in_any_batch(tmp_path: Path, length: int) -> None:
    backend = load(write(tmp_path / "m", torch.float16, 1)).backend
    prompts = [prompt(length + row, 1, row) for row in range(4)]
    cache = backend.new_cache(4, 64)
    backend.admit(cache, 4)
    together = backend.extend(cache, prompts)
    for row, one in enumerate(prompts):
        alone = backend.new_cache(1, 64)
        backend.admit(alone)
        assert torch.equal(backend.extend(alone, [one])[0], together[row])


def test_a_decoder_that_is_partly_in_float32_is_not_rounded(tmp_path: Path) -> None:
    directory = write(tmp_path / "m", torch.float16)
    (file,) = directory.glob("*.safetensors")
    weights = load_file(file)
    weights["decoder.norm.weight"] = weights["decoder.norm.weight"].float()
    save_file(weights, file)
    assert dtypes(load(directory).backend) == (torch.float32, torch.float32)


@pytest.mark.parametrize("dtype", STORED)
def test_it_runs_where_a_half_dtype_is_asked_for(tmp_path: Path, dtype: torch.dtype) -> None:
    """Its weights are rounded to the dtype, and PyTorch never computes in it."""
    directory = write_tiny(tmp_path / "m", config=config(0), seed=4)
    name = str(dtype).removeprefix("torch.")
    pipeline = load(directory, name)
    assert dtypes(pipeline.backend) == (torch.float32, dtype)
    assert pipeline.backend.native_decoder is not None
    stored = load(write_tiny(tmp_path / "stored", config=config(0), seed=4, dtype=dtype))
    found = pipeline.backend.model.decoder.state_dict()
    for key, value in stored.backend.model.decoder.state_dict().items():
        assert torch.equal(found[key], value), key


def test_where_it_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write(tmp_path / "m", torch.float16)
    ctc = write_tiny(tmp_path / "ctc", config=ctc_config(), dtype=torch.float16)
    assert dtypes(load(ctc).backend) == (torch.float32, torch.float32)
    monkeypatch.setenv("AURIS_STATIC_STEP", "1")
    assert dtypes(load(directory).backend) == (torch.float32, torch.float32)
    monkeypatch.delenv("AURIS_STATIC_STEP")
    monkeypatch.setattr(native, "available", lambda: False)
    assert dtypes(load(directory).backend) == (torch.float32, torch.float32)


def test_its_results_have_a_fingerprint_of_their_own(tmp_path: Path) -> None:
    directory = write(tmp_path / "m", torch.float16)
    found = {name: model_values(load(directory, name))["dtype"] for name in ("auto", "float32")}
    assert found == {"auto": "float32, decoder float16", "float32": "float32"}
