"""Chunks to segments, with scripted scores for texts and tiny models for numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from auris.backends.torch import TorchBackend
from auris.decoding.sampling import Sampling
from auris.errors import CheckpointError, ConfigError, TokenizerError, UnsupportedOption
from auris.recognition.ctc import CtcRecognizer
from auris.recognition.qwen import ChunkRequest, ChunkResult, DecodeOptions, QwenRecognizer
from auris.recognition.requests import DecodeResult
from auris.text.prompt import (
    AUDIO_END,
    AUDIO_PAD,
    AUDIO_START,
    END_OF_TEXT,
    TEXT_TAG,
    TURN_END,
    TURN_START,
)
from auris.text.tokenizer import Tokenizer
from auris.types import Chunk, Segment
from tests.backends.fake import FakeBackend
from tests.recognition.batches import recognize
from tests.tiny_models import ctc_config, qwen_config, tiny_model, tiny_tokenizer, tone_speech

RATE = 16_000
TOKENIZER = tiny_tokenizer()
STOP = TOKENIZER.id(TURN_END)
TAG = TOKENIZER.id(TEXT_TAG)


class Scripted(FakeBackend):
    """Answers the n-th request with the n-th script, for any prompt."""

    def __init__(self, scripts: Sequence[Sequence[int]]) -> None:
        super().__init__(dict(enumerate(scripts)), qwen_config().decoder.vocab, STOP)
        self.prompts: list[list[int]] = []

    def embed(self, ids: Sequence[int], states: Tensor | None) -> Tensor:
        """The number of the request represents its prompt."""
        self.prompts.append(list(ids))
        return torch.tensor([[float(len(self.prompts) - 1)]])


def reply(language: str, text: str) -> list[int]:
    return [*TOKENIZER.encode(f"language {language}"), TAG, *TOKENIZER.encode(text)]


def chunk_request(
    key: int = 0, seconds: float = 1.0, start: float = 0.0, **options: object
) -> ChunkRequest:
    chunk = Chunk(round(start * RATE), tone_speech(seconds, key))
    return ChunkRequest(key, chunk, DecodeOptions(**options))


def recognizer(scripts: Sequence[Sequence[int]]) -> QwenRecognizer:
    return QwenRecognizer(Scripted(scripts), qwen_config(), TOKENIZER)


def run(
    scripts: Sequence[Sequence[int]], requests: Iterable[ChunkRequest], rows: int = 1
) -> list[Segment]:
    done = list(recognize(recognizer(scripts), requests, rows))
    return [one.segment for one in sorted(done, key=lambda one: one.key)]


def test_a_reply_becomes_a_segment() -> None:
    script = reply("English", "turn on the lights")
    (segment,) = run([script], [chunk_request(seconds=2.5, start=7.25)])
    assert (segment.text, segment.language) == ("turn on the lights", "English")
    assert (segment.start, segment.end) == (7.25, 9.75)
    assert segment.tokens == tuple(script)
    assert len(segment.logprobs) == len(script)
    assert segment.finish_reason == "stop"


def test_a_reply_starts_with_the_forced_language() -> None:
    runner = recognizer([TOKENIZER.encode("guten tag")])
    (done,) = recognize(runner, [chunk_request(language="German", context="fox")], 1)
    assert (done.segment.text, done.segment.language) == ("guten tag", "German")
    (prompt,) = runner.backend.prompts
    assert prompt[-1] == TAG
    assert "fox" in TOKENIZER.decode(prompt)
    assert prompt.count(TOKENIZER.id(AUDIO_PAD)) == 100  # One state for each frame in this backend.


def test_no_speech() -> None:
    (segment,) = run([reply("None", "")], [chunk_request()])
    assert (segment.text, segment.language, segment.finish_reason) == ("", None, "stop")
    assert segment.tokens


def test_a_reply_without_tokens() -> None:
    (segment,) = run([[]], [chunk_request()])
    assert (segment.text, segment.language, segment.tokens) == ("", None, ())
    assert segment.avg_logprob is None


def test_repeats_are_collapsed_in_the_text_and_kept_in_the_tokens() -> None:
    (segment,) = run([reply("English", "ha" * 20)], [chunk_request(max_new_tokens=500)])
    assert (segment.text, segment.finish_reason) == ("ha", "stop")
    assert TOKENIZER.decode(segment.tokens).endswith("ha" * 20)


@pytest.mark.parametrize("seconds", [0.2, 3.0, 10.0])
def test_the_default_budget_depends_on_the_duration(seconds: float) -> None:
    chatter = [60 + n * n % 97 for n in range(1000)]
    (segment,) = run([chatter, [65], [66]], [chunk_request(seconds=seconds)])
    tokens = segment.retries[0].tokens if segment.retries else segment.tokens
    assert len(tokens) == 64 + int(16 * seconds)
    assert segment.finish_reason == ("stop" if segment.retries else "length")
    assert bool(segment.retries) == (seconds > 4)


def test_a_loop_is_stopped_and_its_chunk_decoded_in_halves() -> None:
    """The repeats cost 64 tokens and not the budget, other rows continue, and the halves form the
    segment."""
    loop = reply("English", "well then ") + TOKENIZER.encode("stop ") * 99
    scripts = [loop, reply("English", "beside"), reply("English", "well"), reply("English", "then")]
    runner = recognizer(scripts)
    done = list(recognize(runner, [chunk_request(0, 8.0, start=3.0), chunk_request(1)], 2))
    beside, halved = (one.segment for one in sorted(done, key=lambda one: -one.key))
    assert (beside.text, beside.retries) == ("beside", ())
    assert (halved.text, halved.finish_reason, halved.language) == ("well then", "stop", "English")
    assert (halved.start, halved.end) == (3.0, 11.0)
    assert halved.tokens == (*scripts[2], *scripts[3])
    assert len(halved.logprobs) == len(halved.token_confidences) == len(halved.tokens)
    (retry,) = halved.retries
    assert (retry.start, retry.end, retry.cause) == (3.0, 11.0, "loop")
    assert len(retry.tokens) < len(loop) / 2
    assert [word for word, _ in halved.word_confidences] == ["well", "then"]


def test_a_loop_in_the_smallest_chunks_keeps_one_repeat() -> None:
    loop = reply("English", "ab") + TOKENIZER.encode("no ") * 99
    (segment,) = run([loop] * 99, [chunk_request(seconds=30.0)])
    assert segment.finish_reason == "loop"
    # Every retry replaces one part by two.
    parts = 1 + len(segment.retries)
    assert 1 + 2 + 2 < parts <= 1 + 1 + 2 + 4
    assert segment.text == " ".join(["abno"] * parts)
    assert {retry.cause for retry in segment.retries} == {"loop"}
    assert (segment.start, segment.end) == (0.0, 30.0)


def test_an_explicit_budget_causes_no_fallback() -> None:
    (segment,) = run([[60 + n for n in range(40)]], [chunk_request(seconds=20.0, max_new_tokens=9)])
    assert (segment.finish_reason, len(segment.tokens)) == ("length", 9)
    assert segment.retries == ()


CONTEXT = "names to expect are Angstrom, Bohr and Celsius"


def test_a_chunk_with_leaked_context_is_decoded_without_it() -> None:
    leak = reply("English", "names to expect are angstrom bohr")
    runner = recognizer([leak, reply("English", "what was said")])
    (done,) = recognize(runner, [chunk_request(context=CONTEXT)], 1)
    assert done.segment.text == "what was said"
    (retry,) = done.segment.retries
    assert (retry.cause, retry.tokens) == ("context", tuple(leak))
    first, second = map(TOKENIZER.decode, runner.backend.prompts)
    assert "Celsius" in first
    assert "Celsius" not in second


def test_spoken_context_is_not_removed() -> None:
    said = reply("English", "names to expect are angstrom bohr")
    heard = reply("English", "names to expect are angstrum bore")
    (segment,) = run([said, heard], [chunk_request(context=CONTEXT)])
    assert segment.text == "names to expect are angstrom bohr"
    assert segment.retries == ()
    (name,) = run([reply("English", "angstrom bohr and")], [chunk_request(context=CONTEXT)])
    assert name.text == "angstrom bohr and"


LOOP = reply("English", "x") + TOKENIZER.encode("no ") * 99
SCRIPTS = {
    "said": [reply("English", "turn it off")],
    "silent": [reply("None", "")],
    "loop": [LOOP, reply("English", "one"), LOOP, reply("English", "two"), reply("German", "drei")],
    "leak": [reply("English", "names to expect are bohr"), reply("None", "")],
    "length": [[60 + n * n % 97 for n in range(1000)], [65], [66]],
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_final_gives_the_segment_of_a_batch(case: str) -> None:
    """Also if the caller's decoding did not detect loops or compute probabilities."""
    scripts = SCRIPTS[case]
    source = chunk_request(seconds=9.0, context=CONTEXT)
    (whole,) = recognize(recognizer(scripts), [source], 1)
    first = scripts[0][: 64 + 16 * 9]
    full = len(first) < len(scripts[0])
    logprobs = (-1.0,) * len(first) if whole.segment.retries else whole.segment.logprobs
    result = DecodeResult(source, tuple(first), logprobs, "length" if full else "stop")
    runner = recognizer(scripts)
    silence = whole.segment.no_speech_probability
    assert silence is not None
    runner.backend.embed([], None)  # The first result was decoded by the caller.
    done = runner.final(replace(result, silence_logprob=float(np.log(silence))))
    assert done == replace(whole.segment, no_speech_probability=pytest.approx(silence))


