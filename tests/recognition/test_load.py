"""Loading models: every layout, the environment, and directories without a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from auris import AsrPipeline, AurisError
from auris.audio.features import log_mel
from auris.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    ModelNotFound,
    TokenizerError,
    UnsupportedOption,
    UsageError,
)
from auris.recognition.fingerprint import model_values
from tests.recordings import BUDGET, clip, plain, tokens
from tests.tiny_models import ctc_config, qwen_config, write_tiny


@pytest.mark.parametrize("layout", ["published", "hf", "native"])
def test_every_layout_gives_the_same_text(layout: Any, qwen: AsrPipeline, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "m", layout, seed=1, shard_bytes=100_000)
    pipeline = AsrPipeline.from_pretrained(str(directory), copy=True)
    ours = pipeline.transcribe(clip(2.0), max_new_tokens=BUDGET)
    assert plain(ours) == plain(qwen.transcribe(clip(2.0), max_new_tokens=BUDGET))


def test_models_and_devices_from_the_environment(
    qwen_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURIS_MODEL", str(qwen_directory))
    monkeypatch.setenv("AURIS_DEVICE", "cpu")
    assert AsrPipeline.from_pretrained().model.directory == qwen_directory
    monkeypatch.setenv("AURIS_DEVICE", "toaster")
    with pytest.raises(DeviceError, match="toaster"):
        AsrPipeline.from_pretrained()
    assert AsrPipeline.from_pretrained(device="cpu").backend.device.type == "cpu"
    monkeypatch.setenv("AURIS_MODEL", str(qwen_directory / "nothing-here"))
    with pytest.raises(ModelNotFound):
        AsrPipeline.from_pretrained(device="cpu", local_files_only=True)


def test_the_static_step_from_the_environment(
    qwen: AsrPipeline, qwen_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURIS_STATIC_STEP", "1")
    pipeline = AsrPipeline.from_pretrained(qwen_directory, device="cpu")
    assert pipeline.backend.decode_step == "PyTorch, static step, not captured"
    clips = [clip(seconds) for seconds in (2.0, 0.7, 3.1)]
    options = {"max_new_tokens": BUDGET, "batch_size": 2}
    ours = pipeline.transcribe(clips, **options)
    assert [*map(tokens, ours)] == [*map(tokens, qwen.transcribe(clips, **options))]
    with pytest.raises(UnsupportedOption, match="int8"):
        AsrPipeline.from_pretrained(qwen_directory, device="cpu", dtype="int8")
    monkeypatch.setenv("AURIS_STATIC_STEP", "0")
    other = AsrPipeline.from_pretrained(qwen_directory, device="cpu")
    assert other.backend.decode_step == "PyTorch"
    monkeypatch.setenv("AURIS_STATIC_STEP", "yes")
    with pytest.raises(UsageError, match="'yes'"):
        AsrPipeline.from_pretrained(qwen_directory, device="cpu")


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"device": "toaster"}, DeviceError),
        ({"device": "cuda:77"}, DeviceError),
        ({"dtype": "int7"}, DeviceError),
        ({"kernel": "magic"}, UnsupportedOption),
        ({"threads": 0}, UsageError),
        ({"attention_window": 0}, UsageError),
        ({"attention_window": 9}, UsageError),
        ({"attention_window": 2.5}, UsageError),
        ({"threads": 1.5}, UsageError),
    ],
)
def test_unavailable_devices_are_refused(
    qwen_directory: Path, options: dict[str, Any], kind: type[AurisError]
) -> None:
    with pytest.raises(kind):
        AsrPipeline.from_pretrained(qwen_directory, **{"device": "cpu", **options})


@pytest.mark.parametrize("kernel", ["auto", "flash", "efficient", "math"])
def test_every_kernel_gives_the_same_text(
    qwen: AsrPipeline, qwen_directory: Path, kernel: Any
) -> None:
    pipeline = AsrPipeline.from_pretrained(qwen_directory, device="cpu", kernel=kernel)
    wanted = qwen.transcribe(clip(3.0), max_new_tokens=BUDGET)
    assert tokens(pipeline.transcribe(clip(3.0), max_new_tokens=BUDGET)) == tokens(wanted)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_attention_window_can_be_set(tmp_path: Path, dtype: str) -> None:
    trained = write_tiny(tmp_path / "m", config=qwen_config(window_frames=300), seed=1)
    written = write_tiny(tmp_path / "n", config=qwen_config(window_frames=100), seed=1)
    options: dict[str, Any] = {"device": "cpu", "dtype": dtype}
    chosen = AsrPipeline.from_pretrained(trained, attention_window=1, **options)
    assert chosen.recognizer.config.encoder.window_tokens == 13

    def states(pipeline: AsrPipeline) -> torch.Tensor:
        config = pipeline.recognizer.config
        mel = log_mel(clip(3.0)[0], config.frontend, config.encoder.mel_bins)
        return pipeline.backend.encode([mel])[0]

    narrow = states(chosen)
    assert torch.equal(narrow, states(AsrPipeline.from_pretrained(written, **options)))
    wide = AsrPipeline.from_pretrained(trained, **options)
    assert not torch.equal(narrow, states(wide))
    assert model_values(chosen)["window_frames"] == 100
    assert model_values(wide)["window_frames"] == 300


@pytest.mark.parametrize("config", [qwen_config(), ctc_config()], ids=["qwen", "ctc"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_call_can_set_the_attention_window(tmp_path: Path, dtype: str, config: Any) -> None:
    config = replace(config, encoder=replace(config.encoder, window_frames=300))
    directory = write_tiny(tmp_path / "m", config=config, seed=1)
    load = partial(AsrPipeline.from_pretrained, directory, device="cpu", dtype=dtype)
    trained, narrow = load(), load(attention_window=1)

    def scores(pipeline: AsrPipeline, **options: Any) -> list[tuple[float, ...]]:
        found = pipeline.results([clip(3.0)], **options)
        return [s.logprobs for _, result in found for s in result.segments]

    wide = scores(trained)
    assert scores(trained, attention_window=1) == scores(narrow) != wide
    assert scores(narrow, attention_window=3) == wide
    assert scores(trained) == wide, "a call has changed the model"
    assert scores(trained, attention_window=None) == wide


def test_a_batch_has_one_attention_window(qwen: AsrPipeline) -> None:
    batch = qwen.recognizer.batch
    shared = AsrPipeline.over(
        qwen.recognizer, qwen.model, qwen.backend, open_batch=lambda rows: batch(rows)
    )
    with pytest.raises(UnsupportedOption, match="where the model is loaded"):
        shared.transcribe(clip(1.0), attention_window=1)
    with pytest.raises(UsageError, match="from 1 to 8"):
        qwen.transcribe(clip(1.0), attention_window=9)


def test_the_number_of_threads_is_set(qwen_directory: Path) -> None:
    before = torch.get_num_threads()
    try:
        AsrPipeline.from_pretrained(qwen_directory, device="cpu", threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("config.json", None, CheckpointError),
        ("config.json", "{", CheckpointError),
        ("config.json", "[]", CheckpointError),
        ("config.json", '{"model_type": "whisper"}', ConfigError),
        ("model.safetensors", None, CheckpointError),
        ("model.safetensors", "not weights", CheckpointError),
        ("model.safetensors", "", CheckpointError),
        ("vocab.json", None, TokenizerError),
        ("merges.txt", "three words here", TokenizerError),
        ("tokenizer_config.json", "{}", TokenizerError),
        ("generation_config.json", '{"eos_token_id": "two"}', ConfigError),
        ("generation_config.json", '{"eos_token_id": []}', ConfigError),
        ("generation_config.json", '{"eos_token_id": [true]}', ConfigError),
        ("generation_config.json", '{"eos_token_id": [5, 99999]}', ConfigError),
        ("generation_config.json", "{", CheckpointError),
    ],
)
def test_directories_without_a_checkpoint_are_refused(
    tmp_path: Path, name: str, content: str | None, kind: type[AurisError]
) -> None:
    directory = write_tiny(tmp_path / "m")
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_text(content)
    with pytest.raises(kind):
        AsrPipeline.from_pretrained(directory, device="cpu")


@pytest.mark.parametrize("name", ["en", "english", "Klingon"])
def test_languages_of_inference_defaults_must_be_known(tmp_path: Path, name: str) -> None:
    directory = write_tiny(tmp_path / "m")
    (directory / "traits.json").write_text(json.dumps({"languages": ["German", name]}))
    with pytest.raises(ConfigError, match=f"have to be English names.* has '{name}'"):
        AsrPipeline.from_pretrained(directory, device="cpu")
    (directory / "traits.json").write_text(json.dumps({"languages": ["German"]}))
    assert AsrPipeline.from_pretrained(directory, device="cpu").defaults.languages == ("German",)


def test_stop_ids_are_those_of_the_generation_config(qwen: AsrPipeline, tmp_path: Path) -> None:
    said = qwen.transcribe(clip(2.0), max_new_tokens=BUDGET).segments[0].tokens
    stop = said[-1]
    for ids in (stop, [1, stop]):
        directory = write_tiny(tmp_path / f"m{isinstance(ids, list)}", seed=1)
        (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
        pipeline = AsrPipeline.from_pretrained(directory, device="cpu")
        (segment,) = pipeline.transcribe(clip(2.0), max_new_tokens=BUDGET).segments
        assert segment.tokens == said[: said.index(stop)]
        assert segment.finish_reason == "stop"


def test_the_generation_config_is_used_only_for_stop_ids(qwen: AsrPipeline, tmp_path: Path) -> None:
    """max_new_tokens is for programs without token budgets; here it would truncate texts
    silently."""
    directory = write_tiny(tmp_path / "m", seed=1)
    path = directory / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_new_tokens": 1}))
    found = AsrPipeline.from_pretrained(directory, device="cpu").transcribe(clip(0.5))
    wanted = qwen.transcribe(clip(0.5))
    assert tokens(found) == tokens(wanted)
    assert len(tokens(found)[0]) > 1


def test_a_tokenizer_of_another_model(tmp_path: Path, ctc_directory: Path) -> None:
    from tests.tiny_models import tiny_tokenizer

    content = json.loads(tiny_tokenizer().to_json())
    content["added_tokens"] = content["added_tokens"][:-1]
    directory = write_tiny(tmp_path / "ctc", config=ctc_config())
    (directory / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="one class for every unit"):
        AsrPipeline.from_pretrained(directory, device="cpu")
    content["added_tokens"] = content["added_tokens"][:2]
    other = write_tiny(tmp_path / "qwen", config=qwen_config())
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(TokenizerError):
        AsrPipeline.from_pretrained(other, device="cpu")
