"""Leases: who works on which shard, without a coordinator and without synchronized clocks.

A lease is an object whose name has the shard and a generation, `SHARD.GENERATION`. Its owner
changes its content again and again (the heartbeat). A worker that sees the same content for as
long as a lease lasts, by its own clock, takes the shard over: it creates the object of the next
generation, which only one worker can. So times of different machines are never compared. An owner
that was slow, and not dead, finds the next generation and stops its heartbeat; the result that it
may still write has the same bytes as that of the new owner.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Protocol

from auris.errors import OutputError

FOLDER = "leases"

BEATS = 4
"""Heartbeats in the time that a lease lasts."""


class ObjectStore(Protocol):
    """The part of `Storage` that leases need."""

    def read(self, name: str) -> bytes | None:
        """The content of an object; None if there is none."""

    def exists(self, name: str) -> bool:
        """Whether there is an object."""

    def names(self, folder: str) -> list[str]:
        """Names of the objects in a folder."""

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole."""

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one; returns whether it was written."""

    def remove(self, name: str) -> None:
        """Remove an object, if there is one."""


class Clock(Protocol):
    """Time and concurrency, which a simulation replaces."""

    def now(self) -> float:
        """Seconds from any beginning."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def start(self, function: Callable[[], None]) -> None:
        """Run a function while the caller goes on."""

    def lock(self) -> AbstractContextManager[object]:
        """A new lock."""


class SystemClock:
    """The clock and the threads of this machine."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def start(self, function: Callable[[], None]) -> None:
        threading.Thread(target=function, name="auris-lease", daemon=True).start()

    def lock(self) -> AbstractContextManager[object]:
        return threading.Lock()


@dataclass(frozen=True)
class Sighting:
    """A lease as this process saw it first with this content."""

    generation: int
    content: bytes
    since: float


@dataclass
class Lease:
    """A shard that this process works on.

    Attributes:
        shard: name of the shard.
        generation: number of owners before this one, which ended without releasing it.
        beats: heartbeats so far.
        lost: whether another worker has taken the shard over.
    """

    shard: str
    generation: int
    beats: int = 0
    lost: bool = False

    @property
    def name(self) -> str:
        """Name of its object."""
        return lease_name(self.shard, self.generation)


class Leases:
    """The leases of a run, as one worker sees them.

    Args:
        store: the folder of the run.
        worker: name of this worker, unique among all of them.
        seconds: how long a lease lasts without a heartbeat.
        clock: time and threads.
    """

    def __init__(self, store: ObjectStore, worker: str, seconds: float, clock: Clock) -> None:
        self.seconds = seconds
        self._store, self._worker, self._clock = store, worker, clock
        self._seen: dict[str, Sighting] = {}
        self._own: dict[str, Lease] = {}
        self._lock = clock.lock()
        self._closed = False
        clock.start(self._beat)

    def close(self) -> None:
        """End the heartbeats; leases that are not released grow old."""
        self._closed = True

    def listed(self) -> dict[str, int]:
        """The shards that are leased, with the latest generation of each."""
        return latest_generations(self._store.names(FOLDER))

    def take(self, shard: str) -> Lease | None:
        """Take a shard that nobody has leased; None if somebody has."""
        return self._created(shard, 0)

    def take_over(self, shard: str, generation: int) -> Lease | None:
        """Take a shard whose lease has not changed for as long as leases last, by this process.

        Args:
            shard: name of the shard.
            generation: the latest one, of `listed`.

        Returns:
            None if the lease lives, or is watched for too short a time to know.
        """
        content = self._store.read(lease_name(shard, generation))
        if content is None:
            self._seen.pop(shard, None)
            return None  # It was released, or taken over, since it was listed.
        seen = self._seen.get(shard)
        if seen is None or (seen.generation, seen.content) != (generation, content):
            self._seen[shard] = Sighting(generation, content, self._clock.now())
            return None
        if self._clock.now() - seen.since < self.seconds:
            return None
        del self._seen[shard]
        return self._created(shard, generation + 1)

    def forget(self, shards: Iterable[str]) -> None:
        """Forget what was seen of shards that are finished."""
        for shard in shards:
            self._seen.pop(shard, None)

    def release(self, lease: Lease) -> None:
        """Give a shard back, or end the work on one that is finished."""
        with self._lock:
            self._own.pop(lease.shard, None)
        # The own one comes last, so that the shard counts as leased until then.
        for generation in range(lease.generation + 1):
            self._store.remove(lease_name(lease.shard, generation))

    def _created(self, shard: str, generation: int) -> Lease | None:
        lease = Lease(shard, generation)
        if not self._store.create(lease.name, lease_content(self._worker, 0)):
            return None
        with self._lock:
            self._own[shard] = lease
        return lease

    def _beat(self) -> None:
        """The heartbeats of all leases of this worker."""
        while not self._closed:
            self._clock.sleep(self.seconds / BEATS)
            with self._lock:
                for lease in list(self._own.values()):
                    # A failure is no reason to stop; until a beat succeeds the lease grows old.
                    with suppress(OutputError):
                        self._beat_once(lease)

    def _beat_once(self, lease: Lease) -> None:
        if self._store.exists(lease_name(lease.shard, lease.generation + 1)):
            lease.lost = True
            del self._own[lease.shard]
            return
        lease.beats += 1
        self._store.put(lease.name, lease_content(self._worker, lease.beats))


def lease_name(shard: str, generation: int) -> str:
    """Name of the object of a lease."""
    return f"{FOLDER}/{shard}.{generation}"


def lease_content(worker: str, beats: int) -> bytes:
    """What the object of a lease says."""
    return json.dumps({"worker": worker, "beats": beats}).encode()


def latest_generations(names: Iterable[str]) -> dict[str, int]:
    """The latest generation of each leased shard, from the names of the objects."""
    latest: dict[str, int] = {}
    for name in names:
        shard, _, number = name.rpartition(".")
        if shard and number.isdecimal():
            latest[shard] = max(latest.get(shard, 0), int(number))
    return latest
