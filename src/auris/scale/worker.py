"""A worker: takes shards of a plan one after the other until all of them are finished.

Workers share nothing but the objects in the folder of the run. Each begins at another
place of the plan. A worker that finds no free shard waits, and takes over shards whose leases have
grown old.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from auris.errors import AurisError, OutputError
from auris.scale.leases import Clock, Lease, Leases
from auris.scale.plan import Shard

_LOG = logging.getLogger(__name__)

MOST_FAILURES = 3
"""How often a worker tries a shard whose files cannot be read or whose result cannot be written."""

MOST_COLLISIONS = 3
"""Shards in a row that were taken by others before a worker lists again and goes elsewhere."""

MOST_WATCHED = 8
"""Leases that an idle worker watches at a time."""

MOST_STORAGE_FAILURES = 10
"""Failures of the storage in a row after which a worker ends."""

FEW = 100
"""Up to so many shards are looked up one by one; above, all results are listed."""

IDLE_LOOKS = 4
"""How often an idle worker looks, in the time that a lease lasts."""


def retry_pause(first: float, failures: int) -> float:
    """Seconds to wait after a failure of a shard: `first` after its first failure, each time twice
    as long."""
    return first * 2.0 ** (failures - 1)


class Results(Protocol):
    """Which shards are finished, and where their results go."""

    def finished(self, among: Iterable[Shard] | None = None) -> set[str]:
        """Names of the shards with a result, see `auris.scale.plan.Plan`."""


Work = Callable[[Shard, Lease, bool], None]
"""Transcribes a shard and writes its result. The last argument says whether this is the last try,
in which recordings that cannot be read become rows with errors."""


@dataclass
class WorkerReport:
    """What a worker did.

    Attributes:
        done: shards that it finished.
        failed: shards that it gave up, with the reason.
        left: shards that nobody has finished.
    """

    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0


class Worker:
    """Works on the shards of a plan.

    Args:
        shards: all of them.
        results: tells which are finished.
        leases: of this worker.
        work: transcribes a shard.
        clock: time.
        start: where in the plan it begins, from 0 to 1.
        report: called after every shard that it finished.
        waiting: called with the number of shards that other workers have, when only those are left.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        results: Results,
        leases: Leases,
        work: Work,
        clock: Clock,
        start: float = 0.0,
        report: Callable[[Shard], None] | None = None,
        waiting: Callable[[int], None] | None = None,
    ) -> None:
        first = int(start * len(shards)) % max(len(shards), 1)
        self._order = [*shards[first:], *shards[:first]]
        self._results, self._leases, self._work, self._clock = results, leases, work, clock
        self._report, self._waiting, self._reported = report, waiting, 0
        self._pause = leases.seconds / IDLE_LOOKS
        self._random = random.Random(first)
        self._finished: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._done = WorkerReport()

    def run(self, stopped: Callable[[], bool]) -> WorkerReport:
        """Work until every shard is finished or given up, or until `stopped`.

        Raises:
            OutputError: the storage fails again and again.
        """
        failures = 0
        while not stopped():
            try:
                if self._is_over(stopped):
                    break
                failures = 0
            except OutputError:
                failures += 1
                if failures > MOST_STORAGE_FAILURES:
                    raise
                self._clock.sleep(self._pause)
        self._done.left = sum(shard.name not in self._finished for shard in self._order)
        return self._done

    def _is_over(self, stopped: Callable[[], bool]) -> bool:
        """Look what is left, and work on it or wait; returns whether nothing is left."""
        leased = self._leases.listed()
        unfinished = self._unfinished(leased)
        if all(shard.name in self._done.failed for shard in unfinished):
            return True
        free = [shard for shard in unfinished if shard.name not in leased]
        if not self._work_on(free, stopped) and not self._take_over(unfinished, leased):
            self._report_waiting(sum(s.name not in self._done.failed for s in unfinished))
            self._clock.sleep(self._pause)
        return False

    def _report_waiting(self, shards: int) -> None:
        """Report that this worker waits, when the number of shards has changed."""
        if self._waiting is not None and shards != self._reported:
            self._waiting(shards)
        self._reported = shards

    def _unfinished(self, leased: Mapping[str, int]) -> list[Shard]:
        """The shards without a result; those that are leased count as such until they are taken
        over, so that idle workers cost the storage few requests."""
        left = [shard for shard in self._order if shard.name not in self._finished]
        unknown = [shard for shard in left if shard.name not in leased]
        self._finished |= self._results.finished(unknown if len(unknown) <= FEW else None)
        self._leases.forget(self._finished)
        return [shard for shard in left if shard.name not in self._finished]

    def _work_on(self, free: list[Shard], stopped: Callable[[], bool]) -> bool:
        """Work on free shards, until others take them; returns whether any was taken."""
        collisions, taken = 0, False
        for shard in free:
            if stopped() or collisions >= MOST_COLLISIONS:
                break
            if shard.name in self._done.failed:
                continue
            lease = self._leases.take(shard.name)
            if lease is None or self._is_finished(shard, lease):
                collisions += 1
                continue
            collisions, taken = 0, True
            self._work_under(shard, lease)
        if collisions >= MOST_COLLISIONS:
            # Others are at work here: go on somewhere else.
            first = self._random.randrange(len(self._order))
            self._order = [*self._order[first:], *self._order[:first]]
            return True
        return taken

    def _take_over(self, unfinished: list[Shard], leased: Mapping[str, int]) -> bool:
        """Work on a shard whose owner has ended; returns whether there was one."""
        watched = [shard for shard in unfinished if shard.name in leased][:MOST_WATCHED]
        for shard in watched:
            if shard.name in self._done.failed:
                continue
            lease = self._leases.take_over(shard.name, leased[shard.name])
            if lease is not None and not self._is_finished(shard, lease):
                self._work_under(shard, lease)
                return True
        return False

    def _is_finished(self, shard: Shard, lease: Lease) -> bool:
        """Whether a shard was finished before it was taken; the lease is then released."""
        try:
            finished = bool(self._results.finished([shard]))
        except BaseException:
            self._release(lease)
            raise
        if finished:
            self._release(lease)
            self._finished.add(shard.name)
        return finished

    def _work_under(self, shard: Shard, lease: Lease) -> None:
        """Work on a shard; the lease is released whatever happens.

        After a failure the worker waits, each time twice as long, so that a storage that is down
        for minutes does not use up the tries of all shards at once.
        """
        failed = False
        last = self._failures[shard.name] + 1 >= MOST_FAILURES
        try:
            self._work(shard, lease, last)
        except AurisError as error:
            failed = True
            self._failures[shard.name] += 1
            _LOG.warning("Shard %s failed: %s", shard.name, error)
            if last:
                self._done.failed[shard.name] = error.sentence
        else:
            self._finished.add(shard.name)
            self._done.done += 1
            if self._report is not None:
                self._report(shard)
        finally:
            self._release(lease)
        if failed:
            self._clock.sleep(retry_pause(self._pause, self._failures[shard.name]))

    def _release(self, lease: Lease) -> None:
        try:
            self._leases.release(lease)
        except AurisError as error:
            # It grows old, and others take the shard over if it is not finished.
            _LOG.warning("The lease of shard %s cannot be released: %s", lease.shard, error)
