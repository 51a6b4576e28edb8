"""The CTC head of a Qwen3-ASR model: writing, reading, converting, and models without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from auris.checkpoints.ctc_head import CTC_HEAD, load_ctc_head
from auris.checkpoints.export import convert, export
from auris.checkpoints.weight_files import weight_files
from auris.diagnostics.doctor import check_model
from auris.errors import CheckpointError, ConfigError, TensorError
from auris.pipeline import AsrPipeline
from tests.checkpoints.files import CPU, LAYOUTS, SINGLE, assert_same_tensors, load
from tests.tiny_models import (
    ctc_config,
    qwen_config,
    randomize,
    tiny_model,
    tiny_tokenizer,
    tone_speech,
    write_tiny,
)

CONFIG = qwen_config()
CLASSES, WIDTH = CONFIG.decoder.vocab + 1, CONFIG.decoder.hidden


def new_head(classes: int = CLASSES, width: int = WIDTH, bias: bool = True) -> nn.Linear:
    head = nn.Linear(width, classes, bias)
    randomize(head, seed=5)
    return head


def write(
    out: Path,
    layout: Any = "hf",
    head: nn.Linear | None = None,
    dtype: torch.dtype = torch.float32,
    shard_bytes: int = 5_000_000_000,
) -> Path:
    return export(
        tiny_model(),
        CONFIG,
        tiny_tokenizer(),
        out,
        layout=layout,
        dtype=dtype,
        ctc_head=new_head() if head is None else head,
        shard_bytes=shard_bytes,
    )


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model of `written` with a head, in every layout."""
    root = tmp_path_factory.mktemp("headed")
    return {layout: write(root / layout, layout) for layout in LAYOUTS}


def same_head(found: nn.Linear | None, dtype: torch.dtype = torch.float32) -> None:
    assert found is not None
    wanted = {name: tensor.to(dtype) for name, tensor in new_head().state_dict().items()}
    assert_same_tensors(found.state_dict(), wanted)
    assert (found.in_features, found.out_features) == (WIDTH, CLASSES)
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())


class TestHead:
    def test_it_round_trips(self, headed: dict[str, Path], layout: str) -> None:
        same_head(load_ctc_head(headed[layout], CONFIG, CPU))
        assert set(load_file(headed[layout] / CTC_HEAD)) == {"weight", "bias"}

    def test_it_scores(self, headed: dict[str, Path]) -> None:
        head = load_ctc_head(headed["hf"], CONFIG, CPU)
        assert head is not None
        audio = torch.randn(7, WIDTH)
        assert torch.equal(head(audio), new_head()(audio))

    def test_other_files_do_not_depend_on_it(
        self, headed: dict[str, Path], written: dict[str, Path], layout: str
    ) -> None:
        without = {path.name: path.read_bytes() for path in written[layout].iterdir()}
        found = {path.name: path.read_bytes() for path in headed[layout].iterdir()}
        del found[CTC_HEAD]
        assert found == without

    def test_it_is_not_a_shard_of_the_model(self, tmp_path: Path, layout: str) -> None:
        out = write(tmp_path / "out", layout, shard_bytes=50_000)
        assert len(weight_files(out)) > 1
        assert out / CTC_HEAD not in weight_files(out)
        assert_same_tensors(load(out).state_dict(), tiny_model().state_dict())
        same_head(load_ctc_head(out, CONFIG, CPU))

    def test_a_model_without_a_head(self, written: dict[str, Path], layout: str) -> None:
        assert load_ctc_head(written[layout], CONFIG, CPU) is None
        assert load_ctc_head(written["ctc"], ctc_config(), CPU) is None

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_dtypes(self, tmp_path: Path, dtype: torch.dtype) -> None:
        out = write(tmp_path / "out", dtype=dtype)
        assert {tensor.dtype for tensor in load_file(out / CTC_HEAD).values()} == {dtype}
        same_head(load_ctc_head(out, CONFIG, CPU), dtype)
        asked = load_ctc_head(out, CONFIG, CPU, torch.float32)
        assert asked is not None
        assert torch.equal(asked.weight, new_head().weight.to(dtype).float())

    def test_transformers_ignores_the_head(self, headed: dict[str, Path]) -> None:
        transformers = pytest.importorskip("transformers", minversion="5.23")
        model, info = transformers.Qwen3ASRForConditionalGeneration.from_pretrained(
            headed["hf"], output_loading_info=True, dtype=torch.float32
        )
        assert not any(info.values()), info
        assert set(load_file(headed["hf"] / SINGLE)) == set(model.state_dict()) - {"lm_head.weight"}

    def test_transcripts_do_not_depend_on_it(
        self, headed: dict[str, Path], written: dict[str, Path], layout: str
    ) -> None:
        texts = {
            AsrPipeline.from_pretrained(directory, device="cpu")
            .transcribe((tone_speech(1.0), 16_000), max_new_tokens=8)
            .text
            for directory in (headed[layout], written[layout])
        }
        assert len(texts) == 1


