"""Large products by PyTorch: the same bits as those of the native code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from auris.backends import large_products, native
from auris.backends.torch import TorchBackend
from auris.checkpoints.packed_formats import PackedDtype, Packing, pack
from auris.checkpoints.quantization_config import Quantization
from auris.errors import UnsupportedOption
from tests.backends.test_packed_layers import packed_model
from tests.narrow_int4 import narrow_int4  # noqa: F401
from tests.tiny_models import qwen_config

needs_native = pytest.mark.skipif(not native.available(), reason="built without native code")

PACKINGS = [
    Packing("int8"),
    Packing("int8", halves=True),
    *(Packing("int4", group) for group in (32, 64, 128)),
]
LEAST = 20
"""Positions of large products here."""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = native.least_large() if native.available() else None
    yield
    if native.available():
        native.multiply_large(before)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Positions and outputs of every product that PyTorch computes."""
    shapes: list[tuple[int, int]] = []
    multiply = torch._int_mm

    def counted(x: Tensor, matrix: Tensor, *, out: Tensor) -> Tensor:
        shapes.append((len(x), matrix.shape[1]))
        return multiply(x, matrix, out=out)

    monkeypatch.setattr(torch, "_int_mm", counted)
    return shapes


def both(compute: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Results of native products, and with large ones by PyTorch."""
    native.multiply_large(None)
    ours = compute()
    native.multiply_large(LEAST)
    return ours, compute()


def matrix(packing: Packing, rows: int, width: int) -> native.Matrix:
    generator = torch.Generator().manual_seed(rows + width)
    return native.Matrix(
        width=width, **pack(torch.randn(rows, width, generator=generator), packing)
    )


def activations(count: int, width: int) -> Tensor:
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(count))
    x[count // 2] *= 1e4
    x[count // 3] = 0
    return x


@needs_native
@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(
    ("count", "width", "rows"),
    [(20, 64, 1), (21, 77, 33), (64, 300, 90), (130, 512, 257), (1100, 130, 40), (30, 96, 4200)],
)
def test_products_are_the_same_bits(
    calls: list[tuple[int, int]], packing: Packing, count: int, width: int, rows: int
) -> None:
    packed, x = matrix(packing, rows, width), activations(count, width)
    before = torch.get_num_threads()
    ours, theirs = both(lambda: native.products(x, packed))
    assert torch.equal(ours, theirs)
    assert torch.get_num_threads() == before
    assert sum(positions * outputs for positions, outputs in calls) == count * rows


@needs_native
def test_products_are_the_same_bits_on_all_instruction_sets(instructions: str) -> None:
    for packing in PACKINGS:
        packed, x = matrix(packing, 50, 200), activations(45, 200)
        ours, theirs = both(lambda p=packed, x=x: native.products(x, p))
        assert torch.equal(ours, theirs), instructions


@needs_native
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_bits_nor_the_threads_of_pytorch(threads: int) -> None:
    packed, x = matrix(Packing("int4", 32), 300, 200), activations(70, 200)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours, theirs = both(lambda: native.products(x, packed))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(ours, theirs)


@needs_native
def test_small_products_are_native(calls: list[tuple[int, int]]) -> None:
    packed = matrix(Packing("int8"), 90, 64)
    native.multiply_large(LEAST)
    for count in (1, 8, LEAST - 1):
        native.products(activations(count, 64), packed)
    assert not calls


@needs_native
def test_rows_of_what_is_no_number_stay_apart() -> None:
    packed, x = matrix(Packing("int8"), 90, 64), activations(40, 64)
    x[7, 3], x[9, 1] = torch.nan, torch.inf
    ours, theirs = both(lambda: native.products(x, packed))
    assert torch.equal(ours.isnan().any(1).nonzero().flatten(), torch.tensor([7, 9]))
    assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())
    assert torch.equal(ours.isnan(), theirs.isnan())


@needs_native
@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("lengths", [[5], [20], [75], [3, 140, 18], [1, 1, 64, 33]])
def test_prompts_are_the_same_bits(
    calls: list[tuple[int, int]], dtype: PackedDtype, lengths: list[int]
) -> None:
    """Prompts of several rows, all scores, and the keys and values that they leave."""
    config = qwen_config(decoder_layers=3, kv_heads=1, decoder_heads=3, hidden=80)
    backend = TorchBackend(packed_model(config, Quantization(dtype)))
    prompts = [
        torch.randn(length, 80, generator=torch.Generator().manual_seed(length + row))
        for row, length in enumerate(lengths)
    ]

    def scores() -> Tensor:
        cache = backend.new_cache(len(lengths), 8)
        backend.admit(cache, len(lengths))
        logits = backend.extend(cache, prompts, positions="all")
        step = backend.extend(cache, [[7]] * len(lengths))
        kept = [
            stored[:, row, :, :length].float().flatten()
            for stored in (cache.keys, cache.values)
            for row, length in enumerate(lengths)
        ]
        return torch.cat([logits.flatten(), step.flatten(), *kept])

    ours, theirs = both(scores)
    assert torch.equal(ours, theirs)
    assert bool(calls) == (sum(lengths) >= LEAST)


@needs_native
@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("frames", [[90], [160], [1700], [40, 900, 333]])
def test_encoder_states_are_the_same_bits(
    calls: list[tuple[int, int]], dtype: PackedDtype, frames: list[int]
) -> None:
    config = qwen_config(conv_channels=48, d_model=96, heads=3)
    backend = TorchBackend(packed_model(config, Quantization(dtype)))
    assert backend.native_encoder is not None
    mels = [torch.randn(128, n, generator=torch.Generator().manual_seed(n)) for n in frames]
    tokens = backend.encode_stem(mels)
    ours, theirs = both(lambda: torch.cat(backend.encode_layers(tokens)))
    assert torch.equal(ours, theirs)
    assert bool(calls) == (len(ours) >= LEAST)


@needs_native
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("frames", [5, 90, 1050])
def test_stems_are_the_same_bits(calls: list[tuple[int, int]], frames: int, threads: int) -> None:
    """Also of a conv block with what is no number, and next to one."""
    config = qwen_config(conv_channels=48, d_model=96, heads=3)
    backend = TorchBackend(packed_model(config, Quantization("int8")))
    assert backend.native_stem is not None
    mel = torch.randn(128, frames, generator=torch.Generator().manual_seed(frames))
    mel[3, 2] = torch.nan if frames > 100 else 0.0
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours, theirs = both(lambda: backend.encode_stem([mel])[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(ours.isnan(), theirs.isnan())
    assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())
    assert not ours[-1].isnan().any()
    assert {outputs for _, outputs in calls} == {48}
    assert min(positions for positions, _ in calls) >= LEAST


@needs_native
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("no kernel")])
def test_errors_of_a_large_product_are_raised_in_the_caller(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    packed, x = matrix(Packing("int8"), 90, 64), activations(30, 64)
    native.multiply_large(LEAST)

    def fails(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "_int_mm", fails)
        with pytest.raises(type(error)) as raised:
            native.products(x, packed)
        assert raised.value is error
        model = packed_model(qwen_config(conv_channels=48), Quantization("int8"))
        stem = TorchBackend(model).native_stem
        assert stem is not None
        with pytest.raises(type(error)) as raised:
            stem.convolve(torch.zeros(1, 128, 90))
        assert raised.value is error
    assert native.products(x, packed).isfinite().all()


FLAGS = {
    "flags\t\t: fpu sse2 avx512f amx_bf16 avx512_vnni amx_tile amx_int8\n": True,
    "flags\t\t: fpu sse2 avx512f avx512_vnni\n": False,
    "flags\t\t: amx_tile amx_bf16\n": False,
    "Features\t: fp asimd\n": False,
    "": False,
}


@pytest.mark.parametrize("text", FLAGS)
def test_the_processor_decides_and_the_variable_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    processor = tmp_path / "cpuinfo"
    processor.write_text(f"processor\t: 0\n{text}", encoding="utf-8")
    monkeypatch.setattr(large_products, "PROCESSOR", processor)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.delenv(large_products.VARIABLE, raising=False)
    assert large_products.chosen() == FLAGS[text]
    for given in ("0", "1"):
        monkeypatch.setenv(large_products.VARIABLE, given)
        assert large_products.chosen() == (given == "1")
    monkeypatch.setenv(large_products.VARIABLE, "yes")
    with pytest.raises(UnsupportedOption, match="AURIS_INT_MM has to be 1"):
        large_products.chosen()


def test_systems_without_a_list_of_flags_have_no_amx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(large_products.VARIABLE, raising=False)
    monkeypatch.setattr(large_products, "PROCESSOR", tmp_path / "missing")
    assert not large_products.chosen()
    assert not large_products.has_fast_products()


@pytest.mark.parametrize(("flags", "fast"), [("avx2 fma", False), ("avx2 avx512_vnni", True)])
def test_pytorch_multiplies_integers_fast_with_vnni(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, fast: bool
) -> None:
    processor = tmp_path / "cpuinfo"
    processor.write_text(f"processor\t: 0\nflags\t: fpu {flags}\n", encoding="utf-8")
    monkeypatch.setattr(large_products, "PROCESSOR", processor)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert large_products.has_fast_products() == fast


@needs_native
def test_the_kernels_in_use_are_named() -> None:
    native.multiply_large(None)
    assert native.kernels() == native.instructions()
    native.multiply_large(LEAST)
    assert native.kernels().startswith(f"{native.instructions()}, PyTorch's int8 products from 20")
