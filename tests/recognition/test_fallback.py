"""What becomes of first attempts, whatever the model does: nothing lost, nothing endless."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.errors import CheckpointError
from auris.recognition.fallback import DEEPEST, DecodeResult, FallbackPolicy, FallbackResult
from auris.recognition.requests import ChunkRequest, DecodeOptions
from auris.types import SAMPLE_RATE, Chunk, FinishReason
from tests.tiny_models import tiny_tokenizer, tone_speech

LOOP = (1, *(7, 8, 9) * 40)
PLAIN = (1, 2, 3)
CONTEXT = "four words of context that nobody says"

REASONS: list[FinishReason] = ["stop", "length", "loop", "cancelled"]


def piece_of(seconds: float, start: int = 0, **options: object) -> ChunkRequest:
    return ChunkRequest(5, Chunk(start, tone_speech(seconds)), DecodeOptions(**options))  # type: ignore[arg-type]


def attempt_of(piece: ChunkRequest, reason: FinishReason = "stop") -> DecodeResult:
    tokens = LOOP if reason == "loop" else PLAIN
    return DecodeResult(piece, tokens, (-0.5,) * len(tokens), reason)


def finish(
    settling: FallbackPolicy, answers: st.DataObject, decoded: list[ChunkRequest]
) -> FallbackResult:
    while settling.outcome is None:
        places = answers.draw(st.permutations(range(len(settling.wanted))))
        wanted = list(settling.wanted)
        for place in places:
            decoded.append(wanted[place])
            settling.take(place, attempt_of(wanted[place], answers.draw(st.sampled_from(REASONS))))
    return settling.outcome


@given(
    st.data(),
    st.floats(0.1, 40.0),
    st.integers(0, 10**6),
    st.sampled_from(["", CONTEXT]),
    st.sampled_from([None, 5]),
)
@settings(max_examples=40, deadline=None)
def test_every_second_is_in_one_attempt_that_counts(
    data: st.DataObject, seconds: float, start: int, context: str, budget: int | None
) -> None:
    first = piece_of(seconds, start, context=context, max_new_tokens=budget)
    leaks = st.sampled_from(["said", "four words of context"])
    texts: dict[int, str] = {}

    def text_of(attempt: DecodeResult) -> str:
        return texts.setdefault(id(attempt.piece), data.draw(leaks))

    settling = FallbackPolicy(attempt_of(first, data.draw(st.sampled_from(REASONS))), text_of)
    decoded: list[ChunkRequest] = []
    outcome = finish(settling, data, decoded)
    chunks = [attempt.piece.chunk for attempt in outcome.attempts]
    heard = np.concatenate([chunk.samples for chunk in chunks])
    assert np.array_equal(heard, first.chunk.samples)
    assert chunks[0].start == start
    for before, after in pairwise(chunks):
        assert before.start + len(before.samples) == after.start
        assert len(after.samples) >= SAMPLE_RATE
    assert len(chunks) <= 2**DEEPEST
    # Every decoding counts, is accounted for, or only asked whether context was said.
    assert len(decoded) <= 2 * (2 ** (DEEPEST + 1) - 1)
    asked = sum(not piece.options.context for piece in decoded) if context else 0
    told = len(outcome.attempts) + len(outcome.retries)
    assert told <= 1 + len(decoded) <= told + asked
    if budget is not None:
        assert all(retry.cause != "length" for retry in outcome.retries)
    for retry in outcome.retries:
        assert start / SAMPLE_RATE <= retry.start < retry.end
        assert retry.end <= (start + len(first.chunk.samples)) / SAMPLE_RATE + 1e-9


def test_a_loop_that_nobody_stopped_is_stopped() -> None:
    piece = piece_of(1.0)
    settling = FallbackPolicy(
        DecodeResult(piece, LOOP, (-0.5,) * len(LOOP), "length"), lambda attempt: ""
    )
    assert settling.outcome is not None
    (attempt,) = settling.outcome.attempts
    assert attempt.reason == "loop"
    assert attempt.tokens == LOOP[: 1 + 66]
    assert len(attempt.logprobs) == len(attempt.tokens)


@pytest.mark.parametrize(
    ("head", "unit", "said"),
    [
        ("so ", "no ", "so no"),
        ("", "no ", "no"),
        ("turn ", "it off and on ", "turn it off and on"),
        ("ab ", "x", "ab x"),
        ("", "你好", "你好"),
    ],
)
def test_one_of_the_repeats_is_said(head: str, unit: str, said: str) -> None:
    tokenizer = tiny_tokenizer()
    tokens = tuple(tokenizer.encode(head + unit * 80))
    attempt = DecodeResult(piece_of(1.0), tokens, (-0.5,) * len(tokens), "loop")
    shown = tokenizer.decode(attempt.said(tokenizer))
    assert shown.rstrip(" \ufffd") == said


def test_cancelled_attempts_stay_as_they_are() -> None:
    attempt = attempt_of(piece_of(20.0), "loop")
    settling = FallbackPolicy(attempt, lambda attempt: "")
    assert settling.outcome is None
    outcome = settling.cancel()
    assert [one.reason for one in outcome.attempts] == ["cancelled"]
    assert outcome.retries == ()


def test_scores_that_are_no_numbers() -> None:
    with pytest.raises(CheckpointError, match="NaN"):
        FallbackPolicy(
            DecodeResult(piece_of(1.0), PLAIN, (-0.5, float("nan"), 0.0), "stop"), lambda a: ""
        )
