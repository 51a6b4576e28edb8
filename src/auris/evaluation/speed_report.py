"""The benchmark of speed as a whole: its plan, its parts in order, and its table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
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
from auris.evaluation.speed import MeasuredEngine, Stage, compare
from auris.recognition.load import use_threads

__all__ = ["PARTS", "SpeedPlan", "measure"]

PARTS = ("stages", "decoding", "start")
"""Stages of whole clips; batches, drafts and streams; cold starts and memory."""


@dataclass(frozen=True)
class SpeedPlan:
    """What is measured.

    Attributes:
        models: directories, names or hub ids of Qwen3-ASR models; peers take the first one.
        seconds: lengths of the clips.
        tokens: decoded of every clip.
        dtypes: of ours, as for `auris transcribe`.
        peers: names of `auris.evaluation.peers.PEERS`.
        batch: rows decoded at once.
        runs: counted runs of each part.
        threads: of the processor, or None for torch's own choice.
        clock: one of `auris.evaluation.limits.CLOCKS`; cold starts are by the wall's.
        parts: which of `PARTS` are measured.
    """

    models: Sequence[str]
    seconds: Sequence[float]
    tokens: int
    dtypes: Sequence[str]
    peers: Sequence[str]
    batch: Sequence[int]
    runs: int
    threads: int | None
    clock: str = "wall"
    parts: Sequence[str] = PARTS

    def __post_init__(self) -> None:
        if self.clock not in CLOCKS or (self.clock == "processor" and self.threads != 1):
            raise UsageError(
                f"The clock has to be {' or '.join(CLOCKS)}, the processor's with one thread only",
                f"{self.clock!r} was asked with {self.threads or 'no given number of'} threads",
                "choose wall, or add --threads 1",
            )
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise UsageError(
                f"The parts are {', '.join(PARTS)}",
                f"{','.join(self.parts) or 'none'} was asked",
                "choose among these",
            )

    def combinations(self) -> Iterator[tuple[str, str]]:
        """Every model in every dtype."""
        return product(self.models, self.dtypes)


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
    summary.update(models=[*plan.models], tokens=plan.tokens, runs=plan.runs, clock=plan.clock)
    parts = {"stages": _stages, "decoding": _decodings, "start": _starts}
    for part in PARTS:
        if part in plan.parts:
            yield from parts[part](plan, machine, summary)
    summary["machine"] = machine.to_dict()
    yield _machine_line(machine)


def _stages(plan: SpeedPlan, machine: Machine, summary: dict[str, Any]) -> Iterator[str]:
    """Stages of all models and peers, and what each takes beside the first peer."""
    stages = []
    yield f"{'clip s':>7} {'stage':<8} {'ms':>10} {'limit ms':>10} {'multiple':>9}  model"
    for stage in compare(
        plan.models,
        plan.seconds,
        plan.tokens,
        plan.runs,
        machine,
        plan.dtypes,
        plan.peers,
        device="cpu",
    ):
        stages.append(stage)
        yield _stage_line(stage)
    summary["stages"] = [{**asdict(stage), "multiple": stage.multiple} for stage in stages]
    summary["ratios"] = []
    totals = [stage for stage in stages if stage.stage == "total"]
    for peer in totals:
        if peer.model.split()[0] not in plan.peers:
            continue
        for one in totals:
            if one.clip == peer.clip and one.model.split()[0] not in plan.peers:
                ratio = peer.seconds / one.seconds
                row = {"clip": one.clip, "model": one.model, "peer": peer.model, "ratio": ratio}
                summary["ratios"].append(row)
                yield f"{one.clip:>7g} {ratio:.2f} times as fast as {peer.model}: {one.model}"


def _decodings(plan: SpeedPlan, machine: Machine, summary: dict[str, Any]) -> Iterator[str]:
    summary["batches"], summary["drafts"], summary["streams"] = [], [], []
    if plan.batch:
        yield f"{'rows':>7} {'at position':<12} {'tokens/s':>9} {'limit':>9} {'times':>6}  model"
    for model, dtype in plan.combinations():
        yield from _decoding(plan, MeasuredEngine(model, dtype, device="cpu"), machine, summary)


def _starts(plan: SpeedPlan, machine: Machine, summary: dict[str, Any]) -> Iterator[str]:
    """Cold starts, and the memory of whole commands."""
    summary["cold"], summary["memory"] = [], []
    for model in plan.models:
        for cold in cold_start(model, plan.dtypes, plan.runs, machine.threads):
            summary["cold"].append(asdict(cold))
            yield _cold_line(cold)
    longest = max(plan.seconds)
    for model, dtype in plan.combinations():
        memory = memory_of(model, dtype, longest, plan.tokens, machine.threads)
        summary["memory"].append({"model": model, "dtype": dtype, **asdict(memory)})
        yield (
            f"memory over {longest:g} s: peak {memory.peak_gb:.2f} GB, resident in the end "
            f"{memory.resident_gb:.2f} GB  {model} {dtype}"
        )


def _decoding(
    plan: SpeedPlan, engine: MeasuredEngine, machine: Machine, summary: dict[str, Any]
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