def test_final_computes_a_missing_silence_logprob() -> None:
    source = chunk_request()
    model = TorchBackend(tiny_model(qwen_config(), seed=3))
    runner = QwenRecognizer(model, qwen_config(), TOKENIZER)
    for one in (source, replace(source, options=DecodeOptions(language="English"))):
        (whole,) = recognize(runner, [one], 1)
        segment = whole.segment
        assert segment.retries == ()
        result = DecodeResult(one, segment.tokens, segment.logprobs, segment.finish_reason)
        assert runner.final(result) == segment
        assert (segment.no_speech_probability is None) == (len(segment.tokens) < 3)


def test_cancelled_during_a_retry() -> None:
    done: list[ChunkResult] = []
    stop = [False]
    loop = reply("English", "so ") + TOKENIZER.encode("no ") * 99

    class Stopping(Scripted):
        def embed(self, ids: Sequence[int], states: Tensor | None) -> Tensor:
            stop[0] = len(self.prompts) == 2
            return super().embed(ids, states)

    runner = QwenRecognizer(Stopping([loop] * 3), qwen_config(), TOKENIZER)
    done += recognize(runner, [chunk_request(seconds=8.0)], 1, lambda: stop[0])
    (one,) = done
    assert (one.segment.text, one.segment.finish_reason) == ("so no", "cancelled")
    assert one.segment.retries == ()


