#!/usr/bin/env python3
"""Tokens a second of several rows and with drafts, and the time of a step of a stream."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

import typer
from torch import Tensor

from auris.backends.base import best_of
from auris.cli.benchmark import names
from auris.cli.options import (
    ClipTokens,
    Dtypes,
    Models,
    Threads,
    models_or_default,
)
from auris.cli.table import Table, write_json
from auris.cli.values import numbers
from auris.decoding.drafts import MAX_DRAFT_TOKENS
from auris.decoding.loop import DecodeRow, advance
from auris.decoding.requests import Request
from auris.diagnostics.parity import noise_clip
from auris.evaluation.speed import MeasuredModel
from auris.types import SAMPLE_RATE
from command_line import run_command
from roofline import Clock, Machine, step_work

__all__ = ["BatchSpeed", "DraftSpeed", "StreamSpeed", "batches", "drafted", "streamed"]

WRONG_EVERY = 5
"""One in so many tokens of a draft is wrong."""

STREAM_TOKENS = 20
"""Most tokens decoded in a step of a stream: about what 5 s of speech have."""


@dataclass(frozen=True)
class BatchSpeed:
    """Decoding of several rows at once.

    Attributes:
        model: name and dtype.
        rows: their number.
        position: positions that each row has in the cache.
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
    """Decoding with a draft that is wrong now and then.

    Attributes:
        model: name and dtype.
        tokens: decoded.
        guessed, accepted: tokens of the drafts, and those of them that were right.
        same: whether the tokens are those of plain decoding.
        tokens_per_second, plain_per_second: with the draft and without.
        acceptance: share of the guesses that were right.
    """

    model: str
    tokens: int
    guessed: int
    accepted: int
    same: bool
    tokens_per_second: float
    plain_per_second: float
    acceptance: float


@dataclass(frozen=True)
class StreamSpeed:
    """Steps of a live stream of noise.

    Attributes:
        model: name and dtype.
        seconds: length of the stream.
        steps: their number.
        step_seconds, late_seconds, longest_seconds: median, 95th percentile and longest time of
            one.
    """

    model: str
    seconds: float
    steps: int
    step_seconds: float
    late_seconds: float
    longest_seconds: float


def batches(
    model: MeasuredModel, rows: Iterable[int], seconds: float, tokens: int, machine: Machine
) -> Iterator[BatchSpeed]:
    """Tokens a second of batches of clips of one length; the prefill is not counted.

    Args:
        model: the model.
        rows: sizes of the batches.
        seconds: length of the clip of noise.
        tokens: to decode in every row.
        machine: its clock and rates.
    """
    prompt = model.prompt(noise_clip(seconds))
    for count in rows:
        cache = model.backend.new_cache(count, len(prompt) + tokens)
        for _ in range(count):
            row = model.backend.admit(cache)
            model.backend.extend(cache, [prompt], row)
        steps, last = [], [[0]] * count
        for _ in range(tokens):
            began = machine.now()
            last = [[choice.token] for choice in model.backend.best(cache, last)]
            steps.append(machine.now() - began)
        position = len(prompt) + tokens // 2
        work = step_work(model.config.decoder, count, position, model.dtype)
        limit = count / machine.seconds(work, model.dtype)
        yield BatchSpeed(model.name, count, position, count / statistics.median(steps), limit)


def drafted(model: MeasuredModel, seconds: float, tokens: int, machine: Machine) -> DraftSpeed:
    """Decode without a draft, and again with the resulting tokens, a fifth made wrong, as a draft.

    Arguments as of `batches`.
    """
    prompt = model.prompt(noise_clip(seconds))
    plain, guessed, _, plain_seconds = _decode(model, prompt, tokens, (), machine)
    draft = tuple(
        token + 1 if index % WRONG_EVERY == WRONG_EVERY - 1 else token
        for index, token in enumerate(plain)
    )
    with_draft, guessed, accepted, spent = _decode(model, prompt, tokens, draft, machine)
    return DraftSpeed(
        model.name,
        len(with_draft),
        guessed,
        accepted,
        with_draft == plain,
        len(with_draft) / spent,
        len(plain) / plain_seconds,
        accepted / max(guessed, 1),
    )


