"""Confidences of tokens and words, and the decision that a chunk has no speech."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.checkpoints.calibration import Calibration, Logistic
from auris.recognition.confidence import (
    ResultConfidence,
    score_result,
    scored_words,
    silence_features,
    word_features,
)
from auris.recognition.requests import ChunkRequest, DecodeOptions, DecodeResult
from auris.text.prompt import TEXT_TAG
from auris.text.reply import parse_reply
from auris.types import Chunk, FinishReason
from tests.tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
HEAD = [*TOKENIZER.encode("language English"), TOKENIZER.id(TEXT_TAG)]

FITTED = Calibration(
    token=Logistic(0.0, (1.0, 0.0, 0.0)),
    word=Logistic(0.0, (0.5, 0.5, 0.0, 0.0)),
    silence=Logistic(0.0, (1.0, 0.0, 0.0)),
    silence_threshold=0.75,
)


def result_of(
    ids: Sequence[int],
    logprobs: Sequence[float] | None = None,
    silence: float | None = math.log(0.1),
    reason: FinishReason = "stop",
) -> DecodeResult:
    request = ChunkRequest(0, Chunk(0, np.zeros(16000, np.float32)), DecodeOptions())
    given = tuple(logprobs) if logprobs is not None else (-0.5,) * len(ids)
    return DecodeResult(request, tuple(ids), given, reason, silence)


def confidence_of(result: DecodeResult, calibration: Calibration | None = None) -> ResultConfidence:
    return score_result(
        TOKENIZER, result, parse_reply(TOKENIZER.decode(result.tokens)), calibration
    )


@given(st.text(st.sampled_from("ab c,.'é你好 😀"), max_size=30))
@settings(deadline=None)
def test_scored_words_have_the_tokens_that_write_them(text: str) -> None:
    ids = [*HEAD, *TOKENIZER.encode(text)]
    shown = parse_reply(TOKENIZER.decode(ids)).text
    for word in scored_words(TOKENIZER, ids, shown):
        assert word.tokens, word
        assert list(word.tokens) == list(range(word.tokens[0], word.tokens[-1] + 1))
        assert word.tokens[0] >= len(HEAD)
        spelled = b"".join(bytes(TOKENIZER.content(ids[n])) for n in word.tokens)
        kept = "".join(c for c in spelled.decode("utf-8", "ignore") if c in word.text)
        assert word.text in kept


def test_words_after_collapsed_repeats_are_located() -> None:
    ids = [*HEAD, *TOKENIZER.encode("ab " + "x" * 30 + " cd")]
    shown = parse_reply(TOKENIZER.decode(ids)).text
    assert shown == "ab x cd"
    assert [bool(word.tokens) for word in scored_words(TOKENIZER, ids, shown)] == [True] * 3
    (lost,) = scored_words(TOKENIZER, ids, "elsewhere")
    assert lost.tokens == ()


def test_without_calibration_probabilities_are_the_models() -> None:
    ids = [*HEAD, *TOKENIZER.encode("fox jumps")]
    logprobs = [-0.1 * (n + 1) for n in range(len(ids))]
    found = confidence_of(result_of(ids, logprobs))
    assert found.token_confidences == pytest.approx([math.exp(value) for value in logprobs])
    for (word, chance), scored in zip(
        found.word_confidences, scored_words(TOKENIZER, ids, "fox jumps"), strict=True
    ):
        mean = sum(logprobs[n] for n in scored.tokens) / len(scored.tokens)
        assert (word, chance) == (scored.text, pytest.approx(math.exp(mean)))
    assert found.no_speech_probability == pytest.approx(0.1)
    assert not found.no_speech


def test_a_calibration_maps_only_tokens_that_write_words() -> None:
    ids = [*HEAD, *TOKENIZER.encode("fox")]
    logprobs = [math.log(0.9)] * len(HEAD) + [math.log(0.6)] * (len(ids) - len(HEAD))
    found = confidence_of(result_of(ids, logprobs), FITTED)
    # Weights of one and no bias are the identity.
    assert found.token_confidences == pytest.approx([math.exp(value) for value in logprobs])
    assert found.word_confidences == (("fox", pytest.approx(0.6)),)


@pytest.mark.parametrize(
    ("silence", "reason", "calibration", "suppressed"),
    [
        (0.8, "stop", FITTED, True),
        (0.7, "stop", FITTED, False),
        (0.8, "loop", FITTED, True),
        (0.8, "cancelled", FITTED, False),
        (0.99, "stop", None, False),
        (None, "stop", FITTED, False),
        (None, "stop", None, False),
    ],
)
def test_no_speech_depends_on_the_threshold(
    silence: float | None, reason: FinishReason, calibration: Calibration | None, suppressed: bool
) -> None:
    ids = [*HEAD, *TOKENIZER.encode("fox")]
    asked = None if silence is None else math.log(silence)
    found = confidence_of(result_of(ids, silence=asked, reason=reason), calibration)
    assert found.no_speech is suppressed
    assert bool(found.word_confidences) is not suppressed
    if silence is None:
        expected = None if calibration is None else pytest.approx(0.0, abs=1e-4)
        assert found.no_speech_probability == expected
    else:
        assert found.no_speech_probability == pytest.approx(silence)


@pytest.mark.parametrize(
    ("hotwords", "suppressed"),
    [((), True), (("Jumps",), False), (("high Jumps",), True), (("fox",), True), (("ump",), True)],
)
@pytest.mark.parametrize("text", ["fox jumps", "fox jumps's", "jumps"])
def test_improbable_hotwords_suppress_no_other_words(
    text: str, hotwords: tuple[str, ...], suppressed: bool
) -> None:
    """A hotword alone is judged by its own probability."""
    fitted = replace(FITTED, silence=Logistic(0.0, (1.0, -1.0, 0.0)))
    ids = [*HEAD, *TOKENIZER.encode(text)]
    jumps = len(TOKENIZER.encode(text.removeprefix("fox")))
    likely = len(ids) - jumps
    logprobs = [math.log(0.6)] * likely + [math.log(0.001)] * jumps
    result = result_of(ids, logprobs, silence=math.log(0.3))
    options = replace(result.request.options, hotwords=hotwords)
    result = replace(result, request=replace(result.request, options=options))
    found = confidence_of(result, fitted)
    assert found.no_speech is (suppressed or text == "jumps")
    assert bool(found.word_confidences) is not found.no_speech


@pytest.mark.parametrize("calibration", [None, FITTED])
@pytest.mark.parametrize(("reason", "said"), [("stop", True), ("cancelled", False)])
def test_an_empty_text_is_not_speech(
    reason: FinishReason, said: bool, calibration: Calibration | None
) -> None:
    ids = [*TOKENIZER.encode("language None"), TOKENIZER.id(TEXT_TAG)]
    assert confidence_of(result_of(ids, reason=reason), calibration).no_speech is said
    assert confidence_of(result_of([], reason=reason), calibration).no_speech is said


@given(st.lists(st.floats(-1e4, 0.0), min_size=1, max_size=9), st.floats(-1e4, 0.0))
def test_features_are_finite(logprobs: list[float], chunk: float) -> None:
    features = (*word_features(logprobs, chunk), *silence_features(chunk, logprobs[0]))
    assert all(math.isfinite(value) for value in features)