class TestConvert:
    @pytest.mark.parametrize("first", LAYOUTS)
    @pytest.mark.parametrize("second", LAYOUTS)
    def test_it_is_converted(
        self, headed: dict[str, Path], tmp_path: Path, first: str, second: Any
    ) -> None:
        out = convert(headed[first], tmp_path / "out", second)
        for path in headed[second].iterdir():
            assert (out / path.name).read_bytes() == path.read_bytes(), path.name
        assert len([*out.iterdir()]) == len([*headed[second].iterdir()])

    def test_it_has_the_dtype_of_the_model(self, headed: dict[str, Path], tmp_path: Path) -> None:
        out = convert(headed["hf"], tmp_path / "out", "native", dtype=torch.bfloat16)
        same_head(load_ctc_head(out, CONFIG, CPU), torch.bfloat16)

    def test_a_model_without_a_head_is_converted_without_one(
        self, written: dict[str, Path], tmp_path: Path
    ) -> None:
        assert not (convert(written["hf"], tmp_path / "out", "native") / CTC_HEAD).exists()

    def test_a_damaged_head_is_not_dropped(self, tmp_path: Path) -> None:
        source = write(tmp_path / "source")
        (source / CTC_HEAD).write_bytes(b"{}")
        with pytest.raises(CheckpointError, match=CTC_HEAD):
            convert(source, tmp_path / "out", "native")
        assert not (tmp_path / "out").exists()


class TestErrors:
    @pytest.mark.parametrize(
        "head",
        [new_head(CLASSES - 1), new_head(width=WIDTH + 2), new_head(bias=False)],
        ids=["no blank", "another width", "no bias"],
    )
    def test_a_head_of_another_shape_is_not_written(self, tmp_path: Path, head: nn.Linear) -> None:
        with pytest.raises(TensorError, match=rf"CTC head .*\[{CLASSES}, {WIDTH}\]"):
            write(tmp_path / "out", head=head)
        assert [*tmp_path.iterdir()] == []

    def test_too_large_for_half_precision(self, tmp_path: Path) -> None:
        head = new_head()
        with torch.no_grad():
            head.bias[0] = 1e5
        with pytest.raises(TensorError, match=r"ctc_head\.bias has values up to 1e\+05"):
            write(tmp_path / "out", head=head, dtype=torch.float16)

    def test_a_ctc_model_has_its_own_head(self, tmp_path: Path, headed: dict[str, Path]) -> None:
        model, tokenizer, head = tiny_model(ctc_config()), tiny_tokenizer(), new_head()
        with pytest.raises(ConfigError, match="among its weights"):
            export(model, ctc_config(), tokenizer, tmp_path / "out", ctc_head=head)
        with pytest.raises(ConfigError, match="among its weights"):
            load_ctc_head(headed["native"], ctc_config(), CPU)

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (lambda t: t.pop("bias"), "1 missing (bias)"),
            (lambda t: t.update(scale=torch.ones(1)), "1 unknown (scale)"),
            (lambda t: t.update(weight=t["weight"][1:].clone()), f"[{CLASSES - 1}, {WIDTH}]"),
            (lambda t: t.update(bias=t["bias"][None].clone()), f"[1, {CLASSES}]"),
            (lambda t: t.update(bias=t["bias"].double()), "F64"),
            (lambda t: t.update(weight=t["weight"].to(torch.int8)), "I8"),
        ],
    )
    def test_mismatches_are_named(
        self, tmp_path: Path, change: Callable[[dict[str, Tensor]], object], named: str
    ) -> None:
        tensors = new_head().state_dict()
        change(tensors)
        save_file(tensors, tmp_path / CTC_HEAD)
        with pytest.raises(TensorError) as caught:
            load_ctc_head(tmp_path, CONFIG, CPU)
        assert named in str(caught.value)
        assert CTC_HEAD in str(caught.value)

    @pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
    def test_truncated(self, headed: dict[str, Path], tmp_path: Path, keep: float) -> None:
        content = (headed["hf"] / CTC_HEAD).read_bytes()
        length = keep if isinstance(keep, int) else int(keep * len(content))
        (tmp_path / CTC_HEAD).write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=CTC_HEAD):
            load_ctc_head(tmp_path, CONFIG, CPU)

    def test_the_doctor_checks_it(self, tmp_path: Path) -> None:
        out = write(tmp_path / "out")
        assert [finding.ok for finding in check_model(out)] == [True] * 5
        assert any(", and a CTC head" in finding.text for finding in check_model(out))
        assert not any("CTC head" in f.text for f in check_model(write_tiny(tmp_path / "plain")))
        (out / CTC_HEAD).write_bytes(b"no weights")
        last = list(check_model(out))[-1]
        assert (last.what, last.ok) == ("tensors", False)
        assert CTC_HEAD in last.text
