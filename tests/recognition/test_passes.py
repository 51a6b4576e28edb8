"""Chunks that are encoded and prefilled in one pass: the results of one by one, and which do so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auris.backends import native
from auris.backends.torch import TorchBackend
from auris.checkpoints.quantization_config import Quantization
from auris.recognition import ctc, qwen
from auris.recognition.ctc import CtcRecognizer
from auris.recognition.qwen import QwenRecognizer
from auris.recognition.recognizer import ChunkBatch, Recognizer
from auris.recognition.requests import ChunkRequest, ChunkResult
from auris.types import Segment
from tests.backends.test_packed_layers import packed_model
from tests.recognition.batches import recognize
from tests.recognition.test_qwen import TOKENIZER, chunk_request
from tests.ties import Ties
from tests.tiny_models import ctc_config, qwen_config, tiny_model

SHAPES = {"conv_channels": 16, "decoder_layers": 3}
"""Of a model that the native code runs as a whole."""


class Counting(TorchBackend):
    """Records how many clips are encoded and how many prompts are read together."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.encoded: list[int] = []
        self.prefilled: list[int] = []

    def encode(self, mels: Sequence[Tensor]) -> list[Tensor]:
        self.encoded.append(len(mels))
        return super().encode(mels)

    def extend(self, cache, inputs, rows=None, positions="last"):
        if isinstance(inputs[0], Tensor):
            self.prefilled.append(len(inputs))
        return super().extend(cache, inputs, rows, positions)


def floating() -> QwenRecognizer:
    return QwenRecognizer(Counting(tiny_model(seed=1)), qwen_config(), TOKENIZER)


def packed() -> QwenRecognizer:
    config = qwen_config(**SHAPES)
    model = packed_model(config, Quantization("int8"), seed=1)
    return QwenRecognizer(Counting(model), config, TOKENIZER)


def results(
    recognizer: Recognizer, requests: Sequence[ChunkRequest], rows: int
) -> dict[int, ChunkResult]:
    return {done.key: done for done in recognize(recognizer, requests, rows)}


CONTEXTS = ("", "kitchen lights", "fox")


@settings(deadline=None, max_examples=12)
@given(
    chunks=st.lists(
        st.tuples(st.integers(1, 90), st.sampled_from(CONTEXTS)), min_size=2, max_size=6
    ),
    rows=st.integers(2, 6),
)
@pytest.mark.parametrize("quantized", [False, True])
def test_chunks_of_any_lengths_together_and_one_by_one(
    quantized: bool, chunks: list[tuple[int, str]], rows: int
) -> None:
    recognizer = packed() if quantized else floating()
    requests = [
        chunk_request(key, tenths / 10, start=key, context=context, max_new_tokens=6)
        for key, (tenths, context) in enumerate(chunks)
    ]
    together = results(recognizer, requests, rows)
    ties = Ties()
    for request in requests:
        (alone,) = recognize(recognizer, [request], 1)
        segment = together[request.key].segment
        if quantized and native.available():
            assert _without_logprobs(segment) == _without_logprobs(alone.segment)
        elif not quantized:
            # Margins are not in a segment; `tests/decoding` has the rule for them.
            ties.same(segment.tokens, alone.segment.tokens, [1.0] * 9, f"chunk {request.key}")
            assert segment.logprobs == pytest.approx(alone.segment.logprobs, abs=1e-4)


def _without_logprobs(segment: Segment) -> Segment:
    """Without what the native code estimates for a token that is decoded alone."""
    return replace(segment, logprobs=(), token_confidences=(), word_confidences=())


@pytest.mark.parametrize("native_code", [True, False])
def test_a_quantized_encoder_gives_the_same_bits_in_any_batch(native_code: bool) -> None:
    backend = packed().backend
    assert isinstance(backend, TorchBackend)
    if not native_code:
        backend.native_stem = backend.native_encoder = None
    mels = [torch.randn(128, frames) for frames in (100, 333, 801, 50, 333)]
    together = backend.encode(mels)
    for mel, states in zip(mels, together, strict=True):
        assert torch.equal(backend.encode([mel])[0], states)


def taken(batch: ChunkBatch, seconds: Sequence[float], **options: object) -> int:
    """Adds chunks while there is room and makes a step; returns how many were added."""
    for count, length in enumerate(seconds):
        if not batch.has_room():
            return count
        batch.add(chunk_request(count, length, start=count, max_new_tokens=3, **options))
    return len(seconds)


def test_free_rows_are_filled_in_one_pass() -> None:
    recognizer = floating()
    backend = recognizer.backend
    assert isinstance(backend, Counting)
    batch = recognizer.batch(4)
    assert taken(batch, [1.0, 2.0, 0.4, 1.0, 1.0]) == 4
    batch.step()
    assert (backend.encoded, backend.prefilled[-1]) == ([4], 4)
    while batch.pending:
        batch.step()
    batch.add(chunk_request(9, max_new_tokens=3))
    batch.step()
    assert backend.encoded == [4, 1]  # A chunk that comes alone does not wait.


def test_a_pass_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are left over are filled by the next step, before which others get a token."""
    monkeypatch.setattr(qwen, "PASS_SECONDS", 2.5)
    recognizer = floating()
    backend = recognizer.backend
    assert isinstance(backend, Counting)
    batch = recognizer.batch(5)
    assert taken(batch, [1.0, 1.0, 4.0, 0.5, 1.0]) == 5
    done = []
    while batch.pending:
        done += batch.step()
    assert backend.encoded == [2, 1, 2]
    assert sorted(one.key for one in done) == [0, 1, 2, 3, 4]


def test_a_chunk_that_does_not_fit_in_the_batch_is_not_encoded_yet() -> None:
    recognizer = floating()
    backend = recognizer.backend
    assert isinstance(backend, Counting)
    batch = recognizer.batch(5)
    assert taken(batch, [1.0, 1.0, 1.0, 1.0, 1.0], batch_seconds=2.0) == 3
    batch.step()
    assert backend.encoded == [2]
    assert not batch.has_room()
    done = []
    while batch.pending:
        done += batch.step()
    assert backend.encoded == [2, 1]


def test_a_ctc_model_encodes_chunks_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctc, "PASS_SECONDS", 3.0)
    backend = Counting(tiny_model(ctc_config()))
    recognizer = CtcRecognizer(backend, ctc_config(), TOKENIZER)
    lengths = [1.0, 0.3, 1.5, 2.0, 9.0, 1.0]
    requests = [chunk_request(key, length, start=key) for key, length in enumerate(lengths)]
    together = results(recognizer, requests, 4)
    assert backend.encoded == [3, 1, 1, 1]
    for request in requests:
        (alone,) = recognize(recognizer, [request], 1)
        found = together[request.key].segment
        assert found.tokens == alone.segment.tokens
        assert found.logprobs == pytest.approx(alone.segment.logprobs, abs=1e-4)
