"""The benchmark of speed as a whole: its plan, its parts in order, and its table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from auris.errors import UsageError
from auris.evaluation.cold import Cold, cold_start, memory_of
from auris.evaluation.decoding_speed import (
    BatchSpeed,
    DraftSpeed,
    StreamSpeed,
    batches,
    drafted,
    streamed,
)
from auris.evaluation.limits import CLOCKS, Machine
from auris.evaluation.speed import Engine, Stage, compare
from auris.loading import use_threads

__all__ = ["SpeedPlan", "measure"]


@dataclass(frozen=True)
class SpeedPlan:
    """What is measured.

    Attributes:
        model: directory, name or hub id of a Qwen3-ASR model.
        seconds: lengths of the clips.
        tokens: decoded of every clip.
        dtypes: of ours, as for `auris transcribe`.
        peers: names of `auris.evaluation.peers.PEERS`.
        batch: rows decoded at once.
        runs: counted runs of each part.
        threads: of the processor, or None for torch's own choice.
        clock: one of `auris.evaluation.limits.CLOCKS`; cold starts are by the wall's.
    """

    model: str
    seconds: Sequence[float]
    tokens: int
    dtypes: Sequence[str]
    peers: Sequence[str]
    batch: Sequence[int]
    runs: int
    threads: int | None
    clock: str = "wall"

    def __post_init__(self) -> None:
        if self.clock not in CLOCKS or (self.clock == "processor" and self.threads != 1):
            raise UsageError(
                f"The clock has to be {' or '.join(CLOCKS)}, the processor's with one thread only",
                f"{self.clock!r} was asked with {self.threads or 'no given number of'} threads",
                "choose wall, or add --threads 1",
            )


def measure(plan: SpeedPlan, summary: dict[str, Any]) -> Iterator[str]:
    """Measure and tell, line by line.

    Args:
        plan: what.
        summary: takes the figures, plain JSON values, as they come.

    Raises:
        AurisError: the model cannot be measured.
    """
    use_threads(plan.threads)
    machine = Machine(plan.clock)
    summary.update(model=plan.model, tokens=plan.tokens, runs=plan.runs, clock=plan.clock)
    stages = []
    yield f"{'clip s':>7} {'stage':<8} {'ms':>10} {'limit ms':>10} {'multiple':>9}  model"
    for stage in compare(
        plan.model,
        plan.seconds,
        plan.tokens,
        plan.runs,
        machine,
        plan.dtypes,
        plan.peers,
        device="cpu",
    ):
        stages.append({**asdict(stage), "multiple": stage.multiple})
        yield _stage_line(stage)
    summary["stages"] = stages
    summary["machine"] = machine.to_dict()
    yield _machine_line(machine)
    summary["batches"] = []
    if plan.batch:
        yield f"{'rows':>7} {'at position':<12} {'tokens/s':>9} {'limit':>9} {'times':>6}  model"
    summary["drafts"], summary["streams"] = [], []
    for dtype in plan.dtypes:
        yield from _decoding(plan, Engine(plan.model, dtype, device="cpu"), machine, summary)
    colds = cold_start(plan.model, plan.dtypes, plan.runs, machine.threads)
    summary["cold"] = [asdict(cold) for cold in colds]
    for cold in colds:
        yield _cold_line(cold)
    longest = max(plan.seconds)
    summary["peak_gb"], summary["resident_gb"] = {}, {}
    for dtype in plan.dtypes:
        memory = memory_of(plan.model, dtype, longest, plan.tokens, machine.threads)
        summary["peak_gb"][dtype] = memory.peak_gb
        summary["resident_gb"][dtype] = memory.resident_gb
        yield (
            f"memory over {longest:g} s: peak {memory.peak_gb:.2f} GB, resident in the end "
            f"{memory.resident_gb:.2f} GB  {plan.model} {dtype}"
        )


def _decoding(
    plan: SpeedPlan, engine: Engine, machine: Machine, summary: dict[str, Any]
) -> Iterator[str]:
    """Batches, drafts and a stream of one model."""
    shortest = min(plan.seconds)
    first: BatchSpeed | None = None
    for one in batches(engine, plan.batch, shortest, plan.tokens, machine):
        first = first or one
        summary["batches"].append(asdict(one))
        yield _batch_line(one, first)
    draft = drafted(engine, shortest, plan.tokens, machine)
    summary["drafts"].append({**asdict(draft), "acceptance": draft.acceptance})
    yield _draft_line(draft)
    stream = streamed(engine, shortest, machine)
    summary["streams"].append(asdict(stream))
    yield _stream_line(stream)


def _machine_line(machine: Machine) -> str:
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in machine.gflops.items())
    return f"{machine.threads} threads, {machine.gb_per_second:.1f} GB/s, GFLOP/s: {rates}"


def _stage_line(stage: Stage) -> str:
    limit = "-" if stage.limit is None else f"{1e3 * stage.limit:.1f}"
    multiple = "-" if stage.multiple is None else f"{stage.multiple:.2f}"
    return (
        f"{stage.clip:>7g} {stage.stage:<8} {1e3 * stage.seconds:>10.1f} {limit:>10} "
        f"{multiple:>9}  {stage.model}"
    )


def _batch_line(one: BatchSpeed, first: BatchSpeed) -> str:
    times = one.tokens_per_second / first.tokens_per_second
    return (
        f"{one.rows:>7} {one.position:<12} {one.tokens_per_second:>9.1f} {one.limit:>9.1f} "
        f"{times:>6.2f}  {one.model}"
    )


def _draft_line(one: DraftSpeed) -> str:
    same = "the same text" if one.same else "ANOTHER TEXT"
    return (
        f"drafts: {one.accepted} of {one.guessed} guesses accepted ({100 * one.acceptance:.0f} %), "
        f"{one.tokens_per_second:.1f} tokens/s instead of {one.plain_per_second:.1f}, {same}  "
        f"{one.model}"
    )


def _stream_line(one: StreamSpeed) -> str:
    return (
        f"a step of a stream: {1e3 * one.step_seconds:.0f} ms, at most "
        f"{1e3 * one.longest_seconds:.0f} ({one.steps} in {one.seconds:g} s)  {one.model}"
    )


def _cold_line(cold: Cold) -> str:
    more = cold.first_token_seconds - cold.torch_seconds
    return (
        f"cold start to the first token of 2 s: {cold.first_token_seconds:.2f} s, "
        f"{more:+.2f} s beside import torch; {cold.peak_gb:.2f} GB  {cold.model}"
    )
