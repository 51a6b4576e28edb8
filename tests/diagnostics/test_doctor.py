"""The environment report and the check of checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from auris.backends import native
from auris.checkpoints.hub import bundled_models
from auris.checkpoints.layouts import LayoutName
from auris.cli.main import main
from auris.diagnostics.doctor import check_model, environment
from tests.tiny_models import aligner_config, ctc_config, write_tiny


def test_the_environment_names_devices_and_versions() -> None:
    found = {finding.what: finding.text for finding in environment()}
    assert "cpu" in found["devices"]
    assert "torch 2" in found["packages"]
    assert {"cpu float32", "cpu bfloat16", "cpu float16"} <= set(found)
    assert found["cpu float32"] == "computed as stored"


@pytest.mark.parametrize("built", [True, False])
def test_the_environment_names_what_float16_is_computed_in(
    monkeypatch: pytest.MonkeyPatch, built: bool
) -> None:
    if built and not native.available():
        pytest.skip("built without native code")
    monkeypatch.delenv("AURIS_STATIC_STEP", raising=False)
    if not built:
        monkeypatch.setattr(native, "available", lambda: False)
    found = {finding.what: finding.text for finding in environment()}
    rest = ", decoder as stored by native code" if built else ""
    assert found["cpu float16"] == f"computed in float32, since PyTorch would emulate it here{rest}"


@pytest.mark.parametrize(
    ("weights", "rest"),
    [
        ("int8 and int4", ""),
        (
            "bfloat16 and float16",
            "; encoder by PyTorch, and prompts where the weights are computed as stored",
        ),
    ],
)
def test_the_environment_names_the_engine_of_decoders(
    monkeypatch: pytest.MonkeyPatch, weights: str, rest: str
) -> None:
    def step() -> str:
        return {finding.what: finding.text for finding in environment()}[weights]

    if native.available():
        assert step() == f"native step, {native.instructions()}{rest}"
    monkeypatch.setattr(native, "available", lambda: False)
    assert "PyTorch step" in step()


@pytest.mark.parametrize(("setting", "named"), [("1", True), ("0", False), (None, False)])
def test_the_environment_names_the_static_step(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, named: bool
) -> None:
    monkeypatch.delenv("AURIS_STATIC_STEP", raising=False)
    if setting is not None:
        monkeypatch.setenv("AURIS_STATIC_STEP", setting)
    found = {finding.what: finding.text for finding in environment()}
    assert ("cpu decoding" in found) == named
    if named:
        assert "static step, not captured" in found["cpu decoding"]


@pytest.mark.parametrize("layout", ["native", "hf", "published"])
def test_a_valid_model_passes(tmp_path: Path, layout: str) -> None:
    findings = list(check_model(write_tiny(tmp_path / "it", layout)))
    assert [finding.ok for finding in findings] == [True] * 5
    assert "<|audio_pad|> 345" in findings[3].text
    assert "greedy by default" in findings[4].text


@pytest.mark.parametrize("name", sorted(bundled_models()))
def test_the_search_of_a_bundled_model_is_named(name: str) -> None:
    (search,) = (one for one in check_model(bundled_models()[name]) if one.what == "search")
    assert "with the language model english (3-grams, 60003 words" in search.text
    assert "--hotwords" in search.text


def test_a_ctc_model_passes(tmp_path: Path) -> None:
    findings = list(check_model(write_tiny(tmp_path / "it", config=ctc_config())))
    assert all(finding.ok for finding in findings)


@pytest.mark.parametrize("layout", ["native", "hf", "published"])
def test_an_aligner_passes(tmp_path: Path, layout: str) -> None:
    findings = list(check_model(write_tiny(tmp_path / "it", layout, aligner_config())))
    assert [finding.ok for finding in findings] == [True] * 4
    assert "<timestamp> 347" in findings[3].text


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "it")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.norm.bias"]
    save_file(tensors, folder / "model.safetensors")
    findings = list(check_model(folder))
    assert findings[-1].what == "tensors"
    assert findings[-1].ok is False
    assert "encoder.norm.bias" in findings[-1].text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("layout", ["native", "hf", "published"])
def test_weights_with_nan_are_named(tmp_path: Path, layout: LayoutName, value: float) -> None:
    folder = write_tiny(tmp_path / "it", layout)
    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[3]
    tensors[name].view(-1)[-1] = value
    save_file(tensors, folder / "model.safetensors")
    failed = [finding for finding in check_model(folder) if not finding.ok]
    assert [finding.what for finding in failed] == ["tensors"]
    assert f"{name} (model.safetensors)" in failed[0].text


def test_a_ctc_head_with_nan_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    shutil.copytree(bundled_models()["tiny"], folder)
    tensors = load_file(folder / "ctc_head.safetensors")
    tensors["bias"][5] = float("nan")
    save_file(tensors, folder / "ctc_head.safetensors")
    assert "bias (ctc_head.safetensors)" in list(check_model(folder))[-1].text


def test_a_directory_without_a_model_fails(tmp_path: Path) -> None:
    (finding,) = check_model(tmp_path)
    assert finding.ok is False


def test_the_findings_are_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Each text begins in the same column, also behind the longest name."""
    assert run() == 0
    found = list(environment())
    lines = capsys.readouterr().out.splitlines()
    assert {line.index(one.text) for line, one in zip(lines, found, strict=True)} == {28}


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["doctor", *arguments])
    return int(end.value.code or 0)


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", minversion="5.23")
    folder = write_tiny(tmp_path / "it", "published")
    assert run("--model", str(folder), "--reference", "--max-new-tokens", "3") == 0
    table = capsys.readouterr().out
    assert "encoder layer 1" in table
    assert "FAILED" not in table


def test_the_command_fails_for_an_invalid_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", str(tmp_path)) == 1
    assert "FAILED config" in capsys.readouterr().out
    assert run() == 0
    assert run("--reference") == 2


def test_the_reference_has_no_ctc_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", minversion="5.23")
    folder = write_tiny(tmp_path / "it", config=ctc_config())
    assert run("--model", str(folder), "--reference") == 2
    assert "CTC head" in capsys.readouterr().err
