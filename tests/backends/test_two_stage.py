"""The best token of one row from two stages, without all scores, equals that of all scores."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auris import AsrPipeline
from auris.backends import native
from auris.backends.base import best_of
from auris.backends.torch import TorchBackend
from auris.checkpoints.packed_formats import Packing, pack
from auris.checkpoints.quantization_config import Quantization
from auris.decoding.loop import decode
from auris.decoding.requests import Request, Step
from auris.decoding.sampling import Probe, Sampling
from tests.backends.test_packed_layers import packed_model
from tests.narrow_int4 import narrow_int4  # noqa: F401
from tests.tiny_models import qwen_config

pytestmark = pytest.mark.skipif(not native.available(), reason="built without native code")

NORMALIZER = 0.02
HALVES = Packing("int8", halves=True)


def head(weight: Tensor) -> native.Matrix:
    return native.Matrix(width=weight.shape[1], **pack(weight, HALVES))


def best(x: Tensor, matrix: native.Matrix, exact: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens, log-probabilities, margins and counts of `native.best`."""
    found = native.best(x, matrix, exact)
    tokens, read = (
        torch.tensor([getattr(one, name) for one in found], dtype=torch.int32)
        for name in ("token", "read")
    )
    logprobs, margins = (
        torch.tensor([getattr(one, name) for one in found]) for name in ("logprob", "margin")
    )
    return tokens, logprobs, margins, read


def same_margins(margins: list[float], wanted: list[float], exact: bool) -> None:
    """Equal where they are small, and never too large."""
    for margin, real in zip(margins, wanted, strict=True):
        if exact or min(margin, real) < 8.0:
            assert margin == real
        assert margin <= real


def check(x: Tensor, weight: Tensor, exact: bool) -> Tensor:
    """Compare with all scores; return how many rows were computed exactly."""
    matrix = head(weight)
    scores = native.products(x, matrix)
    tokens, logprobs, margins, read = best(x, matrix, exact)
    most = scores.topk(2).values
    exact = exact or len(x) > 1
    assert torch.equal(scores.gather(1, tokens[:, None].long())[:, 0], most[:, 0])
    assert torch.equal(tokens.long(), (scores == most[:, :1]).float().argmax(1))
    same_margins(margins.tolist(), (most[:, 0] - most[:, 1]).tolist(), exact)
    wanted = most[:, 0].double() - scores.double().logsumexp(1)
    off = (logprobs.double() - wanted).abs() / wanted.abs().clamp(min=1.0)
    assert off.max() <= (1e-5 if exact else NORMALIZER + 1e-5)
    return read


