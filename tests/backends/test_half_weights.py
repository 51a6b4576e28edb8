"""Decoders in bfloat16 and float16 as stored, run by native code: scores of the same weights in
float32, tokens of PyTorch's own half formats."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auris import AsrPipeline
from auris.backends import native
from auris.backends.base import best_of
from auris.backends.devices import pick_dtypes
from auris.backends.native_decoder import LONGEST_STEP, native_weights
from auris.backends.torch import TorchBackend
from auris.checkpoints.layouts import LayoutName
from auris.models.qwen_asr import QwenAsr
from tests.backends.conftest import INSTRUCTIONS
from tests.backends.test_native import SHAPES, config, prompt
from tests.processors import set_bfloat16
from tests.recordings import clip, tokens
from tests.ties import LOGITS, Ties
from tests.tiny_models import tiny_model, write_tiny

pytestmark = pytest.mark.skipif(not native.available(), reason="built without native code")

FORMATS = [torch.bfloat16, torch.float16]
CPU = torch.device("cpu")
STEPS = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""Half a rounding step of a format, relative to the number."""

ROUNDINGS = 24
"""Half steps of the largest logit by which PyTorch's scores in a half format may differ from those
of float32: it rounds after each of the some 40 operations of three or four layers. At most 13 were
seen."""

TIE_ROUNDINGS = 4
"""Half steps of the largest logit: two best logits nearer than this are a tie in a half format."""

MOST_TIES = 4 if pick_dtypes("auto", CPU, torch.bfloat16, False).computed == torch.bfloat16 else 6
"""Of 90 tokens, how many may differ at such ties: as many as were seen where PyTorch has products
of bfloat16, and where it emulates them with sums in another order (of up to 20 tokens at ties)."""


def model_in(dtype: torch.dtype, shape: int) -> QwenAsr:
    model = tiny_model(config(shape), shape).to(dtype).requires_grad_(False)
    assert isinstance(model, QwenAsr)
    return model


def widened(model: QwenAsr) -> TorchBackend:
    """The same weights in float32, run by PyTorch."""
    backend = TorchBackend(deepcopy(model).float())
    assert backend.native_decoder is None
    return backend


def odd(rows: int, width: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Weights of all sizes, some so small that float16 stores them with fewer digits."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=generator)
    weight[rows // 2] *= 1e-6
    weight[:, width // 2] = 0
    return weight.to(dtype)


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 24),
    width=st.integers(1, 200),
    rows=st.integers(1, 75),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(FORMATS),
)
def test_products_are_those_of_float32(
    count: int, width: int, rows: int, seed: int, dtype: torch.dtype
) -> None:
    check_products(count, width, rows, seed, dtype)


@pytest.mark.parametrize("width", [1024, 1056, 2100, 3072])
@pytest.mark.parametrize("count", [7, 8, 23, 52])
def test_wide_products_are_those_of_float32(count: int, width: int) -> None:
    """Where activations and weights are laid out anew, if their columns are whole blocks of 32."""
    check_products(count, width, 70, width, torch.bfloat16)
    check_products(count, width, 35, width, torch.float16)


def check_products(count: int, width: int, rows: int, seed: int, dtype: torch.dtype) -> None:
    """Within rounding; and the same bits for a row alone, and on processors that fuse products."""
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    weight = odd(rows, width, seed, dtype)
    matrix = native.Matrix(weight, None, width)
    wanted = x.double() @ weight.double().t()
    scale = x.double().abs() @ weight.double().abs().t()
    before, fused = native.instructions(), []
    try:
        for name in filter(native.use, INSTRUCTIONS):
            found = native.products(x, matrix)
            assert ((found - wanted).abs() <= 1e-6 * scale + 1e-12).all(), name
            alone = [native.products(row[None], matrix) for row in x]
            assert torch.equal(found, torch.cat(alone)), name
            fused += [] if name == "portable" else [found]
    finally:
        native.use(before)
    assert all(torch.equal(found, fused[0]) for found in fused)


def test_all_numbers_of_float16_are_read(instructions: str) -> None:
    """Each alone in its row, so that the sum is the number itself."""
    weight = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(torch.float16)[:, None]
    weight = torch.cat([weight, torch.zeros_like(weight)], 1).contiguous()
    found = native.products(torch.tensor([[1.0, 0.0]]), native.Matrix(weight, None, 2))[0]
    assert torch.equal(found.nan_to_num(7.0), weight[:, 0].float().nan_to_num(7.0)), instructions


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_step_scores_as_float32(shape: int, dtype: torch.dtype, instructions: str) -> None:
    """The same tokens under the tie rule, of several rows, from caches in float32."""
    model = model_in(dtype, shape)
    ours, theirs, ties = TorchBackend(model), widened(model), Ties()
    assert ours.native_decoder is not None
    cache, beside = ours.new_cache(3, 64), theirs.new_cache(3, 64)
    cache.keys, cache.values = cache.keys.float(), cache.values.float()
    for backend, memory in ((ours, cache), (theirs, beside)):
        backend.admit(memory, 3)
    inputs: list[Tensor | list[int]] = [
        prompt(5 + 5 * row, shape, row).to(dtype) for row in range(3)
    ]
    for step in range(30):
        logits = ours.extend(cache, inputs)
        wanted = theirs.extend(beside, inputs)
        for row, (one, other) in enumerate(zip(logits[:, 0], wanted[:, 0], strict=True)):
            assert (one - other).abs().max() <= LOGITS
            best = one.topk(2).values
            chosen = [int(one.argmax())], [int(other.argmax())]
            ties.same(*chosen, [float(best[0] - best[1])], f"step {step} of row {row}")
        inputs = [[token] for token in logits[:, -1].argmax(-1).tolist()]
    assert ties.count == 0
    assert cache.lengths == beside.lengths == [34, 39, 44]


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_step_chooses_pytorchs_token(shape: int, dtype: torch.dtype) -> None:
    """PyTorch in the same format, from the same cache: another token is chosen at ties of that
    format alone, which are rare."""
    model = model_in(dtype, shape)
    ours, theirs, others = TorchBackend(model), TorchBackend(model), 0
    theirs.native_decoder = None
    cache, beside = ours.new_cache(3, 64), theirs.new_cache(3, 64)
    ours.admit(cache, 3)
    theirs.admit(beside, 3)
    # Both run prompts of this length with PyTorch.
    prompts = [prompt(LONGEST_STEP + 1 + row, shape, row).to(dtype) for row in range(3)]
    logits = ours.extend(cache, prompts)
    for _ in range(30):
        chosen = [[token] for token in logits[:, -1].argmax(-1).tolist()]
        beside.keys, beside.values = cache.keys.clone(), cache.values.clone()
        beside.lengths = list(cache.lengths)
        logits, wanted = ours.extend(cache, chosen), theirs.extend(beside, chosen)
        half_step = STEPS[dtype] * float(wanted.abs().max())
        assert (logits - wanted).abs().max() <= ROUNDINGS * half_step
        for one, other in zip(logits[:, 0], wanted[:, 0], strict=True):
            if int(one.argmax()) != int(other.argmax()):
                best = one.topk(2).values
                assert float(best[0] - best[1]) <= TIE_ROUNDINGS * half_step
                others += 1
    assert others <= MOST_TIES


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 16, 19])
@pytest.mark.parametrize("dtype", FORMATS)
def test_a_row_is_the_same_in_any_batch(rows: int, dtype: torch.dtype, instructions: str) -> None:
    """Bit for bit: of other lengths, token by token or several at once; and its best token is that
    of all its scores."""
    backend = TorchBackend(model_in(dtype, 1))
    lengths = [1 + (5 * row) % 13 for row in range(rows)]
    prompts = [prompt(length, 1, row).to(dtype) for row, length in enumerate(lengths)]
    alone = []
    for row in range(rows):
        cache = backend.new_cache(1, 4)
        backend.admit(cache)
        backend.extend(cache, [prompts[row]])
        alone.append(backend.extend(cache, [[7, row, 5]], positions="all")[0])
    cache = backend.new_cache(rows, 20)
    backend.admit(cache, rows)
    backend.extend(cache, prompts)
    steps = [
        backend.extend(cache, [[token if token >= 0 else row] for row in range(rows)])
        for token in (7, -1, 5)
    ]
    assert torch.equal(torch.cat(steps, 1), torch.stack(alone))
    for row in range(rows):
        backend.truncate(cache, row, lengths[row] + 2)
    found, wanted = backend.best(cache, [[5]] * rows), best_of(steps[-1][:, 0])
    assert [one.token for one in found] == [one.token for one in wanted]
    assert [one.margin for one in found] == [one.margin for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-5)