def test_a_text_that_ends_at_its_budget_is_complete() -> None:
    scripts = [[65] * 6, [65] * 7]
    exact, cut = run(
        scripts, [chunk_request(0, max_new_tokens=6), chunk_request(1, max_new_tokens=6)]
    )
    assert (exact.finish_reason, cut.finish_reason) == ("stop", "length")
    assert exact.tokens == cut.tokens == (65,) * 6


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
def test_results_do_not_depend_on_the_batch(rows: int) -> None:
    texts = ["one", "", "three three", "the quick brown fox", "five"]
    scripts = [reply("English", text) for text in texts]
    segments = run(scripts, [chunk_request(key, start=key) for key in range(5)], rows)
    assert [segment.text for segment in segments] == texts
    assert [segment.start for segment in segments] == [0, 1, 2, 3, 4]


def test_timings_are_added_to_their_stage() -> None:
    (done,) = recognize(recognizer([[65]]), [chunk_request()], 1)
    assert set(done.timings) == {"mel", "encode", "prefill", "decode"}
    assert all(seconds >= 0 for seconds in done.timings.values())


def test_cancelling_ends_chunks_and_starts_no_others() -> None:
    taken: list[int] = []
    done: list[ChunkResult] = []

    def requests() -> Iterator[ChunkRequest]:
        for key in range(6):
            taken.append(key)
            yield chunk_request(key)

    scripts = [[65, 66], [67] * 50, [68] * 50, [69], [70], [71]]
    stop = [False]
    for one in recognize(recognizer(scripts), requests(), 3, lambda: stop[0]):
        done.append(one)
        stop[0] = True
    reasons = {one.key: one.segment.finish_reason for one in done}
    assert reasons == {0: "stop", 1: "cancelled", 2: "cancelled"}
    assert taken == [0, 1, 2]
    assert all(0 < len(one.segment.tokens) < 50 for one in done)


def test_cancelled_before_the_first_chunk() -> None:
    def requests() -> Iterator[ChunkRequest]:
        raise AssertionError("a request was read")
        yield

    assert list(recognize(recognizer([]), requests(), 2, lambda: True)) == []
    ctc = CtcRecognizer(TorchBackend(tiny_model(ctc_config())), ctc_config(), TOKENIZER)
    assert list(recognize(ctc, requests(), 2, lambda: True)) == []


def test_the_models_own_stop_ids() -> None:
    by_name = recognizer([])
    assert by_name.stops == {TOKENIZER.id(END_OF_TEXT), STOP}
    runner = QwenRecognizer(Scripted([[65, 66, 67]]), qwen_config(), TOKENIZER, stops=[66])
    (done,) = recognize(runner, [chunk_request()], 1)
    assert done.segment.tokens == (65,)