def _decode(
    model: MeasuredModel, prompt: Tensor, tokens: int, draft: tuple[int, ...], machine: Machine
) -> tuple[list[int], int, int, float]:
    """Tokens, how many were guessed and how many of these were right, and seconds."""
    cache = model.backend.new_cache(1, len(prompt) + tokens + MAX_DRAFT_TOKENS)
    model.backend.admit(cache)
    scores = model.backend.extend(cache, [prompt])[0, -1:]
    row = DecodeRow(Request(0, prompt, tokens, draft=draft), None)
    steps = [row.record(None, best_of(scores)[0], (), 0.0, True)]
    guessed = accepted = 0
    began = machine.now()
    while steps[-1].finish is None:
        guessed += len(row.draft.ahead())
        (more,) = advance(model.backend, cache, [row], ())
        accepted += len(more) - 1
        steps += more
    spent = machine.now() - began
    return [step.token for step in steps if step.token is not None], guessed, accepted, spent


def streamed(model: MeasuredModel, seconds: float, machine: Machine) -> StreamSpeed:
    """Feed a stream of noise and time its steps. Arguments as of `batches`."""
    session = model.pipeline.stream(max_new_tokens=STREAM_TOKENS)
    samples, block = noise_clip(seconds), SAMPLE_RATE // 10
    steps = []
    for first in range(0, len(samples), block):
        began = machine.now()
        if session.feed(samples[first : first + block]):
            steps.append(machine.now() - began)
    session.close()
    late = sorted(steps)[int(0.95 * len(steps))]
    median, longest = statistics.median(steps), max(steps)
    return StreamSpeed(model.name, seconds, len(steps), median, late, longest)


def decoding_speed(
    model: Models = None,
    seconds: Annotated[
        float, typer.Option(min=1, max=1200, help="Length of the clip of noise.")
    ] = 10.0,
    tokens: ClipTokens = 100,
    batch: Annotated[
        str, typer.Option(help="Numbers of rows decoded at once, separated by commas.")
    ] = "1,4,16",
    dtype: Dtypes = "auto",
    threads: Threads = None,
    clock: Clock = "wall",
) -> None:
    """Measure tokens a second of Qwen3-ASR models on the CPU: of several rows, and with drafts of
    which a fifth is wrong; and the time of a step of a live stream.

    Weights may be random. The last line is JSON.
    """
    machine = Machine(clock, threads)
    formats = {"rows": ">7", "at position": "<12", "tokens/s": ">9.1f", "limit": ">9.1f"}
    table = Table("model", formats | {"times": ">6.2f"})
    rows, drafts, streams = [], [], []
    for name in models_or_default(model):
        for one in names(dtype):
            measured = MeasuredModel(name, dtype=one, device="cpu")
            first = 0.0
            for size in batches(
                measured, map(int, numbers("--batch", batch)), seconds, tokens, machine
            ):
                rows.append(size)
                first = first or size.tokens_per_second
                rates = (size.tokens_per_second, size.limit, size.tokens_per_second / first)
                table.row(size.model, size.rows, size.position, *rates)
            draft = drafted(measured, seconds, tokens, machine)
            drafts.append(draft)
            typer.echo(
                f"drafts: {draft.accepted} of {draft.guessed} guesses accepted "
                f"({100 * draft.acceptance:.0f} %), {draft.tokens_per_second:.1f} tokens/s instead "
                f"of {draft.plain_per_second:.1f}, {'the same' if draft.same else 'ANOTHER'} text  "
                f"{draft.model}"
            )
            stream = streamed(measured, seconds, machine)
            streams.append(stream)
            typer.echo(
                f"a step of a stream: {1e3 * stream.step_seconds:.0f} ms, 95 % in "
                f"{1e3 * stream.late_seconds:.0f}, at most {1e3 * stream.longest_seconds:.0f} "
                f"({stream.steps} in {stream.seconds:g} s)  "
                f"{stream.model}"
            )
    typer.echo(str(machine))
    summary = {"batches": rows, "drafts": drafts, "streams": streams}
    write_json(summary | {"tokens": tokens, "clock": clock, "machine": machine.to_dict()})


if __name__ == "__main__":
    run_command(decoding_speed)