@pytest.mark.parametrize("dtype", FORMATS)
def test_any_number_of_threads_gives_the_same_bits(dtype: torch.dtype) -> None:
    backend = TorchBackend(model_in(dtype, 3))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            cache = backend.new_cache(1, 16)
            backend.admit(cache)
            found.append(backend.extend(cache, [prompt(16, 3).to(dtype)], positions="all"))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_broken_state_is_seen_in_its_own_row_alone() -> None:
    backend = TorchBackend(model_in(torch.bfloat16, 0))
    cache = backend.new_cache(2, 8)
    backend.admit(cache, 2)
    broken = prompt(4, 0).to(torch.bfloat16)
    broken[2, 1] = torch.nan
    first, second = backend.best(cache, [broken, prompt(4, 0, 1).to(torch.bfloat16)])
    assert first.margin != first.margin
    assert second.margin == second.margin


def test_which_decoders_it_runs() -> None:
    assert native_weights(model_in(torch.bfloat16, 0).decoder) == "16-bit"
    assert native_weights(model_in(torch.float32, 0).decoder) is None
    mixed = model_in(torch.bfloat16, 0).decoder
    mixed.layers[1].float()
    assert native_weights(mixed) is None


@pytest.mark.parametrize("layout", ["native", "hf", "published"])
def test_texts_of_both_paths(
    tmp_path: Path, layout: LayoutName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint in bfloat16 as it comes, in every layout, and PyTorch's text of it."""
    set_bfloat16(monkeypatch, True)
    directory = write_tiny(tmp_path / "m", layout, seed=3, dtype=torch.bfloat16)
    ours = AsrPipeline.from_pretrained(directory, dtype="bfloat16", device="cpu")
    theirs = AsrPipeline.from_pretrained(directory, dtype="bfloat16", device="cpu")
    assert ours.backend.native_decoder is not None
    theirs.backend.native_decoder = None
    found = ours.transcribe(clip(3.0), max_new_tokens=12)
    assert tokens(found) == tokens(theirs.transcribe(clip(3.0), max_new_tokens=12))
    recordings = [clip(1.0 + number, number) for number in range(3)]
    alone = [tokens(ours.transcribe(one, max_new_tokens=12)) for one in recordings]
    together = ours.transcribe(recordings, batch_size=3, max_new_tokens=12)
    assert [tokens(one) for one in together] == alone


@pytest.mark.parametrize("token", [-1, 1 << 20])
def test_a_token_without_an_embedding_is_refused(token: int) -> None:
    backend = TorchBackend(model_in(torch.bfloat16, 0))
    cache = backend.new_cache(1, 8)
    backend.admit(cache)
    with pytest.raises(RuntimeError, match="no embedding"):
        backend.best(cache, [[token]])
    assert cache.lengths == [0]
