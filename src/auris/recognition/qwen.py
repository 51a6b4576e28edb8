"""The recognizer of Qwen3-ASR models: the official prompt, decoding, fallback."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache

from torch import Tensor

from auris.backends.base import Backend
from auris.checkpoints.calibration import NO_CALIBRATIONS, Calibrations
from auris.checkpoints.validation import check_vocabulary
from auris.config import AutConfig, QwenAsrConfig, token_budget
from auris.decoding.ctc import greedy
from auris.decoding.loop import DecodeLoop, decode
from auris.decoding.requests import Request, Step
from auris.decoding.sampling import Probe
from auris.errors import UnsupportedOption
from auris.recognition.fallback import FallbackPolicy, FallbackResult
from auris.recognition.language_model import WeightedLanguageModel
from auris.recognition.recognizer import encode_requests, pass_size
from auris.recognition.requests import (
    ChunkRequest,
    ChunkResult,
    DecodedTokens,
    DecodeOptions,
    DecodeResult,
    timed,
)
from auris.recognition.scorers import TextScorers
from auris.recognition.segments import SegmentWriter
from auris.text.prompt import END_OF_TEXT, TURN_END, prompt_ids, reply_prefix
from auris.text.reply import Reply, ends_before_text, parse_reply
from auris.text.tokenizer import Tokenizer
from auris.types import Segment

DRAFT_LANGUAGE = "English"
"""Language of drafts when the model chooses the language; the CTC heads so far are English."""

FINAL_ROWS = 2
"""Rows of the batch that finishes a chunk of a stream: a fallback decodes two halves."""

PASS_SECONDS = 160.0
"""Audio that is encoded and prefilled at once. It bounds the memory, and how long a step takes."""

NO_LETTER = "\ufffd"
"""The replacement character, for bytes that are not a whole character."""


class QwenRecognizer:
    """A model with a decoder that answers the official prompt.

    Args:
        stops: ids that end a text; by default the tokenizer's own stop tokens.
        calibrations: map log-probabilities to confidences; without one, confidences are the
            probabilities.
        drafting: a CTC head over the same encoder, whose texts are drafts for the decoder, see
            `auris.decoding.drafts`; None makes no drafts.
        load_ctc: loads the CTC head that scores hypotheses of beam searches, or gives None; it is
            called at the first of them.
        lm: scores texts in the search; None for none.

    Raises:
        TokenizerError: the vocabulary lacks a control token.
        ConfigError: config and tokenizer disagree on the audio slot.
    """

    def __init__(
        self,
        backend: Backend,
        config: QwenAsrConfig,
        tokenizer: Tokenizer,
        stops: Iterable[int] | None = None,
        calibrations: Calibrations = NO_CALIBRATIONS,
        drafting: Backend | None = None,
        load_ctc: Callable[[], Backend | None] = lambda: None,
        lm: WeightedLanguageModel | None = None,
    ) -> None:
        self.backend = backend
        self.drafting = drafting
        self.ctc_head = cache(load_ctc)
        self.config = config
        self.tokenizer = tokenizer
        named = (tokenizer.id(END_OF_TEXT), tokenizer.id(TURN_END))
        self.stops = frozenset(named if stops is None else stops)
        check_vocabulary(config, tokenizer)
        self.scorers = TextScorers(tokenizer, lm)
        self.writer = SegmentWriter(tokenizer, self._reply, calibrations)
        self._no_speech_probe = _no_speech_probe_of(tokenizer)

    def with_window(self, backend: Backend, encoder: AutConfig) -> QwenRecognizer:
        other = copy(self)
        other.backend, other.config = backend, replace(self.config, encoder=encoder)
        return other

    def check(self, options: DecodeOptions) -> None:
        """Check that the context can be encoded, and that a language model has tokens to choose
        from; a model with a decoder supports all other options."""
        self.tokenizer.encode(options.context)
        lm = self.scorers.lm
        if lm is not None and not lm.by_default and options.sampling.temperature:
            raise UnsupportedOption(
                "A search with --lm takes the best tokens, and --temperature samples them",
                "both are given",
                "leave one of them out",
            )
        if self.drafting is not None and (options.beam_size > 1 or options.hotwords):
            raise UnsupportedOption(
                "--speculate ctc drafts texts that are decoded without a search",
                "--beam-size or --hotwords is given, too; the words of --context are hotwords of a "
                "model that reads none",
                "leave them out, or --speculate",
            )
        if options.aligner is not None:
            options.aligner.check(options.language)

    def batch(self, rows: int) -> QwenBatch:
        return QwenBatch(self, rows)

    def partial(self, result: DecodeResult) -> Segment:
        return self.writer.segment(result.request, FallbackResult((result,)), {}, partial=True)

    def final(self, result: DecodeResult) -> Segment:
        if result.silence_logprob is None:
            steps = decode(self.backend, self.prepare({0: result.request}, [{}]), self.stops)
            probes = (step.probe_logprob for step in steps if step.probe_logprob is not None)
            result = replace(result, silence_logprob=next(probes, None))
        batch = QwenBatch(self, FINAL_ROWS)
        done = batch.add_decoded(result)
        while not done:
            done = batch.step()
        return done[0].segment

    def prepare(
        self, requests: Mapping[int, ChunkRequest], timings: Sequence[dict[str, float]]
    ) -> list[Request]:
        """The decode requests of chunks: features, encoder, prompts, drafts.

        Args:
            requests: by the keys of their decode requests.
            timings: receive the times, one for each chunk.
        """
        encoded = encode_requests(self.backend, self.config, list(requests.values()), timings)
        prepared = []
        for (key, request), states, times in zip(requests.items(), encoded, timings, strict=True):
            with timed("prefill", times):
                options = request.options
                ids = prompt_ids(self.tokenizer, len(states), options.language, options.context)
                decode_request = self.search_request(key, request, ids, states)
                preamble = ids[: ids.index(self.config.audio_token_id)]
                prepared.append(replace(decode_request, preamble=tuple(preamble)))
        return prepared

    def search_request(
        self, key: int, request: ChunkRequest, ids: list[int], states: Tensor
    ) -> Request:
        """The decode request of a chunk, with a draft, a beam or hotwords.

        Args:
            ids: its prompt.
            states: encoder output [N, d_model].
        """
        options, prompt = request.options, self.backend.embed(ids, states)
        if not needs_search(options):
            return self.decode_request(key, request, prompt, self._draft(states, options))
        logits = None if request.encoded is None else request.encoded.logits
        ctc = self.ctc_head() if logits is None else None
        if ctc is not None:
            (logits,) = ctc.ctc_logits([states])
        hotwords = self.scorers.hotwords_of_reply(options, logits)
        plain = replace(self.decode_request(key, request, prompt), hotwords=hotwords)
        if options.beam_size == 1:
            return plain
        scorer = self.scorers.of_reply(options, logits)
        return replace(plain, beam_size=options.beam_size, scorer=scorer)

    def decode_request(
        self, key: int, request: ChunkRequest, prompt: Tensor, draft: tuple[int, ...] = ()
    ) -> Request:
        """The decode request, without a search, of a chunk whose audio is encoded already.

        Args:
            prompt: embeddings [L, hidden] of its prompt, without what a cache row has already.
            draft: guessed token ids of the text.
        """
        options = request.options
        prefixes = None
        if options.languages is not None:
            prefixes = tuple(reply_prefix(self.tokenizer, name) for name in options.languages)
        # Whether nobody speaks: the language "None"; the end of the text where one is forced.
        forced = Probe(0, tuple(sorted(self.stops)))
        return Request(
            key,
            prompt,
            options.max_new_tokens or token_budget(request.seconds),
            options.sampling,
            prefixes,
            allowed_prefixes=(reply_prefix(self.tokenizer, None),),
            share=request.share,
            probe=self._no_speech_probe if options.language is None else forced,
            cancelled=request.cancelled,
            draft=draft,
        )

    def _draft(self, states: Tensor, options: DecodeOptions) -> tuple[int, ...]:
        """The greedy text of the CTC head, whose units are the decoder's tokens."""
        if self.drafting is None or options.sampling.temperature:
            return ()
        (logits,) = self.drafting.ctc_logits([states])
        # The head does not identify the language. A wrong guess only costs speed.
        prefix = () if options.language else reply_prefix(self.tokenizer, DRAFT_LANGUAGE)
        return (*prefix, *greedy(logits, self.config.decoder.vocab).ids)

    def text(self, result: DecodeResult) -> str:
        """The text of a decoding."""
        return self._reply(result).text

    def _reply(self, result: DecodeResult) -> Reply:
        decoded = self.tokenizer.decode(result.text_tokens(self.tokenizer))
        language = result.request.options.language
        unfinished = result.reason in ("length", "cancelled")
        if unfinished and language is None and ends_before_text(decoded):
            return Reply(None, "")
        reply = parse_reply(decoded, language)
        # The first unit of a loop may end inside a character.
        cut = result.reason == "loop"
        return replace(reply, text=reply.text.rstrip(NO_LETTER)) if cut else reply


