"""Limits of the stages follow from their operations. No result is compared with a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from auris.backends.torch import TorchBackend
from auris.errors import UsageError
from auris.evaluation.speed import MeasuredModel
from auris.models.qwen_asr import QwenAsr
from roofline import Machine, Work, stage_limits, stage_work, step_work
from tests.benchmarks.conftest import Script
from tests.tiny_models import qwen_config, tiny_model

FRAMES, PROMPT = 800, 20


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine()


def counted(run: object, *arguments: object) -> float:
    """Additions and multiplications of the products in a call."""
    assert callable(run)
    with FlopCounterMode(display=False) as counter:
        run(*arguments)
    return float(counter.get_total_flops())


@pytest.mark.parametrize("stem", ["conv2d", "conv1d"])
def test_limits_are_computed_from_the_operations(stem: str) -> None:
    config = qwen_config()
    config = replace(config, encoder=replace(config.encoder, stem=stem))
    model = tiny_model(config).requires_grad_(False)
    assert isinstance(model, QwenAsr)
    backend = TorchBackend(model, kernel="math")  # Its products are counted.
    work = stage_work(config, FRAMES, PROMPT, "float32")
    mel = torch.randn(128, FRAMES)
    stem_flops = counted(model.encoder.tokens, [mel])
    assert work["stem"].flops == stem_flops
    assert work["layers"].flops == counted(backend.encode, [mel]) - stem_flops
    cache = backend.new_cache(1, PROMPT + 1)
    backend.admit(cache)
    decoder = config.decoder
    # Half of a prompt's attention is to keys after the query.
    spared = 2.0 * decoder.layers * decoder.heads * decoder.head_dim * PROMPT**2
    assert work["prefill"].flops + spared == counted(backend.extend, cache, [[1] * PROMPT])
    step = step_work(decoder, 1, PROMPT + 1, "float32")
    assert step.flops == counted(backend.extend, cache, [[1]])
    matrices = sum(p.numel() for p in model.decoder.parameters() if p.dim() > 1)
    cached = 2 * decoder.layers * decoder.kv_heads * decoder.head_dim * (PROMPT + 1)
    assert step.bytes == 4 * (matrices + cached)
    assert work["prefill"].bytes == 4 * matrices
    quarter = step_work(decoder, 1, 1, "int8").bytes - step_work(decoder, 1, 0, "int8").bytes
    assert step_work(decoder, 1, 0, "int8").bytes == matrices
    assert quarter == 2 * cached / (PROMPT + 1)


def test_a_limit_is_the_maximum_of_memory_and_compute_time(machine: Machine) -> None:
    machine.gb_per_second, machine.gflops = 10.0, {"float32": 100.0, "int8": 400.0}
    assert machine.seconds(Work(1e9, 0.0), "float32") == 0.01
    assert machine.seconds(Work(1e9, 1e9), "float32") == 0.1
    assert machine.seconds(Work(4e9, 0.0), "int4") == 0.01
    assert machine.seconds(Work(4e9, 0.0), "bfloat16") == 0.01
    machine.gflops = {"float32": 100.0, "bfloat16": 1.0, "int8": 2.0}
    for emulated in ("bfloat16", "int8", "int4"):
        assert machine.seconds(Work(1e9, 0.0), emulated) == 0.01
    machine.measure(1)  # Only a better rate counts.
    assert machine.gb_per_second >= 10.0
    assert machine.to_dict()["threads"] == torch.get_num_threads()


def test_limits_of_stages(qwen_directory: Path, machine: Machine) -> None:
    models = [
        MeasuredModel(str(qwen_directory), dtype=dtype, device="cpu")
        for dtype in ("int8", "float32")
    ]
    limits = stage_limits(models[1], 1.3, 4, machine)
    assert set(limits) == {"stem", "layers", "encode", "prefill", "token", "total"}
    assert min(limits.values()) > 0.0
    # Limits of packed weights follow from their bytes.
    int8 = [stage_limits(model, 1.0, 4, machine, "int8") for model in models]
    assert int8[0] == int8[1] == stage_limits(models[0], 1.0, 4, machine)


def test_the_processor_clock_is_measured_on_one_thread() -> None:
    for threads, clock in ((2, "processor"), (None, "processor"), (1, "sun")):
        with pytest.raises(UsageError, match="clock has to be"):
            Machine(clock, threads)


def test_the_script(script: Script, qwen_directory: Path) -> None:
    short = ("-m", qwen_directory, "--seconds", "1", "--tokens", "2", "--runs", "1")
    done = script("roofline", *short, "--clock", "processor", "--threads", "1")
    assert (done.code, done.err) == (0, "")
    assert "multiple" in done.out
    summary = json.loads(done.out.splitlines()[-1])
    assert summary["machine"]["gflops"]["float32"] > 0.0
    stages = {stage["stage"]: stage for stage in summary["stages"]}
    assert set(stages) >= {"audio", "mel", "stem", "layers", "prefill", "token", "total"}
    token = stages["token"]
    assert token["multiple"] == pytest.approx(token["seconds"] / token["limit"])
    assert stages["audio"]["limit"] is None
