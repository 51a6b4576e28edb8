"""A run over a corpus: planned by whoever comes first, worked on by any number of processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import uuid4

from auris.errors import OutputError, UsageError
from auris.scale.leases import Clock, Lease, Leases, SystemClock
from auris.scale.plan import PLAN, Plan, Shard, read_plan, write_plan
from auris.scale.sources import units
from auris.scale.storage import Storage
from auris.scale.transcriber import ShardTranscriber
from auris.scale.worker import Worker, WorkerReport

SHARD_SECONDS = 3600.0
LEASE_SECONDS = 120.0

WRITE_TRIES = 3
"""How often the result of a shard is written before the shard is given back."""

WRITE_PAUSE = 2.0
"""Seconds between these tries."""

ISOLATED_FROM = 2
"""Generation of a lease from which recordings are decoded in another process: two workers have
ended on the shard by then."""


@dataclass(frozen=True)
class CorpusSettings:
    """How a corpus is read and divided.

    Attributes:
        source, source_format, column, headers: see `auris.scale.sources.units`.
        shard_seconds: audio of a shard.
        lease_seconds: how long a lease lasts without a heartbeat.

    Raises:
        UsageError: a number is impossible.
    """

    source: str
    source_format: str = "auto"
    column: str = "audio"
    headers: bool = False
    shard_seconds: float = SHARD_SECONDS
    lease_seconds: float = LEASE_SECONDS

    def __post_init__(self) -> None:
        for name in ("shard_seconds", "lease_seconds"):
            value = getattr(self, name)
            if not 0 < value < 1e9:
                raise UsageError(
                    f"--{name.replace('_', '-')} has to be above 0", f"it is {value}", "correct it"
                )

    def values(self) -> dict[str, object]:
        """What the plan depends on."""
        return {
            "input": self.source,
            "input_format": self.source_format,
            "audio_column": self.column,
            "headers": self.headers,
            "shard_seconds": self.shard_seconds,
        }


def worker_name() -> str:
    """A name that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"


def planned(
    storage: Storage,
    settings: CorpusSettings,
    values: dict[str, object],
    leases: Leases,
    clock: Clock,
    waiting: Callable[[int], None] | None = None,
) -> Plan:
    """The plan of a run; one process makes it, the others wait for it.

    Arguments as of `transcribe_corpus`.

    Raises:
        UsageError: the source is wrong, or the folder has the plan of another run.
        OutputError: the plan cannot be read or written.
    """
    run = {**values, **settings.values()}
    while (plan := read_plan(storage, run)) is None:
        listed = leases.listed()
        lease = leases.take_over(PLAN, listed[PLAN]) if PLAN in listed else leases.take(PLAN)
        if lease is None:
            if waiting is not None:
                waiting(0)
                waiting = None
            clock.sleep(min(1.0, settings.lease_seconds / 4))
            continue
        try:
            corpus = units(
                settings.source, settings.source_format, settings.column, settings.headers
            )
            return write_plan(storage, run, corpus, settings.shard_seconds)
        finally:
            leases.release(lease)
    return plan


def transcribe_corpus(
    transcriber: ShardTranscriber,
    output: str,
    settings: CorpusSettings,
    start: float = 0.0,
    stopped: Callable[[], bool] = lambda: False,
    begun: Callable[[Plan, int], None] | None = None,
    report: Callable[[Shard], None] | None = None,
    waiting: Callable[[int], None] | None = None,
    clock: Clock | None = None,
) -> WorkerReport:
    """Work on a corpus until it is finished, together with all processes that do the same.

    Args:
        transcriber: the model and its options.
        output: folder of the run, on any filesystem.
        settings: how the corpus is read and divided.
        start: where in the plan this process begins, from 0 to 1.
        stopped: whether to stop after the shard in progress.
        begun: called with the plan and the number of finished shards.
        report: called after every shard that this process finished.
        waiting: called with the number of shards of other processes when only those are left; with
            0 while another process plans the run.

    Raises:
        UsageError: the source is wrong, or the folder has another run.
        OutputError: the plan cannot be read or written.
    """
    clock = SystemClock() if clock is None else clock
    storage = Storage(output)
    leases = Leases(storage, worker_name(), settings.lease_seconds, clock)
    try:
        plan = planned(storage, settings, transcriber.values(), leases, clock, waiting)
        if begun is not None:
            begun(plan, len(plan.finished()))

        def work(shard: Shard, lease: Lease, last: bool) -> None:
            isolated = lease.generation >= ISOLATED_FROM
            data = transcriber.result(plan.units(shard), isolated, last)
            put_result(storage, shard, data, clock)

        worker = Worker(plan.shards, plan, leases, work, clock, start, report, waiting)
        return worker.run(stopped)
    finally:
        leases.close()


def put_result(storage: Storage, shard: Shard, data: bytes, clock: Clock) -> None:
    """Write the result of a shard; an upload that fails is repeated.

    Raises:
        OutputError: it cannot be written; the shard is not finished.
    """
    for number in range(1, WRITE_TRIES + 1):
        try:
            storage.put(shard.result, data)
            return
        except OutputError:
            if number == WRITE_TRIES:
                raise
            clock.sleep(WRITE_PAUSE)


def merged_lines(plan: Plan, partial: bool = False) -> Iterable[bytes]:
    """The lines of all results, in the order of the plan.

    Raises:
        UsageError: shards are not finished, and `partial` is false.
    """
    finished = plan.finished()
    missing = sum(shard.name not in finished for shard in plan.shards)
    if missing and not partial:
        raise UsageError(
            "Results are merged when all shards are finished",
            f"{missing} of {len(plan.shards)} are not",
            "wait, or add --partial for those that are",
        )
    return _lines(plan, finished)


def _lines(plan: Plan, finished: set[str]) -> Iterable[bytes]:
    for shard in plan.shards:
        if shard.name in finished:
            yield from (plan.storage.read(shard.result) or b"").splitlines(keepends=True)
