"""The benchmark of speed measures every stage from file to tokens. Nothing is timed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from auris.cli.main import main
from auris.diagnostics.parity import noise_clip
from auris.errors import MissingExtra, UnsupportedOption, UsageError
from auris.evaluation import speed
from auris.evaluation.speed import (
    MeasuredModel,
    Stage,
    load_peer,
    load_peers,
    speed_ratios,
    stages_of,
)
from tests.processors import set_bfloat16
from tests.tiny_models import write_tiny


def test_the_stages_add_up_to_the_run(qwen_directory: Path) -> None:
    model = MeasuredModel(str(qwen_directory), device="cpu")
    measured = model.run(noise_clip(1.3), 4, time.perf_counter)
    assert len(measured["token"]) == 3
    parts = sum(measured[s][0] for s in ("audio", "mel", "encode", "prefill"))
    assert measured["total"][0] == pytest.approx(parts + sum(measured["token"]), abs=1e-6)


def test_the_peer_decodes_the_same_number_of_tokens(qwen_directory: Path) -> None:
    pytest.importorskip("transformers", minversion="5.23")
    model = MeasuredModel(str(qwen_directory), device="cpu")
    (peer,) = load_peers(["transformers"], [model])
    rounds = []
    stages = list(
        stages_of([model, peer], [0.7], 3, 1, before_round=lambda: rounds.append(len(rounds)))
    )
    assert rounds == [0, 1]
    assert {s.model for s in stages} == {"qwen float32", "transformers float32"}
    theirs = {s.stage for s in stages if s.model.startswith("transformers")}
    assert theirs == {"mel", "encode", "prefill", "token", "total"}
    assert all(s.seconds > 0.0 for s in stages if s.stage != "layers")
    ratios = list(speed_ratios(stages, [model], [peer]))
    assert [ratio.stage for ratio in ratios] == ["encode", "prefill", "total"]
    seconds = {(s.model, s.stage): s.seconds for s in stages}
    for ratio in ratios:
        assert (ratio.model, ratio.peer) == (model.name, peer.name)
        assert ratio.ratio == seconds[peer.name, ratio.stage] / seconds[model.name, ratio.stage]
    assert len(peer.run(noise_clip(0.7), 5, time.perf_counter)["token"]) == 4


class FakePeer:
    """A peer that computes in a dtype, and is not run."""

    def __init__(self, directory: Path, dtype: str) -> None:
        self.name, self.dtype = f"fake {dtype}", dtype


def test_models_are_compared_with_peers_of_the_same_dtype(
    qwen_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auris.evaluation.speed.PEERS", {"fake": FakePeer})
    set_bfloat16(monkeypatch, True)
    half = write_tiny(tmp_path / "half", dtype=torch.float16)
    models = [
        MeasuredModel(str(path), dtype=dtype, device="cpu")
        for path, dtype in ((qwen_directory, "bfloat16"), (qwen_directory, "int8"), (half, "auto"))
    ]
    peers = load_peers(["fake"], models)
    assert [peer.name for peer in peers] == ["fake bfloat16", "fake float32"]
    names = [*(model.name for model in models), *(peer.name for peer in peers)]
    stages = [
        Stage(name, 2.0, stage, number + 1.0)
        for number, name in enumerate(names)
        for stage in ("mel", "encode", "prefill", "total")
    ]
    ratios = list(speed_ratios(stages, models, peers))
    found = {(ratio.model, ratio.peer): ratio.ratio for ratio in ratios}
    assert len(ratios) == 3 * len(found)
    assert found == {
        ("qwen bfloat16", "fake bfloat16"): 4 / 1,
        ("qwen int8", "fake bfloat16"): 4 / 2,
        (models[2].name, "fake float32"): 5 / 3,
    }
    assert str(ratios[0]) == "      2 encode   4.00 times as fast as fake bfloat16: qwen bfloat16"


def test_peers_do_not_compute_in_what_the_processor_emulates(
    qwen_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a clip would take them five to forty times as long."""
    set_bfloat16(monkeypatch, False)
    for dtype in ("int8", "bfloat16", "float32"):
        model = MeasuredModel(str(qwen_directory), dtype=dtype, device="cpu")
        assert model.peer_dtype == "float32"


def test_a_missing_peer(qwen_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="'whisper' was given"):
        load_peer("whisper", qwen_directory, "float32")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"auris-asr\[reference\]"):
        load_peer("transformers", qwen_directory, "float32")


def test_a_model_without_a_decoder_is_refused(ctc_directory: Path) -> None:
    with pytest.raises(UnsupportedOption, match="CTC head only"):
        MeasuredModel(str(ctc_directory))


def test_packed_weights_are_named(qwen_directory: Path) -> None:
    model = MeasuredModel(str(qwen_directory), dtype="int8", device="cpu")
    assert (model.dtype, model.name) == ("int8", "qwen int8")


def test_the_command_ends_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_tiny(tmp_path / "it"))
    arguments = ["--tokens", "2", "--runs", "1", "--dtype", "float32,int8"]
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "speed", "-m", model, "--seconds", "0.6,1.2", *arguments])
    assert end.value.code == 2, "0.6 s is too short"
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "speed", "-m", model, "--seconds", "1", *arguments])
    assert not end.value.code
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {one["stage"] for one in summary["stages"]} >= {"audio", "mel", "stem", "token"}
    assert {one["model"] for one in summary["stages"]} == {"it float32", "it int8"}
    assert summary["ratios"] == []
    assert summary["gb_per_second"] > 0.0
    ran_by_torch = "stem PyTorch, encoder PyTorch, prompt PyTorch, tokens PyTorch"
    assert summary["kernels"]["it float32"] == ran_by_torch
    assert set(summary["token_limits"]) == set(summary["kernels"]) == {"it float32", "it int8"}
    assert set(summary["prompt_limits"]) == ({"it int8"} if summary["integer_gops"] else set())


@pytest.mark.parametrize("fast", [True, False])
def test_products_of_integers_are_measured_where_there_are_instructions(
    monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(speed, "multiplies_integers", lambda: fast)
    monkeypatch.setattr(speed, "PRODUCT_SIDE", 64)
    products = speed.IntegerProducts()
    assert (products.measure(tries=1) > 0) == fast
    products.gops = 2000.0
    assert products.seconds(10**12) == pytest.approx(1.0)
    assert str(products) == "products of 8-bit integers by PyTorch: 2000 GOP/s"


def test_the_bytes_of_a_token(qwen_directory: Path) -> None:
    """Weights of the layers and of the vocabulary."""
    model = MeasuredModel(str(qwen_directory), device="cpu")
    decoder = model.backend._decoding.decoder
    weights = [*decoder.layers.parameters(), decoder.embed.weight]
    assert model.token_bytes == 4 * sum(weight.numel() for weight in weights)
