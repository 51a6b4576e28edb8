"""Layouts: conversion in every direction, and the names and numbers that transformers uses."""

from __future__ import annotations

import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auris.audio.features import log_mel
from auris.backends.torch import TorchBackend
from auris.checkpoints.export import convert
from auris.checkpoints.layouts import LAYOUTS as TABLES
from auris.checkpoints.layouts import sources
from auris.config import token_budget
from auris.models.qwen_asr import QwenAsr
from auris.text.prompt import prompt_ids
from tests.checkpoints.files import (
    LAYOUTS,
    assert_same_tensors,
    copied,
    load,
    read_config,
    read_weights,
    write_weights,
)
from tests.tiny_models import ctc_config, qwen_config, tiny_model, tiny_tokenizer, tone_speech

PUBLISHED_TO_HF = (
    ("thinker.audio_tower.proj1.", "model.multi_modal_projector.linear_1."),
    ("thinker.audio_tower.proj2.", "model.multi_modal_projector.linear_2."),
    ("thinker.audio_tower.", "model.audio_tower."),
    ("thinker.model.", "model.language_model."),
    ("thinker.lm_head.", "lm_head."),
)
"""Renaming as the official conversion script does it, written anew so that ours can be checked."""

CLIP = tone_speech(9.3)


def renamed(name: str) -> str:
    for old, new in PUBLISHED_TO_HF:
        if name.startswith(old):
            return new + name.removeprefix(old)
    raise AssertionError(f"{name} is no published name")


def transformers_model(directory: Path) -> Any:
    """The model of transformers for a directory, which must have exactly its tensors."""
    transformers = pytest.importorskip("transformers", minversion="5.23")
    model, info = transformers.Qwen3ASRForConditionalGeneration.from_pretrained(
        directory, output_loading_info=True, dtype=torch.float32
    )
    assert not any(info.values()), info
    return model.eval()


def reference_logits(directory: Path) -> Tensor:
    """Scores of transformers for a clip of more than one attention window."""
    transformers = pytest.importorskip("transformers", minversion="5.23")
    processor = transformers.Qwen3ASRProcessor.from_pretrained(directory)
    request = processor.apply_transcription_request(CLIP, language="English", prompt="names")
    with torch.inference_mode():
        logits: Tensor = transformers_model(directory)(**request).logits
    return logits


def our_logits(directory: Path) -> Tensor:
    model = load(directory)
    assert isinstance(model, QwenAsr)
    backend = TorchBackend(model)
    (states,) = backend.encode([log_mel(CLIP, "slaney400", 128)])
    ids = prompt_ids(tiny_tokenizer(), len(states), "English", "names")
    cache = backend.new_cache(1, len(ids))
    backend.admit(cache)
    return backend.extend(cache, [backend.embed(ids, states)], positions="all")


def name_of(layout: str, tied: bool) -> str:
    return layout if tied else f"{layout}-untied"


class TestConversion:
    @pytest.mark.parametrize("tied", [True, False])
    @pytest.mark.parametrize(("first", "second"), permutations(LAYOUTS, 2))
    @pytest.mark.parametrize("shard_bytes", [5_000_000_000, 50_000])
    def test_conversion_round_trips(
        self,
        written: dict[str, Path],
        tmp_path: Path,
        first: Any,
        second: Any,
        tied: bool,
        shard_bytes: int,
    ) -> None:
        source = written[name_of(first, tied)]
        there = convert(source, tmp_path / "there", second, shard_bytes=shard_bytes)
        back = convert(there, tmp_path / "back", first, shard_bytes=shard_bytes)
        assert_same_tensors(read_weights(there), read_weights(written[name_of(second, tied)]))
        assert_same_tensors(read_weights(back), read_weights(source))
        assert len([*back.glob("*.safetensors")]) == 1 or shard_bytes == 50_000
        for path in source.iterdir():
            if path.suffix in (".json", ".txt", ".jinja") and "index" not in path.name:
                assert (back / path.name).read_bytes() == path.read_bytes(), path.name

    def test_unsharded_files_are_byte_equal(
        self, written: dict[str, Path], tmp_path: Path, layout: Any
    ) -> None:
        again = convert(written[layout], tmp_path / "out", layout)
        assert {path.name for path in again.iterdir()} == {
            path.name for path in written[layout].iterdir()
        }
        for path in written[layout].iterdir():
            assert (again / path.name).read_bytes() == path.read_bytes(), path.name

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_dtype(
        self, written: dict[str, Path], tmp_path: Path, layout: Any, dtype: torch.dtype
    ) -> None:
        out = convert(written["native"], tmp_path / "out", layout, dtype=dtype)
        assert {tensor.dtype for tensor in read_weights(out).values()} == {dtype}
        name = str(dtype).removeprefix("torch.")
        assert read_config(out)["dtype"] == name
        again = convert(out, tmp_path / "again", layout)
        assert_same_tensors(read_weights(again), read_weights(out))

    def test_ctc(self, written: dict[str, Path], tmp_path: Path) -> None:
        out = convert(written["ctc"], tmp_path / "out", "native")
        for path in written["ctc"].iterdir():
            assert (out / path.name).read_bytes() == path.read_bytes(), path.name


