#!/usr/bin/env python3
"""The lease protocol of `auris batch --input` with many workers, in simulated time.

The code of the package runs, `Leases` and `Worker`, over a simulated storage and clock: every
operation takes time, workers crash and come back, disks stall for longer than a lease lasts, and
the clocks of workers differ in their time and their rate. One thread runs at a time, so a run
depends on its seed alone.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Annotated

import typer

from auris.cli.declare import option
from auris.cli.table import write_json
from auris.errors import OutputError
from auris.scale.leases import FOLDER, Lease, Leases
from auris.scale.plan import RESULTS, Shard
from auris.scale.worker import Worker
from command_line import run_command

__all__ = ["Conditions", "Outcome", "simulate"]

STACK_BYTES = 1 << 18


@dataclass(frozen=True)
class Conditions:
    """What is simulated; times are in seconds.

    Attributes:
        workers, shards: how many.
        shard_seconds: mean time of work on a shard.
        lease_seconds: how long a lease lasts.
        latency: mean time of an operation of the storage.
        stall_share: share of operations that take up to twice as long as a lease lasts.
        failure_share: share of operations that fail.
        crash_seconds: mean time between crashes of a worker.
        restart_seconds: time after which a worker that crashed comes back.
        drift: largest deviation of the rate of a clock.
        seed: of all random numbers.
        most_seconds: simulated time after which everything ends, finished or not.
    """

    workers: int = 1000
    shards: int = 4000
    shard_seconds: float = 600.0
    lease_seconds: float = 120.0
    latency: float = 0.05
    stall_share: float = 0.0005
    failure_share: float = 0.001
    crash_seconds: float = 7200.0
    restart_seconds: float = 300.0
    drift: float = 0.01
    seed: int = 0
    most_seconds: float = 1e6


@dataclass
class Outcome:
    """What happened.

    Attributes:
        finished: shards with a result.
        wrong: results that are not those of one undisturbed worker.
        crashes: workers that ended in the middle of something.
        stalls: operations that took longer than a lease lasts.
        repeated: shards that were worked on to their end once more than needed.
        abandoned: works on shards that a crash ended.
        wasted_share: time of repeated and abandoned work, as a share of that which was needed.
        seconds: simulated time until the last result.
        ideal_seconds: the same without crashes, waiting and storage.
        operations: of the storage, by kind.
        most_a_second: largest number of operations in one second.
    """

    finished: int = 0
    wrong: int = 0
    crashes: int = 0
    stalls: int = 0
    repeated: int = 0
    abandoned: int = 0
    wasted_share: float = 0.0
    seconds: float = 0.0
    ideal_seconds: float = 0.0
    operations: dict[str, int] = field(default_factory=dict)
    most_a_second: int = 0


class _Crash(BaseException):
    """Ends the threads of a worker that crashes."""


class _Process:
    """A thread that runs when the simulation lets it."""

    def __init__(self, simulation: _Simulation, run: Callable[[], None], owner: _Owner) -> None:
        self.owner = owner
        self._simulation, self._run = simulation, run
        self.turn = threading.Semaphore(0)
        self.thread = threading.Thread(target=self._main, daemon=True)
        self.thread.start()
        simulation.at(0.0, self)

    def wait(self, seconds: float) -> None:
        """Let others run for so long."""
        self._check()
        self._simulation.at(seconds, self)
        self._simulation.baton.release()
        self.turn.acquire()
        self._check()

    def _check(self) -> None:
        if self.owner.crashed or self._simulation.over:
            raise _Crash

    def _main(self) -> None:
        _LOCAL.process = self
        self.turn.acquire()
        try:
            self._check()
            self._run()
        except _Crash:
            pass
        finally:
            self._simulation.baton.release()


_LOCAL = threading.local()


class _Simulation:
    """Processes and what they wait for, in the order of time.

    At `most_seconds` all of them end.
    """

    def __init__(self, most_seconds: float) -> None:
        self.time = 0.0
        self.over = False
        self._most_seconds = most_seconds
        self.baton = threading.Semaphore(0)
        self._queue: list[tuple[float, int, _Process]] = []
        self._count = 0

    def at(self, seconds: float, process: _Process) -> None:
        """Let a process run so many seconds from now."""
        self._count += 1
        heapq.heappush(self._queue, (self.time + seconds, self._count, process))

    def run(self) -> None:
        """Run until no process waits."""
        while self._queue:
            self.time, _, process = heapq.heappop(self._queue)
            self.over = self.over or self.time > self._most_seconds
            process.turn.release()
            self.baton.acquire()

    def wait(self, seconds: float) -> None:
        """Let the running process wait."""
        process: _Process = _LOCAL.process
        process.wait(seconds)


class _Owner:
    """What processes belong to; they end when it crashes."""

    def __init__(self) -> None:
        self.crashed, self.crashed_at = False, 0.0


class _Machine(_Owner):
    """A worker with its own clock; it crashes at a time that is drawn when it begins."""

    def __init__(self, world: _World, number: int) -> None:
        self._world, self._simulation = world, world.simulation
        super().__init__()
        drift = world.conditions.drift
        self._rate = 1 + world.random.uniform(-drift, drift)
        self._offset = world.random.uniform(-1e6, 1e6)
        self.number = number
        _Process(self._simulation, self._work, self)

    def now(self) -> float:
        """The time of this machine's clock."""
        return self._offset + self._rate * self._simulation.time

    def sleep(self, seconds: float) -> None:
        """Wait so many seconds of this machine's clock."""
        self._simulation.wait(seconds / self._rate)

    def start(self, function: Callable[[], None]) -> None:
        """Run a function in another process of this machine."""
        _Process(self._simulation, function, self)

    def lock(self) -> AbstractContextManager[object]:
        """A lock between the processes of this machine."""
        return _Lock(self._simulation)

    def _work(self) -> None:
        world = self._world
        name = f"worker-{self.number}-{world.random.random()}"
        world.crash_later(self)
        leases = Leases(world, name, world.conditions.lease_seconds, self)
        start = self.number / world.conditions.workers
        worker = Worker(world.shards, world, leases, world.work, self, start)
        try:
            worker.run(lambda: False)
        finally:
            leases.close()


