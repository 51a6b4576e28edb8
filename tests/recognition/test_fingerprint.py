"""Fingerprints are equal for equal work, and differ for everything that affects a result."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from auris import AsrPipeline, ForcedAligner
from auris.errors import CheckpointError
from auris.recognition.fingerprint import call_values, fingerprint, model_digest, model_values
from auris.recognition.load import LoadOptions
from auris.recognition.options import CallOptions
from tests.processors import set_bfloat16
from tests.tiny_models import write_tiny


def _of(
    pipeline: AsrPipeline, language: str | None = None, context: str = "", **given: object
) -> str:
    return fingerprint(call_values(pipeline, language, context, CallOptions(**given)))


def test_values_are_plain_json_in_any_order(qwen: AsrPipeline) -> None:
    values = call_values(qwen, "en", "Ada", {"languages": None, "clean": ["numbers"]})
    assert fingerprint(json.loads(json.dumps(values))) == fingerprint(values)
    assert fingerprint(dict(reversed(values.items()))) == fingerprint(values)


@pytest.mark.parametrize(
    "given",
    [
        {"language": "en"},
        {"context": "Ada"},
        {"chunk_seconds": 5.0},
        {"vad": True},
        {"languages": ["en", "zh"]},
        {"max_new_tokens": 3},
        {"temperature": 0.5},
        {"seed": 1},
        {"clean": ["numbers"]},
        {"start": 1.0},
        {"duration": 1.0},
        {"channels": "split"},
        {"channels": "split", "speakers": ["A", "B"]},
        {"word_timestamps": True},
        {"attention_window": 2},
        {"beam_size": 2},
        {"hotwords": ["Ada"]},
    ],
    ids=str,
)
def test_options_that_affect_results_change_it(qwen: AsrPipeline, given: dict[str, object]) -> None:
    assert _of(qwen, **given) != _of(qwen)


def test_every_option_is_in_it_or_affects_only_speed(qwen: AsrPipeline) -> None:
    """A new option has to be added to the values or to this test."""
    speed = {"batch_size", "batch_seconds", "urls", "progress", "cancel", "workers"}
    other_names = {
        "temperature": "sampling",
        "seed": "sampling",
        "word_timestamps": "words",
        "aligner": "words",
        "attention_window": "window_frames",
    }
    names = CallOptions.__annotations__.keys() - speed
    assert {other_names.get(name, name) for name in names} <= call_values(qwen, None, "", {}).keys()
    speed = {"threads", "local_files_only", "copy", "revision"}
    names = LoadOptions.__annotations__.keys() - speed - {"attention_window"}
    assert {*names, "window_frames"} <= model_values(qwen).keys()


def test_the_first_pause_counts_where_chunks_end_at_pauses(qwen: AsrPipeline) -> None:
    defaults = replace(qwen.defaults, pause_seconds=0.5)
    other = AsrPipeline.over(qwen.recognizer, qwen.model, qwen.backend, defaults)
    assert _of(other) == _of(qwen)
    assert _of(other, end_at_pauses=True) != _of(qwen, end_at_pauses=True)


def test_explicit_defaults_and_speed_options_do_not_change_it(qwen: AsrPipeline) -> None:
    same = {"chunk_seconds": 30.0, "vad": False, "batch_size": 4, "workers": 2}
    assert _of(qwen, language="auto", batch_seconds=60.0, **same) == _of(qwen)


def test_the_dtype_is_that_of_the_computation(
    qwen_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_bfloat16(monkeypatch, True)
    float32, packed, half = (
        model_values(AsrPipeline.from_pretrained(qwen_directory, device="cpu", dtype=dtype))
        for dtype in ("float32", "int8", "bfloat16")
    )
    assert [v["dtype"] for v in (float32, packed, half)] == ["float32", "int8", "bfloat16"]
    assert {**packed, "dtype": "float32"} == float32


def test_exact_log_probabilities_and_the_kernel_change_it(qwen_directory: Path) -> None:
    load = AsrPipeline.from_pretrained
    plain = _of(load(qwen_directory, device="cpu"))
    assert _of(load(qwen_directory, device="cpu", exact_logprobs=True)) != plain
    assert _of(load(qwen_directory, device="cpu", kernel="math")) != plain


def test_aligners_differ_by_their_content(
    ctc: AsrPipeline, ctc_directory: Path, tmp_path: Path
) -> None:
    one = ForcedAligner.from_pretrained(ctc_directory, device="cpu")
    copy = shutil.copytree(ctc_directory, tmp_path / "copy")
    same = ForcedAligner.from_pretrained(copy, device="cpu")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "note": 1}))
    other = ForcedAligner.from_pretrained(copy, device="cpu")
    found = _of(ctc, word_timestamps=True, aligner=one)
    assert found != _of(ctc, word_timestamps=True)
    assert found != _of(ctc, word_timestamps=True, aligner=other)
    assert found == _of(ctc, aligner=one, word_timestamps=True)
    assert same.directory == copy
    assert _of(ctc, aligner=one) == _of(ctc)


def test_new_weights_in_the_same_folder_change_it(tmp_path: Path) -> None:
    """Also with the same size and time of modification."""
    directory = write_tiny(tmp_path / "model", seed=1)
    weights = directory / "model.safetensors"
    before, status = model_digest(directory), weights.stat()
    assert model_digest(directory) == before
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert model_digest(directory) != before


def test_the_fingerprint_depends_on_content_and_not_on_the_path(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", seed=1)
    copy = shutil.copytree(directory, tmp_path / "copy", copy_function=shutil.copyfile)
    (copy / "README.md").write_text("about the model")
    assert model_digest(copy) == model_digest(directory)
    (copy / "calibration.json").write_text("{}")
    assert model_digest(copy) != model_digest(directory)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("missing")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        model_digest(tmp_path)
