"""Products and passes are the same bits with every instruction set of the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from auris.backends import devices, native
from auris.backends.torch import TorchBackend
from auris.checkpoints.packed_formats import PackedDtype, Packing, pack
from auris.checkpoints.quantization_config import Quantization
from tests.backends.conftest import INSTRUCTIONS
from tests.backends.test_packed_layers import packed_model
from tests.narrow_int4 import narrow_int4  # noqa: F401
from tests.tiny_models import qwen_config

pytestmark = pytest.mark.skipif(not native.available(), reason="built without native code")

FUSED = tuple(name for name in INSTRUCTIONS if name != "portable")
"""Instruction sets with fused multiplication, whose passes are the same bits."""

PACKINGS = [
    Packing("int8"),
    Packing("int8", halves=True),
    *(Packing("int4", group) for group in (32, 64, 128)),
]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    instructions, threads = native.instructions(), torch.get_num_threads()
    yield
    native.use(instructions)
    torch.set_num_threads(threads)


def results(compute: Callable[[], Tensor], names: tuple[str, ...] = FUSED) -> list[Tensor]:
    """Of every instruction set that this processor has."""
    return [compute() for _ in filter(native.use, names)]


def same_bits(tensors: list[Tensor]) -> bool:
    return all(torch.equal(one.view(torch.int32), tensors[0].view(torch.int32)) for one in tensors)


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


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("count", "width", "rows"),
    [
        *((3, 64, 40), (4, 64, 1), (15, 77, 33), (16, 300, 90), (17, 512, 257)),
        *((33, 130, 40), (48, 96, 4200), (405, 256, 47)),
    ],
)
def test_products(packing: Packing, threads: int, count: int, width: int, rows: int) -> None:
    packed, x = matrix(packing, rows, width), activations(count, width)
    torch.set_num_threads(threads)
    assert same_bits(results(lambda: native.products(x, packed), INSTRUCTIONS))


def test_rows_of_what_is_no_number_stay_apart(instructions: str) -> None:
    packed, x = matrix(Packing("int8"), 90, 64), activations(40, 64)
    x[7, 3], x[9, 1] = torch.nan, torch.inf
    out = native.products(x, packed)
    assert out.isnan().any(1).nonzero().flatten().tolist() == [7, 9], instructions
    others = [row for row in range(40) if row not in (7, 9)]
    assert torch.equal(out[others], native.products(x[others], packed))


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("lengths", [[5], [20], [75], [3, 210, 18], [1, 1, 64, 33]])
@pytest.mark.parametrize(("heads", "kv_heads", "hidden"), [(3, 1, 80), (4, 2, 72), (2, 2, 50)])
def test_prompts(
    dtype: PackedDtype, lengths: list[int], heads: int, kv_heads: int, hidden: int, threads: int
) -> None:
    """Prompts of several rows, all scores, and the keys and values that they leave. Long ones
    attend by blocks of keys, short ones by single queries."""
    torch.set_num_threads(threads)
    config = qwen_config(decoder_layers=3, decoder_heads=heads, kv_heads=kv_heads, hidden=hidden)
    backend = TorchBackend(packed_model(config, Quantization(dtype)))
    prompts = [
        torch.randn(length, hidden, generator=torch.Generator().manual_seed(length + row))
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

    assert same_bits(results(scores))


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_tokens_have_the_same_bits_alone_and_in_a_prompt(
    dtype: PackedDtype, instructions: str
) -> None:
    """The scores of every position of a long prompt, which attends by blocks, and one by one."""
    torch.set_num_threads(1)
    config = qwen_config(decoder_layers=2, kv_heads=1, decoder_heads=2, hidden=80)
    backend = TorchBackend(packed_model(config, Quantization(dtype)))
    prompt = torch.randn(90, 80, generator=torch.Generator().manual_seed(1))
    whole = backend.new_cache(1, 100)
    backend.admit(whole)
    together = backend.extend(whole, [prompt], positions="all")[0]
    single = backend.new_cache(1, 100)
    backend.admit(single)
    alone = torch.cat([backend.extend(single, [prompt[i : i + 1]])[0] for i in range(len(prompt))])
    assert torch.equal(together, alone), instructions


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("frames", [[90], [160], [1700], [40, 900, 333]])
def test_encoder_states(dtype: PackedDtype, frames: list[int]) -> None:
    config = qwen_config(conv_channels=48, d_model=96, heads=3)
    backend = TorchBackend(packed_model(config, Quantization(dtype)))
    assert backend.native_encoder is not None
    mels = [torch.randn(128, n, generator=torch.Generator().manual_seed(n)) for n in frames]
    tokens = backend.encode_stem(mels)
    assert same_bits(results(lambda: torch.cat(backend.encode_layers(tokens))))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("frames", [5, 90, 1050])
def test_stems(frames: int, threads: int) -> None:
    """Also of a conv block with what is no number, and next to one."""
    config = qwen_config(conv_channels=48, d_model=96, heads=3)
    backend = TorchBackend(packed_model(config, Quantization("int8")))
    assert backend.native_stem is not None
    mel = torch.randn(128, frames, generator=torch.Generator().manual_seed(frames))
    mel[3, 2] = torch.nan if frames > 100 else 0.0
    torch.set_num_threads(threads)
    states = results(lambda: backend.encode_stem([mel])[0])
    assert all(torch.equal(one.isnan(), states[0].isnan()) for one in states)
    assert same_bits([one.nan_to_num() for one in states])
    assert not states[0][-1].isnan().any()


@pytest.mark.parametrize(
    ("text", "fast"),
    [
        ("flags\t\t: fpu avx2 fma\n", False),
        ("flags\t\t: fpu avx2 avx512_vnni\n", True),
        ("Features\t: fp asimd\n", False),
        (None, False),
    ],
)
def test_pytorch_multiplies_integers_fast_with_vnni(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, fast: bool
) -> None:
    processor = tmp_path / "cpuinfo"
    if text is not None:
        processor.write_text(f"processor\t: 0\n{text}", encoding="utf-8")
    monkeypatch.setattr(devices, "PROCESSOR", processor)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert devices.multiplies_integers() == fast