def needs_search(options: DecodeOptions) -> bool:
    """Whether several hypotheses of a text are followed."""
    return options.beam_size > 1 or bool(options.hotwords)


@dataclass
class _Decoding:
    """A decoding that waits or is active: the first one of a chunk, or one of its fallback."""

    request: ChunkRequest
    timings: dict[str, float]
    fallback: FallbackPolicy | None = None
    index: int = 0
    decoded: DecodedTokens = field(default_factory=DecodedTokens)


class QwenBatch:
    """Chunks in one decode loop. A fallback is decoded before chunks that were not begun."""

    def __init__(self, recognizer: QwenRecognizer, rows: int) -> None:
        self._recognizer = recognizer
        self._loop = DecodeLoop(recognizer.backend, recognizer.stops, rows)
        self._waiting: deque[_Decoding] = deque()
        self._active: dict[int, _Decoding] = {}
        self._keys = itertools.count()
        self._pending = 0

    @property
    def pending(self) -> int:
        return self._pending

    def has_room(self) -> bool:
        fits = self._loop.fits([decoding.request.share for decoding in self._waiting])
        return fits and len(self._waiting) < self._loop.free_rows

    def add(self, request: ChunkRequest) -> None:
        self._pending += 1
        self._waiting.append(_Decoding(request, {}))

    def add_decoded(self, result: DecodeResult) -> list[ChunkResult]:
        """Take a chunk whose first decoding was done elsewhere; returns its result if complete."""
        self._pending += 1
        return self._decoded(_Decoding(result.request, {}), result)

    def step(self) -> list[ChunkResult]:
        """Fill free rows, then do one pass over all rows."""
        done = self._begin()
        return done + self._record(self._loop.step())

    def _begin(self) -> list[ChunkResult]:
        """Encode and prefill chunks that wait, as many as there are rows and one pass takes."""
        requests = [decoding.request for decoding in self._waiting]
        size = pass_size(requests, PASS_SECONDS)
        while not self._loop.fits([request.share for request in requests[:size]]):
            size -= 1
        if size == 0:
            return []
        group = {next(self._keys): self._waiting.popleft() for _ in range(size)}
        prepared = self._recognizer.prepare(
            {key: decoding.request for key, decoding in group.items()},
            [decoding.timings for decoding in group.values()],
        )
        self._active.update(group)
        return self._record(self._loop.admit(prepared))

    def cancel(self) -> list[ChunkResult]:
        begun: dict[int, tuple[FallbackPolicy, dict[str, float]]] = {}
        waiting = [decoding for decoding in self._waiting if decoding.fallback is not None]
        for decoding in [*self._active.values(), *waiting]:
            first = decoding.decoded.result(decoding.request, "cancelled")
            fallback = decoding.fallback or FallbackPolicy(first, self._recognizer.text)
            begun[id(fallback)] = fallback, decoding.timings
        self._active.clear()
        self._waiting.clear()
        self._pending = 0
        return [self._result(policy, policy.cancel(), times) for policy, times in begun.values()]

    def _record(self, steps: Iterable[Step]) -> list[ChunkResult]:
        done = []
        for step in steps:
            decoding = self._active[step.key]
            stage = "prefill" if step.prefill else "decode"
            decoding.timings[stage] = decoding.timings.get(stage, 0.0) + step.seconds
            decoding.decoded.add(step)
            if step.finish is not None:
                del self._active[step.key]
                result = decoding.decoded.result(decoding.request, step.finish)
                done += self._decoded(decoding, result)
        return done

    def _decoded(self, decoding: _Decoding, result: DecodeResult) -> list[ChunkResult]:
        """A decoding is over: the chunk has its result, or its fallback goes on."""
        fallback = decoding.fallback
        if fallback is None:
            fallback = FallbackPolicy(result, self._recognizer.text)
        elif not fallback.add_result(decoding.index, result):
            return []
        for index, request in reversed(list(enumerate(fallback.requests))):
            self._waiting.appendleft(_Decoding(request, decoding.timings, fallback, index))
        if fallback.result is None:
            return []
        self._pending -= 1
        return [self._result(fallback, fallback.result, decoding.timings)]

    def _result(
        self, fallback: FallbackPolicy, result: FallbackResult, timings: dict[str, float]
    ) -> ChunkResult:
        request = fallback.first.request
        segment = self._recognizer.writer.segment(request, result, timings)
        return ChunkResult(request.key, segment, timings)


def _no_speech_probe_of(tokenizer: Tokenizer) -> Probe:
    """A probe for the first token in which the reply for no speech differs from one in English."""
    none, english = (tokenizer.encode(f"language {name}") for name in ("None", "English"))
    pairs = enumerate(zip(none, english, strict=False))
    position = next(n for n, (one, other) in pairs if one != other)
    return Probe(position, (none[position],))
