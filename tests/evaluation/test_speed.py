"""The benchmark of speed: its limits are those of the work that is done, and it measures the whole
way. Nothing here is timed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from auris.backends.torch import TorchBackend
from auris.cli.main import main
from auris.diagnostics.parity import noise_clip
from auris.errors import AurisError, MissingExtra, UnsupportedOption, UsageError
from auris.evaluation.cold import cold_start
from auris.evaluation.decoding_speed import drafted
from auris.evaluation.limits import CLOCKS, Machine, Work, stage_work, step_work
from auris.evaluation.peers import load_peer
from auris.evaluation.speed import MeasuredEngine, compare
from auris.evaluation.speed_report import SpeedPlan
from auris.models.qwen_asr import QwenAsr
from tests.tiny_models import qwen_config, tiny_model, write_tiny

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
def test_limits_are_those_of_the_work_that_is_done(stem: str) -> None:
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
    # Half of a prompt's attention is to keys that no query may look at.
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


def test_a_limit_is_the_longer_of_two_times(machine: Machine) -> None:
    machine.gb_per_second, machine.gflops = 10.0, {"float32": 100.0, "int8": 400.0}
    assert machine.seconds(Work(1e9, 0.0), "float32") == 0.01
    assert machine.seconds(Work(1e9, 1e9), "float32") == 0.1
    assert machine.seconds(Work(4e9, 0.0), "int4") == 0.01
    assert machine.seconds(Work(4e9, 0.0), "bfloat16") == 0.01
    machine.measure(1)  # Only a better rate counts.
    assert machine.gb_per_second >= 10.0
    assert machine.to_dict()["threads"] == torch.get_num_threads()


def test_stages_of_a_run_are_whole(qwen_directory: Path, machine: Machine) -> None:
    engine = MeasuredEngine(str(qwen_directory), "auto", device="cpu")
    measured = engine.run(noise_clip(1.3), 4, CLOCKS["wall"])
    assert len(measured["token"]) == 3
    parts = sum(measured[s][0] for s in ("audio", "mel", "encode", "prefill"))
    assert measured["total"][0] == pytest.approx(parts + sum(measured["token"]), abs=1e-6)
    limits = engine.limits(1300 * 16, 4, machine)
    assert set(limits) == {"stem", "layers", "encode", "prefill", "token", "total"}
    assert min(limits.values()) > 0.0


def test_ours_and_the_peer_decode_the_same_number_of_tokens(
    qwen_directory: Path, machine: Machine
) -> None:
    pytest.importorskip("transformers", minversion="5.23")
    stages = list(
        compare([str(qwen_directory)], [0.7], 3, 1, machine, peers=["transformers"], device="cpu")
    )
    assert {s.model for s in stages} == {"qwen float32", "transformers bfloat16"}
    theirs = {s.stage: s for s in stages if s.model.startswith("transformers")}
    assert set(theirs) == {"mel", "encode", "prefill", "token", "total"}
    assert all(s.seconds > 0.0 for s in stages if s.stage != "layers")
    assert theirs["token"].multiple == pytest.approx(
        theirs["token"].seconds / (theirs["token"].limit or 0.0)
    )
    peer = load_peer("transformers", qwen_directory, "bfloat16")
    assert len(peer.run(noise_clip(0.7), 5, CLOCKS["wall"])["token"]) == 4


def test_a_draft_that_is_nearly_right_is_nearly_accepted(
    qwen_directory: Path, machine: Machine
) -> None:
    engine = MeasuredEngine(str(qwen_directory), "auto", device="cpu")
    found = drafted(engine, 1.3, 12, machine)
    assert found.same
    assert 0 < found.accepted < found.guessed
    assert found.accepted + found.acceptance < found.tokens


def test_a_peer_that_is_not_there(qwen_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="'whisper' was asked"):
        load_peer("whisper", qwen_directory, "bfloat16")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"auris-asr\[reference\]"):
        load_peer("transformers", qwen_directory, "bfloat16")


def test_a_model_without_a_decoder_is_refused(ctc_directory: Path) -> None:
    with pytest.raises(UnsupportedOption, match="CTC head only"):
        MeasuredEngine(str(ctc_directory), "auto")


def test_a_processors_clock_is_for_one_thread() -> None:
    plan = (["it"], [1.0], 2, ["auto"], [], [], 1)
    assert SpeedPlan(*plan, threads=1, clock="processor").clock == "processor"
    for threads, clock in ((2, "processor"), (None, "processor"), (1, "sun")):
        with pytest.raises(UsageError, match="clock has to be"):
            SpeedPlan(*plan, threads=threads, clock=clock)


def test_only_parts_that_there_are() -> None:
    for parts in ([], ["stages", "all"]):
        with pytest.raises(UsageError, match="The parts are stages, decoding, start"):
            SpeedPlan(["it"], [1.0], 2, ["auto"], [], [], 1, 1, parts=parts)


def test_limits_of_packed_weights_are_those_of_their_bytes(
    qwen_directory: Path, machine: Machine
) -> None:
    engines = [
        MeasuredEngine(str(qwen_directory), dtype, device="cpu") for dtype in ("int8", "float32")
    ]
    assert [engine.dtype for engine in engines] == ["int8", "float32"]
    same = [engine.limits(16000, 4, machine, "int8") for engine in engines]
    assert same[0] == same[1] == engines[0].limits(16000, 4, machine)


def test_the_command_ends_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_tiny(tmp_path / "it"))
    arguments = ["--seconds", "0.6,1.2", "--tokens", "2", "--runs", "1", "--batch", "1,2"]
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "speed", "-m", model, *arguments])
    assert end.value.code == 2, "0.6 s is too short"
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "speed", "-m", model, "--seconds", "1", *arguments[2:]])
    assert not end.value.code
    out = capsys.readouterr().out.splitlines()
    summary = json.loads(out[-1])
    assert [one["rows"] for one in summary["batches"]] == [1, 2]
    assert {one["stage"] for one in summary["stages"]} >= {"audio", "mel", "stem", "token"}
    assert summary["cold"][0]["first_token_seconds"] > 0.1
    (memory,) = summary["memory"]
    assert 0.05 < memory["resident_gb"] <= memory["peak_gb"] < 5.0
    (draft,), (stream,) = summary["drafts"], summary["streams"]
    assert draft["same"]
    assert 0 <= draft["accepted"] <= draft["guessed"]
    assert 0.0 < stream["step_seconds"] <= stream["longest_seconds"]
    assert summary["machine"]["gflops"]["float32"] > 0.0
    assert any("multiple" in line for line in out)


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(AurisError, match="the command did not"):
        cold_start(str(tmp_path), ["auto"], 1, 1)
