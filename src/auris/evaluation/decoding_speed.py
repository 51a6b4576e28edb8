"""Tokens a second of many rows and behind drafts, and what a step of a stream takes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from auris.backends.base import best_of
from auris.decoding.drafts import MAX_DRAFT_TOKENS
from auris.decoding.loop import DecodeRow, Request, advance
from auris.diagnostics.parity import noise_clip
from auris.evaluation.limits import Machine, step_work
from auris.evaluation.speed import MeasuredEngine
from auris.types import SAMPLE_RATE

__all__ = ["BatchSpeed", "DraftSpeed", "StreamSpeed", "batches", "drafted", "streamed"]

WRONG_EVERY = 5
"""One in so many tokens of a draft is wrong."""

STREAM_TOKENS = 20
"""Tokens decoded in a step of a stream, at most: what 5 s of speech have, about."""


@dataclass(frozen=True)
class BatchSpeed:
    """Decoding of several rows at once.

    Attributes:
        model: whose it is, with its dtype.
        rows: how many.
        position: positions that each row holds.
        tokens_per_second: of all rows together.
        limit: the same by the machine's measured rates.
    """

    model: str
    rows: int
    position: int
    tokens_per_second: float
    limit: float


@dataclass(frozen=True)
class DraftSpeed:
    """Decoding behind a draft that is wrong now and then.

    Attributes:
        model: whose it is, with its dtype.
        tokens: decoded.
        guessed, accepted: tokens that drafts put forward, and those of them that were right.
        same: whether the tokens are those of plain decoding.
        tokens_per_second, plain_per_second: with the draft and without.
    """

    model: str
    tokens: int
    guessed: int
    accepted: int
    same: bool
    tokens_per_second: float
    plain_per_second: float

    @property
    def acceptance(self) -> float:
        """Share of the guesses that were right."""
        return self.accepted / max(self.guessed, 1)


@dataclass(frozen=True)
class StreamSpeed:
    """Steps of a live stream of noise.

    Attributes:
        model: whose it is, with its dtype.
        seconds: of the stream.
        steps: how many there were.
        step_seconds, longest_seconds: median and longest time of one.
    """

    model: str
    seconds: float
    steps: int
    step_seconds: float
    longest_seconds: float


def batches(
    engine: MeasuredEngine, rows: Sequence[int], seconds: float, tokens: int, machine: Machine
) -> Iterator[BatchSpeed]:
    """Tokens a second of batches of clips of one length; prompts are read before the clock runs.

    Args:
        engine: the model.
        rows: how many rows each batch has.
        seconds: length of the clip of noise.
        tokens: to decode in every row.
        machine: whose clock and rates count.
    """
    prompt = engine.heard(noise_clip(seconds))
    for count in rows:
        cache = engine.backend.new_cache(count, len(prompt) + tokens)
        for _ in range(count):
            row = engine.backend.admit(cache)
            engine.backend.extend(cache, [prompt], row)
        steps, last = [], [[0]] * count
        for _ in range(tokens):
            began = machine.now()
            last = [[choice.token] for choice in engine.backend.best(cache, last)]
            steps.append(machine.now() - began)
        position = len(prompt) + tokens // 2
        limit = machine.seconds(
            step_work(engine.config.decoder, count, position, engine.dtype), engine.dtype
        )
        yield BatchSpeed(
            engine.name, count, position, count / statistics.median(steps), count / limit
        )


def drafted(engine: MeasuredEngine, seconds: float, tokens: int, machine: Machine) -> DraftSpeed:
    """Decode as it comes, and again behind what came, a fifth of it made wrong.

    Arguments as of `batches`.
    """
    prompt = engine.heard(noise_clip(seconds))
    plain, guessed, _, plain_seconds = _decode(engine, prompt, tokens, (), machine)
    draft = tuple(
        token + 1 if place % WRONG_EVERY == WRONG_EVERY - 1 else token
        for place, token in enumerate(plain)
    )
    found, guessed, accepted, took = _decode(engine, prompt, tokens, draft, machine)
    return DraftSpeed(
        engine.name,
        len(found),
        guessed,
        accepted,
        found == plain,
        len(found) / took,
        len(plain) / plain_seconds,
    )


def _decode(
    engine: MeasuredEngine, prompt: Tensor, tokens: int, draft: tuple[int, ...], machine: Machine
) -> tuple[list[int], int, int, float]:
    """Tokens, how many were guessed and how many of these were right, and seconds."""
    cache = engine.backend.new_cache(1, len(prompt) + tokens + MAX_DRAFT_TOKENS)
    engine.backend.admit(cache)
    scores = engine.backend.extend(cache, [prompt])[0, -1:]
    row = DecodeRow(Request(0, prompt, tokens, draft=draft), None)
    steps = [row.record(None, best_of(scores)[0], (), 0.0, True)]
    guessed = accepted = 0
    began = machine.now()
    while steps[-1].finish is None:
        guessed += len(row.draft.ahead())
        (more,) = advance(engine.backend, cache, [row], ())
        accepted += len(more) - 1
        steps += more
    took = machine.now() - began
    return [step.token for step in steps if step.token is not None], guessed, accepted, took


def streamed(engine: MeasuredEngine, seconds: float, machine: Machine) -> StreamSpeed:
    """Feed a stream of noise and time what it does at every step.

    Arguments as of `batches`.
    """
    session = engine.pipeline.stream(max_new_tokens=STREAM_TOKENS)
    samples, block = noise_clip(seconds), SAMPLE_RATE // 10
    steps = []
    for first in range(0, len(samples), block):
        began = machine.now()
        if session.feed(samples[first : first + block]):
            steps.append(machine.now() - began)
    session.close()
    return StreamSpeed(engine.name, seconds, len(steps), statistics.median(steps), max(steps))