class _Lock:
    """A lock between processes: they look again and again whether it is free."""

    def __init__(self, simulation: _Simulation) -> None:
        self._simulation = simulation
        self._taken = False

    def __enter__(self) -> None:
        while self._taken:
            self._simulation.wait(0.01)
        self._taken = True

    def __exit__(self, *error: object) -> None:
        self._taken = False


class _World:
    """The storage of all workers, their shards, and what happens to them."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.simulation = _Simulation(conditions.most_seconds)
        self.random = random.Random(conditions.seed)
        self.outcome = Outcome()
        self.shards = [Shard(f"{number:06}", 0, 0, 1, 1.0) for number in range(conditions.shards)]
        spread = self.random.uniform
        self.needed = {s.name: conditions.shard_seconds * spread(0.5, 1.5) for s in self.shards}
        self.objects: dict[str, bytes] = {}
        self._folders: dict[str, dict[str, None]] = {FOLDER: {}, RESULTS: {}}
        self._second, self._in_second = 0, 0
        self._wasted = 0.0
        self._ended: Counter[str] = Counter()

    def _operate(self, kind: str) -> None:
        """Take the time of one operation; it may stall, or fail."""
        outcome, conditions = self.outcome, self.conditions
        outcome.operations[kind] = outcome.operations.get(kind, 0) + 1
        second = int(self.simulation.time)
        self._in_second = self._in_second + 1 if second == self._second else 1
        self._second = second
        outcome.most_a_second = max(outcome.most_a_second, self._in_second)
        seconds = self.random.expovariate(1 / conditions.latency)
        if self.random.random() < conditions.stall_share:
            seconds = self.random.uniform(0, 2) * conditions.lease_seconds
            outcome.stalls += seconds > conditions.lease_seconds
        self.simulation.wait(seconds)
        if self.random.random() < conditions.failure_share:
            raise OutputError("The storage fails", "", "wait")

    def read(self, name: str) -> bytes | None:
        """As of `Storage`, and so the following methods."""
        self._operate("get")
        return self.objects.get(name)

    def exists(self, name: str) -> bool:
        self._operate("head")
        return name in self.objects

    def names(self, folder: str) -> list[str]:
        for _ in range(1 + len(self._folders[folder]) // 1000):
            self._operate("list")
        return list(self._folders[folder])

    def put(self, name: str, data: bytes) -> None:
        self._operate("put")
        self._write(name, data)
        self.simulation.wait(self.conditions.latency)

    def create(self, name: str, data: bytes) -> bool:
        self._operate("create")
        if name in self.objects:
            return False
        self._write(name, data)
        self.simulation.wait(self.conditions.latency)
        return True

    def remove(self, name: str) -> None:
        self._operate("delete")
        self.objects.pop(name, None)
        folder, _, base = name.partition("/")
        self._folders[folder].pop(base, None)

    def _write(self, name: str, data: bytes) -> None:
        self.objects[name] = data
        folder, _, base = name.partition("/")
        self._folders[folder][base] = None

    def finished(self, among: Iterable[Shard] | None = None) -> set[str]:
        """As of `Plan`."""
        if among is not None:
            return {shard.name for shard in among if self.exists(shard.result)}
        return {name.removesuffix(".jsonl") for name in self.names(RESULTS)}

    def work(self, shard: Shard, lease: Lease, last: bool) -> None:
        """Work on a shard; the result says what it should be."""
        begun = self.simulation.time
        try:
            self.simulation.wait(self.needed[shard.name])
        except _Crash:
            self.outcome.abandoned += 1
            process: _Process = _LOCAL.process
            self._wasted += process.owner.crashed_at - begun
            raise
        if self._ended[shard.name]:
            self.outcome.repeated += 1
            self._wasted += self.needed[shard.name]
            return
        self.put(shard.result, shard.name.encode())
        self.outcome.seconds = max(self.outcome.seconds, self.simulation.time)
        self._ended[shard.name] += 1

    def crash_later(self, machine: _Machine) -> None:
        """Let a machine crash at some time, and another one take its place."""
        after = self.random.expovariate(1 / self.conditions.crash_seconds)
        _Process(self.simulation, lambda: self._crash(machine, after), _Owner())

    def _crash(self, machine: _Machine, after: float) -> None:
        self.simulation.wait(after)
        if self._is_done():
            return
        machine.crashed, machine.crashed_at = True, self.simulation.time
        self.outcome.crashes += 1
        self.simulation.wait(self.conditions.restart_seconds)
        _Machine(self, machine.number)

    def _is_done(self) -> bool:
        return len(self._folders[RESULTS]) == len(self.shards)

    def run(self) -> Outcome:
        """Simulate until all workers have ended."""
        outcome, conditions = self.outcome, self.conditions
        for number in range(conditions.workers):
            _Machine(self, number)
        self.simulation.run()
        needed = sum(self.needed.values())
        outcome.finished = len(self._folders[RESULTS])
        outcome.wrong = sum(
            self.objects.get(s.result) not in (None, s.name.encode()) for s in self.shards
        )
        outcome.ideal_seconds = needed / conditions.workers
        outcome.wasted_share = self._wasted / needed
        return outcome


def simulate(conditions: Conditions) -> Outcome:
    """Simulate a run."""
    before = threading.stack_size(STACK_BYTES)
    try:
        return _World(conditions).run()
    finally:
        threading.stack_size(before)


def lease_simulation(
    workers: Annotated[int, option("Workers.", min=1)] = 1000,
    shards: Annotated[int, option("Shards.", min=1)] = 4000,
    shard_seconds: Annotated[float, option("Mean time of work on a shard.")] = 600.0,
    lease_seconds: Annotated[float, option("How long a lease lasts.")] = 120.0,
    crash_seconds: Annotated[float, option("Mean time between crashes of a worker.")] = 7200.0,
    seed: Annotated[int, option("Random seed.")] = 0,
) -> None:
    """Simulate the workers of a run: crashes, slow disks and clocks that differ.

    The exit code is 1 when a result is missing or wrong. The last line is JSON.
    """
    conditions = Conditions(
        workers,
        shards,
        shard_seconds,
        lease_seconds,
        crash_seconds=crash_seconds,
        seed=seed,
    )
    outcome = simulate(conditions)
    for name, value in asdict(outcome).items():
        typer.echo(f"{name:>16} {value}")
    write_json({**asdict(conditions), **asdict(outcome)})
    if outcome.finished < shards or outcome.wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_command(lease_simulation)