class TestNames:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("tied", [True, False])
    def test_every_foreign_name_is_mapped_once(self, layout: Any, tied: bool) -> None:
        config = qwen_config(tied=tied, encoder_layers=12)
        names = [
            name
            for ours in tiny_model(config).state_dict()
            for name in sources(config, layout, ours).names
        ]
        assert len(names) == len(set(names))
        assert not any(mark in name for name in names for mark in "#{}")

    @pytest.mark.parametrize("layout", ["published", "hf"])
    def test_ctc_has_no_foreign_names(self, layout: Any) -> None:
        for ours in tiny_model(ctc_config()).state_dict():
            assert sources(ctc_config(), "native", ours).names == (ours,)
            with pytest.raises(KeyError):
                sources(ctc_config(), layout, ours)

    def test_published_renames_into_hf(self, written: dict[str, Path]) -> None:
        for tied in (True, False):
            published = read_weights(written[name_of("published", tied)])
            moved = {renamed(name): tensor for name, tensor in published.items()}
            assert_same_tensors(moved, read_weights(written[name_of("hf", tied)]))

    def test_the_native_layout_has_the_package_names(self) -> None:
        assert TABLES["native"] is None


class TestTransformers:
    @pytest.mark.parametrize("tied", [True, False])
    def test_writes_the_same_tensors(
        self, written: dict[str, Path], tmp_path: Path, tied: bool
    ) -> None:
        source = written[name_of("hf", tied)]
        transformers_model(source).save_pretrained(tmp_path)
        assert_same_tensors(read_weights(tmp_path), read_weights(source))

    @pytest.mark.parametrize("tied", [True, False])
    def test_directories_of_transformers_load(
        self, written: dict[str, Path], tmp_path: Path, tied: bool
    ) -> None:
        transformers_model(written[name_of("hf", tied)]).save_pretrained(
            tmp_path, max_shard_size="100KB"
        )
        assert len([*tmp_path.glob("*.safetensors")]) > 1
        assert_same_tensors(
            load(tmp_path).state_dict(), tiny_model(qwen_config(tied=tied)).state_dict()
        )

    @pytest.mark.parametrize("tied", [True, False])
    def test_scores_the_same(self, written: dict[str, Path], tied: bool) -> None:
        expected = reference_logits(written[name_of("hf", tied)])
        for layout in LAYOUTS:
            found = our_logits(written[name_of(layout, tied)])
            assert found.shape == expected.shape
            assert torch.allclose(found, expected, atol=1e-4, rtol=0)

    def test_a_renamed_published_directory_scores_the_same(
        self, written: dict[str, Path], tmp_path: Path
    ) -> None:
        """transformers reads no published directories; their renamed weights must be equal."""
        published = read_weights(written["published"])
        path = copied(written["hf"], tmp_path / "out")
        write_weights(path, {renamed(name): tensor for name, tensor in published.items()})
        found = our_logits(written["published"])
        assert torch.allclose(found, reference_logits(path), atol=1e-4, rtol=0)

    def test_transformers_reads_written_shards(
        self, written: dict[str, Path], tmp_path: Path
    ) -> None:
        out = convert(written["published"], tmp_path / "out", "hf", shard_bytes=50_000)
        assert_same_tensors(
            dict(transformers_model(out).state_dict()),
            dict(transformers_model(written["hf"]).state_dict()),
        )

    def test_transformers_generates_from_a_written_directory(
        self, written: dict[str, Path], tmp_path: Path
    ) -> None:
        """Stop tokens and budget come from generation_config.json; the default would be 20
        tokens."""
        model = transformers_model(written["hf"])
        tokenizer = tiny_tokenizer()
        stops = [tokenizer.id("<|endoftext|>"), tokenizer.id("<|im_end|>")]
        assert model.generation_config.eos_token_id == stops
        assert model.generation_config.pad_token_id == stops[-1]
        assert model.generation_config.do_sample is False
        assert model.generation_config.max_new_tokens == token_budget(30)
        assert model.config.audio_token_id == tokenizer.id("<|audio_pad|>")
        assert model.config.timestamp_token_id == tokenizer.id("<timestamp>")


class TestFeatureExtractors:
    def test_a_published_directory_has_the_whisper_feature_extractor(
        self, written: dict[str, Path], tmp_path: Path
    ) -> None:
        transformers = pytest.importorskip("transformers", minversion="5.23")
        shutil.copy(written["published"] / "preprocessor_config.json", tmp_path)
        extractor = transformers.WhisperFeatureExtractor.from_pretrained(tmp_path)
        found = extractor(CLIP, sampling_rate=16000, padding=True, truncation=False)
        features = np.asarray(found["input_features"][0])
        expected = log_mel(CLIP, "slaney400", 128).numpy()
        assert np.abs(features[:, : expected.shape[1]] - expected).max() < 1e-4