@settings(deadline=None, max_examples=60)
@given(
    count=st.sampled_from([1, 1, 1, 2, 5, 17]),
    width=st.integers(2, 300),
    rows=st.integers(2, 2500),
    loud=st.sampled_from([1e-3, 0.1, 1.0, 10.0, 1e3]),
    toward=st.floats(0.0, 1.0),
    exact=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_winner_equals_that_of_full_scores(
    count: int, width: int, rows: int, loud: float, toward: float, exact: bool, seed: int
) -> None:
    """From states without a clear best row to those that equal one row."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=generator)
    weight[rows // 2] = weight[rows // 3]  # A tie, of which the first wins.
    places = torch.randint(rows, (count,), generator=generator)
    noise = torch.randn(count, width, generator=generator)
    x = loud * (toward * weight[places] + (1 - toward) * noise)
    before = native.instructions()
    try:
        found = [
            check(x, weight, exact)
            for name in ("amx", "avx512", "avx2", "neon", "portable")
            if native.use(name)
        ]
    finally:
        native.use(before)
    assert all(torch.equal(read, found[0]) for read in found)
    assert count == 1 or found[0].tolist() == [rows] * count


def test_few_rows_are_read_where_the_best_is_clear() -> None:
    weight = torch.randn(5000, 256, generator=torch.Generator().manual_seed(1))
    sure = weight[[4999]].contiguous()
    assert check(sure, weight, exact=False).tolist() == [1]
    assert check(sure, weight, exact=True).tolist() == [5000]


def test_all_rows_are_read_where_no_row_is_clearly_best() -> None:
    weight = torch.randn(5000, 256, generator=torch.Generator().manual_seed(1))
    vague = 0.01 * torch.randn(1, 256, generator=torch.Generator().manual_seed(2))
    assert check(vague, weight, exact=False).tolist() == [5000]


@given(seed=st.integers(0, 99), rows=st.integers(2, 2500), count=st.integers(1, 6))
@settings(deadline=None, max_examples=20)
def test_a_matrix_of_another_packing(seed: int, rows: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, x = torch.randn(rows, 96, generator=generator), torch.randn(count, 96)
    for packing in (Packing("int8"), Packing("int4")):
        matrix = native.Matrix(width=96, **pack(weight, packing))
        tokens, logprobs, margins, _ = best(x, matrix, False)
        scores = native.products(x, matrix)
        most = scores.topk(2).values
        assert torch.equal(tokens.long(), (scores == most[:, :1]).float().argmax(1))
        assert torch.equal(margins, most[:, 0] - most[:, 1])
        assert torch.allclose(logprobs, most[:, 0] - scores.logsumexp(1), atol=1e-4)


def test_zeros_and_nan() -> None:
    weight = torch.randn(300, 64, generator=torch.Generator().manual_seed(3))
    x = torch.stack([torch.zeros(64), torch.full((64,), torch.nan), weight[5]])
    alone = [best(one[None], head(weight), False) for one in x]
    for found in (best(x, head(weight), False), map(torch.cat, zip(*alone, strict=True))):
        tokens, logprobs, margins, _ = found
        assert tokens.tolist() == [0, 0, 5]
        assert float(logprobs[0]) == pytest.approx(-math.log(300), abs=1e-5)
        assert margins[0] == 0.0
        assert logprobs[1].isnan()
        assert margins[1].isnan()


def decoded(backend: TorchBackend, requests: list[Request], rows: int) -> dict[int, list[Step]]:
    steps: dict[int, list[Step]] = {}
    for step in decode(backend, iter(requests), [3], rows):
        steps.setdefault(step.key, []).append(step)
    return steps


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_texts_equal_those_of_full_scores(tied: bool, dtype: str) -> None:
    """Alone and with rows that sample or need probabilities."""
    model = packed_model(
        qwen_config(tied=tied, decoder_layers=3),
        Quantization(dtype),
    )
    backend, whole = TorchBackend(model), TorchBackend(model)
    assert backend.native_decoder is not None
    assert whole.native_decoder is not None
    assert backend.native_decoder.chooses
    whole.native_decoder.chooses = False
    requests = [
        Request(0, [5, 9, 11], 12),
        Request(1, [8, 2], 12, Sampling(0.7, 4)),
        Request(2, [4, 4, 4, 4], 12, probe=Probe(3, (9, 10))),
        Request(3, [100, 7], 12, draft=(9, 9, 9)),
    ]
    together, wanted = decoded(backend, requests, 4), decoded(whole, requests, 4)
    for request in requests:
        alone = decoded(backend, [request], 1)[request.key]
        for one, other, beside in zip(
            together[request.key], wanted[request.key], alone, strict=True
        ):
            assert one.token == other.token == beside.token
            same_margins([beside.margin], [one.margin], exact=False)
            same_margins([one.margin], [other.margin], exact=False)
            for step in (one, beside):
                assert step.logprob == pytest.approx(other.logprob, abs=NORMALIZER)
            assert one.probe_logprob == other.probe_logprob == beside.probe_logprob


def test_exact_log_probabilities_on_request() -> None:
    found = [
        AsrPipeline.from_pretrained("tiny", dtype="int8", exact_logprobs=exact)
        for exact in (True, False)
    ]
    assert [pipeline.backend.exact for pipeline in found] == [True, False]
    backend = found[0].backend
    cache = backend.new_cache(1, 9)
    backend.admit(cache)
    backend.extend(cache, [[1, 5, 9]])
    (choice,) = backend.best(cache, [[7]])
    backend.truncate(cache, 0, 3)
    (wanted,) = best_of(backend.extend(cache, [[7]])[:, -1])
    assert (choice.token, choice.margin) == (wanted.token, wanted.margin)
    assert choice.logprob == pytest.approx(wanted.logprob, abs=1e-5)