def without(token: str) -> Tokenizer:
    return Tokenizer(TOKENIZER.core, {k: v for k, v in TOKENIZER.added.items() if k != token})


@pytest.mark.parametrize(
    "token",
    [TEXT_TAG, END_OF_TEXT, TURN_START, TURN_END, AUDIO_START, AUDIO_PAD, AUDIO_END],
)
def test_a_vocabulary_without_a_control_token(token: str) -> None:
    with pytest.raises(TokenizerError, match="has to know the token"):
        QwenRecognizer(Scripted([]), qwen_config(), without(token))


def test_config_and_vocabulary_must_match() -> None:
    config = qwen_config()
    other = replace(config, audio_token_id=config.audio_token_id - 1)
    with pytest.raises(ConfigError, match="audio_token_id"):
        QwenRecognizer(Scripted([]), other, TOKENIZER)
    small = replace(config, decoder=replace(config.decoder, vocab=TOKENIZER.size - 1))
    with pytest.raises(ConfigError, match="row in the embedding"):
        QwenRecognizer(Scripted([]), small, TOKENIZER)
    backend = TorchBackend(tiny_model(ctc_config()))
    for units in (TOKENIZER.size - 1, TOKENIZER.size + 1):
        with pytest.raises(ConfigError, match="one class for every unit"):
            CtcRecognizer(backend, replace(ctc_config(), units=units), TOKENIZER)


@pytest.fixture(scope="module")
def ctc() -> CtcRecognizer:
    return CtcRecognizer(TorchBackend(tiny_model(ctc_config())), ctc_config(), TOKENIZER)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (DecodeOptions(max_new_tokens=9), "^max_new_tokens"),
        (DecodeOptions(sampling=Sampling(0.5)), "^temperature"),
        (DecodeOptions(language="French"), "English only"),
    ],
)
def test_options_that_a_ctc_model_does_not_support_are_refused(
    ctc: CtcRecognizer, options: DecodeOptions, named: str
) -> None:
    with pytest.raises(UnsupportedOption, match=named):
        ctc.check(options)
    recognizer([]).check(options)


def test_options_that_a_ctc_model_supports(ctc: CtcRecognizer) -> None:
    ctc.check(DecodeOptions())
    ctc.check(DecodeOptions(language="English"))


def test_a_ctc_chunk_is_one_pass_and_independent_of_the_batch(ctc: CtcRecognizer) -> None:
    requests = [chunk_request(key, 0.4 + key, start=key) for key in range(3)]
    together = list(recognize(ctc, requests, 4))
    for one, source in zip(together, requests, strict=True):
        (single,) = recognize(ctc, [source], 1)
        assert one.segment == single.segment
        assert one.segment.finish_reason == "stop"
        assert len(one.segment.tokens) == len(one.segment.logprobs) > 0
        assert one.segment.text == TOKENIZER.decode(one.segment.tokens).strip()
        assert one.segment.start == one.key
        assert set(one.timings) == {"mel", "encode", "decode"}


def test_a_ctc_path_of_blanks_is_empty() -> None:
    model = tiny_model(ctc_config())
    model.head.bias.data[ctc_config().blank] = 1e3
    runner = CtcRecognizer(TorchBackend(model), ctc_config(), TOKENIZER)
    (done,) = recognize(runner, [chunk_request()], 1)
    segment = done.segment
    assert (segment.text, segment.language, segment.tokens) == ("", None, ())


@pytest.mark.parametrize("kind", ["qwen", "ctc"])
def test_scores_that_are_nan_are_an_error(kind: str) -> None:
    """Damaged weights, or weights too large for float16, give NaN and never a text."""
    config = qwen_config() if kind == "qwen" else ctc_config()
    model = tiny_model(config)
    next(model.encoder.parameters()).data.fill_(float("nan"))
    make = QwenRecognizer if kind == "qwen" else CtcRecognizer
    runner = make(TorchBackend(model), config, TOKENIZER)
    with pytest.raises(CheckpointError, match="NaN"):
        list(
            recognize(
                runner, [chunk_request(max_new_tokens=3) if kind == "qwen" else chunk_request()]
            )
        )


def test_unused_embedding_rows_are_never_generated() -> None:
    spare = qwen_config().decoder.vocab - 1
    assert spare >= TOKENIZER.size
    (segment,) = run([[*reply("English", "a"), spare, *TOKENIZER.encode("b")]], [chunk_request()])
    assert segment.text == "ab"
    assert spare in segment.tokens


def test_samples_of_a_chunk_are_not_changed() -> None:
    source = chunk_request()
    before = source.chunk.samples.copy()
    run([[65]], [source])
    assert np.array_equal(source.chunk.samples, before)
