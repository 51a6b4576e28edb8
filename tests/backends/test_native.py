"""The native code against PyTorch: products bit for bit, steps under the tie rule."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auris.backends import native
from auris.backends.packed_layers import quantize_rows
from auris.backends.torch import TorchBackend
from auris.checkpoints.packed_formats import PackedDtype, Packing, integers, pack
from auris.checkpoints.quantization_config import Quantization
from auris.config import QwenAsrConfig
from tests.backends.conftest import INSTRUCTIONS
from tests.backends.test_packed_layers import packed_model
from tests.narrow_int4 import narrow_int4  # noqa: F401
from tests.ties import LOGITS, Ties
from tests.tiny_models import qwen_config

pytestmark = pytest.mark.skipif(not native.available(), reason="built without native code")

SHAPES = [
    {"decoder_layers": 3},
    {"decoder_layers": 3, "kv_heads": 1, "decoder_heads": 3, "hidden": 80, "tied": False},
    {"decoder_layers": 3, "kv_heads": 2, "decoder_heads": 12, "head_dim": 48, "hidden": 36},
    {"decoder_layers": 4, "kv_heads": 4, "decoder_heads": 4, "head_dim": 128, "hidden": 200},
]
"""Groups of 2, 3, 6 and 1 queries to a key; widths that are no multiples of anything."""


def config(shape: int) -> QwenAsrConfig:
    return qwen_config(**SHAPES[shape])


def backends(shape: int, dtype: PackedDtype = "int8") -> tuple[TorchBackend, TorchBackend]:
    """One model, run by native code and by PyTorch."""
    model = packed_model(config(shape), Quantization(dtype), seed=shape)
    ours, theirs = TorchBackend(model), TorchBackend(model)
    assert ours.native_decoder is not None
    theirs.native_decoder = None
    return ours, theirs


def prompt(length: int, shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, config(shape).decoder.hidden, generator=generator)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 400),
    outputs=st.integers(1, 75),
    seed=st.integers(0, 99),
    packing=st.sampled_from(
        [
            Packing("int8"),
            Packing("int8", halves=True),
            *(Packing("int4", n) for n in (32, 64, 128)),
        ]
    ),
)
def test_products_equal_pytorch_bit_for_bit(
    rows: int, width: int, outputs: int, seed: int, packing: Packing
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=generator)
    x[rows // 2] *= 1e3
    x[rows // 3] = 0
    packed = pack(torch.randn(outputs, width, generator=generator), packing)
    whole = integers(packed["weight"], packed.get("steps"), packed.get("lower"))
    codes, scales = quantize_rows(x)
    padded = torch.nn.functional.pad(codes, (0, whole.shape[1] - width))
    wanted = torch._int_mm(padded, whole.t()).float() * (scales * packed["scale"])
    matrix = native.Matrix(width=width, **packed)
    before = native.instructions()
    try:
        for name in filter(native.use, INSTRUCTIONS):
            assert torch.equal(native.products(x, matrix), wanted), name
    finally:
        native.use(before)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "packing", [Packing("int8"), Packing("int8", halves=True), Packing("int4", 64)]
)
def test_many_outputs_equal_pytorch_bit_for_bit(packing: Packing, threads: int) -> None:
    """Threads take several blocks at a time, and fetch the next one; the last block is a part. Few
    rows are prepared for the first block and kept for the others."""
    generator = torch.Generator().manual_seed(0)
    packed = pack(torch.randn(32 * 40 + 5, 130, generator=generator), packing)
    whole = integers(packed["weight"], packed.get("steps"), packed.get("lower"))
    matrix, before = native.Matrix(width=130, **packed), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rows in (7, 16, 17, 31):
            x = torch.randn(rows, 130, generator=generator)
            codes, scales = quantize_rows(x)
            padded = torch.nn.functional.pad(codes, (0, whole.shape[1] - 130))
            wanted = torch._int_mm(padded, whole.t()).float() * (scales * packed["scale"])
            assert torch.equal(native.products(x, matrix), wanted)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_passes_score_like_pytorch(shape: int, dtype: PackedDtype, instructions: str) -> None:
    """Keys are rounded to bfloat16 and rows to 8 bits on either side, so that the last digit of a
    sum may move a code; the scores of a prompt agree nearly everywhere all the same."""
    found = []
    for backend in backends(shape, dtype):
        cache = backend.new_cache(2, 8)
        backend.admit(cache, 2)
        found.append(
            backend.extend(cache, [prompt(23, shape), prompt(9, shape, 1)], positions="all")
        )
        assert cache.lengths == [23, 9]
    ours, theirs = (torch.cat([logits[0], logits[1, :9]]) for logits in found)
    assert torch.cosine_similarity(ours, theirs, dim=-1).min() > 0.999
    assert (ours - theirs).abs().median() < 1e-3


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_every_step_chooses_the_token_of_pytorch(shape: int, dtype: PackedDtype) -> None:
    """Step by step from the same cache: logits within the limit of float32 and the same tokens
    under the tie rule, but for a few steps in which a last digit moved a code on its way."""
    ours, theirs = backends(shape, dtype)
    ties, moved = Ties(), 0
    cache, beside = (backend.new_cache(3, 64) for backend in (ours, theirs))
    ours.admit(cache, 3)
    theirs.admit(beside, 3)
    logits = ours.extend(cache, [prompt(5 + 6 * row, shape, row) for row in range(3)])
    for step in range(40):
        tokens = [[token] for token in logits[:, -1].argmax(-1).tolist()]
        beside.keys, beside.values = cache.keys.clone(), cache.values.clone()
        beside.lengths = list(cache.lengths)
        logits, wanted = ours.extend(cache, tokens), theirs.extend(beside, tokens)
        for row, (one, other) in enumerate(zip(logits[:, 0], wanted[:, 0], strict=True)):
            if (one - other).abs().max() > LOGITS:
                moved += 1
                continue
            best = one.topk(2).values
            chosen = [int(one.argmax())], [int(other.argmax())]
            ties.same(*chosen, [float(best[0] - best[1])], f"step {step} of row {row}")
    assert moved <= 12
    assert ties.count == 0
    assert cache.lengths == beside.lengths == [45, 51, 57]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 13, 16, 19])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_a_row_does_not_depend_on_the_batch(
    rows: int, dtype: PackedDtype, instructions: str
) -> None:
    """Bit for bit, with other rows of other lengths, and fed at once or token by token."""
    backend, _ = backends(1, dtype)
    lengths = [1 + (5 * row) % 17 for row in range(rows)]
    alone = []
    for row, length in enumerate(lengths):
        cache = backend.new_cache(1, 4)
        backend.admit(cache)
        backend.extend(cache, [prompt(length, 1, row)])
        alone.append(backend.extend(cache, [[7, row, 5]], positions="all")[0])
    cache = backend.new_cache(rows, 20)
    backend.admit(cache, rows)
    backend.extend(cache, [prompt(length, 1, row) for row, length in enumerate(lengths)])
    steps = [
        backend.extend(cache, [[token if token >= 0 else row] for row in range(rows)])
        for token in (7, -1, 5)
    ]
    assert torch.equal(torch.cat(steps, 1), torch.stack(alone))


def test_rows_are_added_dropped_and_rolled_back(instructions: str) -> None:
    backend, _ = backends(0)
    cache = backend.new_cache(4, 2)
    backend.admit(cache, 3)
    kept = prompt(30, 0, 2)
    backend.extend(cache, [prompt(5, 0, 0), prompt(40, 0, 1), kept])
    backend.drop(cache, 0)  # The last row moves to its index.
    backend.truncate(cache, 0, 12)
    later = backend.extend(cache, [kept[12:]], range(1))
    fresh = backend.new_cache(1, 30)
    backend.admit(fresh)
    assert torch.equal(later, backend.extend(fresh, [kept]))
    backend.admit(cache)
    assert cache.lengths == [30, 40, 0]
    assert torch.equal(backend.extend(cache, [kept], range(2, 3)), later)


def test_a_float32_cache_is_supported() -> None:
    ours, theirs = backends(3)
    found = []
    for backend in (ours, theirs):
        cache = backend.new_cache(1, 30)
        cache.keys, cache.values = cache.keys.float(), cache.values.float()
        backend.admit(cache)
        found.append(backend.extend(cache, [prompt(20, 3)], positions="all"))
    assert torch.cosine_similarity(*found, dim=-1).min() > 0.999


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    backend, _ = backends(3)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            cache = backend.new_cache(1, 90)
            backend.admit(cache)
            found.append(backend.extend(cache, [prompt(90, 3)], positions="all"))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_nan_affects_only_its_own_row() -> None:
    backend, _ = backends(0)
    cache = backend.new_cache(2, 8)
    backend.admit(cache, 2)
    broken = prompt(4, 0)
    broken[2, 1] = torch.nan
    logits = backend.extend(cache, [broken, prompt(4, 0, 1)])
    assert logits[0].isnan().all()
    assert logits[1].isfinite().all()


def test_heads_of_odd_widths_use_pytorch() -> None:
    model = packed_model(qwen_config(head_dim=24), Quantization("int8"))
    backend = TorchBackend(model)
    assert backend.native_decoder is None
    cache = backend.new_cache(1, 8)
    backend.admit(cache)
    assert backend.extend(cache, [[1, 2, 3]]).isfinite().all()


def test_unknown_instruction_sets_are_refused() -> None:
    assert not native.use("sse")
    assert native.instructions() in INSTRUCTIONS


SCARCE = """
import resource
import torch
from auris.backends import native

matrix = native.Matrix(torch.ones(1, 64, dtype=torch.int8), torch.ones(1), 1)
native.products(torch.ones(4, 1), matrix)
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (64 << 20), resource.RLIM_INFINITY))
try:
    native.products(torch.ones(1 << 20, 1), matrix)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(native.products(torch.ones(1, 1), matrix).item())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited in Linux's way")
def test_out_of_memory_raises_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCARCE], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["the native code got no memory", "1.0"], done.stderr
