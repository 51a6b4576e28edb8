"""The fallback covers all audio and terminates, for any output of the model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.errors import CheckpointError
from auris.recognition.fallback import MAX_DEPTH, FallbackPolicy, FallbackResult
from auris.recognition.requests import ChunkRequest, DecodeOptions, DecodeResult
from auris.types import SAMPLE_RATE, Chunk, FinishReason
from tests.tiny_models import tiny_tokenizer, tone_speech

LOOP = (1, *(7, 8, 9) * 40)
PLAIN = (1, 2, 3)
CONTEXT = "four words of context that nobody says"

REASONS: list[FinishReason] = ["stop", "length", "loop", "cancelled"]


def request_of(seconds: float, start: int = 0, **options: object) -> ChunkRequest:
    return ChunkRequest(5, Chunk(start, tone_speech(seconds)), DecodeOptions(**options))


def result_of(request: ChunkRequest, reason: FinishReason = "stop") -> DecodeResult:
    tokens = LOOP if reason == "loop" else PLAIN
    return DecodeResult(request, tokens, (-0.5,) * len(tokens), reason)


def finish(
    policy: FallbackPolicy, answers: st.DataObject, decoded: list[ChunkRequest]
) -> FallbackResult:
    while policy.result is None:
        order = answers.draw(st.permutations(range(len(policy.requests))))
        requests = list(policy.requests)
        for index in order:
            decoded.append(requests[index])
            policy.add_result(
                index, result_of(requests[index], answers.draw(st.sampled_from(REASONS)))
            )
    return policy.result


@given(
    st.data(),
    st.floats(0.1, 40.0),
    st.integers(0, 10**6),
    st.sampled_from(["", CONTEXT]),
    st.sampled_from([None, 5]),
)
@settings(max_examples=40, deadline=None)
def test_every_second_is_in_exactly_one_used_result(
    data: st.DataObject, seconds: float, start: int, context: str, budget: int | None
) -> None:
    first = request_of(seconds, start, context=context, max_new_tokens=budget)
    leaks = st.sampled_from(["said", "four words of context"])
    texts: dict[int, str] = {}

    def text_of(result: DecodeResult) -> str:
        return texts.setdefault(id(result.request), data.draw(leaks))

    policy = FallbackPolicy(result_of(first, data.draw(st.sampled_from(REASONS))), text_of)
    decoded: list[ChunkRequest] = []
    fallback = finish(policy, data, decoded)
    chunks = [result.request.chunk for result in fallback.results]
    samples = np.concatenate([chunk.samples for chunk in chunks])
    assert np.array_equal(samples, first.chunk.samples)
    assert chunks[0].start == start
    for before, after in pairwise(chunks):
        assert before.start + len(before.samples) == after.start
        assert len(after.samples) >= SAMPLE_RATE
    assert len(chunks) <= 2**MAX_DEPTH
    # Every decoding is used, has a retry record, or only checked for words of the context.
    assert len(decoded) <= 2 * (2 ** (MAX_DEPTH + 1) - 1)
    checks = sum(not request.options.context for request in decoded) if context else 0
    recorded = len(fallback.results) + len(fallback.retries)
    assert recorded <= 1 + len(decoded) <= recorded + checks
    if budget is not None:
        assert all(retry.cause != "length" for retry in fallback.retries)
    for retry in fallback.retries:
        assert start / SAMPLE_RATE <= retry.start < retry.end
        assert retry.end <= (start + len(first.chunk.samples)) / SAMPLE_RATE + 1e-9


def test_a_loop_in_a_first_result_is_cut() -> None:
    request = request_of(1.0)
    policy = FallbackPolicy(
        DecodeResult(request, LOOP, (-0.5,) * len(LOOP), "length"), lambda result: ""
    )
    assert policy.result is not None
    (result,) = policy.result.results
    assert result.reason == "loop"
    assert result.tokens == LOOP[: 1 + 66]
    assert len(result.logprobs) == len(result.tokens)


@pytest.mark.parametrize(
    ("head", "unit", "text"),
    [
        ("so ", "no ", "so no"),
        ("", "no ", "no"),
        ("turn ", "it off and on ", "turn it off and on"),
        ("ab ", "x", "ab x"),
        ("", "你好", "你好"),
    ],
)
def test_one_repeat_of_a_loop_stays_in_the_text(head: str, unit: str, text: str) -> None:
    tokenizer = tiny_tokenizer()
    tokens = tuple(tokenizer.encode(head + unit * 80))
    result = DecodeResult(request_of(1.0), tokens, (-0.5,) * len(tokens), "loop")
    shown = tokenizer.decode(result.text_tokens(tokenizer))
    assert shown.rstrip(" \ufffd") == text


def test_cancelling_a_fallback_keeps_the_first_result() -> None:
    result = result_of(request_of(20.0), "loop")
    policy = FallbackPolicy(result, lambda result: "")
    assert policy.result is None
    fallback = policy.cancel()
    assert [one.reason for one in fallback.results] == ["cancelled"]
    assert fallback.retries == ()


def test_scores_that_are_nan_are_refused() -> None:
    with pytest.raises(CheckpointError, match="NaN"):
        FallbackPolicy(
            DecodeResult(request_of(1.0), PLAIN, (-0.5, float("nan"), 0.0), "stop"), lambda a: ""
        )
