"""A run over a corpus on a Ray cluster, whose scheduler takes the place of leases.

The plan, the shards and their results are those of `auris batch --input`: what is finished is what
exists. Ray starts actors and restarts those that end; a shard whose actor ended is given to
another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from auris.errors import AurisError
from auris.scale.leases import Leases, SystemClock
from auris.scale.plan import Plan, Shard, read_plan
from auris.scale.ray_cluster import Cluster, ray_module, start
from auris.scale.run import CorpusSettings, planned, put_result, worker_name
from auris.scale.storage import Storage
from auris.scale.transcriber import ShardTranscriber
from auris.scale.worker import MOST_FAILURES, WorkerReport, retry_pause

STORE_BYTES = 100 << 20
"""Object store of a Ray that is started here; only names of shards go through it."""

RETRY_PAUSE = 15.0
"""Seconds that an actor waits after the first failure of a shard."""


class ShardActor:
    """Transcribes shards in an actor.

    Args:
        load: loads the model; called once in each actor.
        output: folder of the run.
        run: what the plan has to be made for, in addition to the model and its options.
    """

    def __init__(
        self, load: Callable[[], ShardTranscriber], output: str, run: Mapping[str, Any]
    ) -> None:
        self._transcriber = load()
        self._storage = Storage(output)
        plan = read_plan(self._storage, {**self._transcriber.values(), **run})
        assert plan is not None  # It is written before actors begin.
        self._plan = plan
        self._shards = {shard.name: shard for shard in plan.shards}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Transcribe the shards of a batch; returns their names and errors."""
        names = [str(name) for name in batch["shard"]]
        return {"shard": names, "error": [self._error(self._shards[name]) for name in names]}

    def _error(self, shard: Shard) -> str:
        """Transcribe a shard; returns why that failed, or nothing."""
        error, clock = "", SystemClock()
        for number in range(1, MOST_FAILURES + 1):
            last = number == MOST_FAILURES
            try:
                data = self._transcriber.result(self._plan.units(shard), last=last)
                put_result(self._storage, shard, data, clock)
                return ""
            except AurisError as failure:
                error = failure.sentence
                if not last:
                    clock.sleep(retry_pause(RETRY_PAUSE, number))
        return error


@dataclass
class _Progress:
    """Counts the shards that actors have done."""

    shards: Mapping[str, Shard]
    report: Callable[[Shard], None] | None
    result: WorkerReport = field(default_factory=WorkerReport)

    def add(self, name: str, error: str) -> None:
        """Count a shard that was transcribed, or that failed."""
        if error:
            self.result.failed[name] = error
            return
        self.result.done += 1
        if self.report is not None:
            self.report(self.shards[name])


def transcribe_on_ray(
    load: Callable[[], ShardTranscriber],
    output: str,
    settings: CorpusSettings,
    cluster: Cluster,
    begun: Callable[[Plan, int], None] | None = None,
    report: Callable[[Shard], None] | None = None,
) -> WorkerReport:
    """Work on a corpus with actors of Ray until it is finished.

    Args:
        load: loads the model; it is sent to the actors.
        output, settings, begun, report: see `auris.scale.run.transcribe_corpus`.
        cluster: where actors run.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: the source is wrong, or the folder has another run.
    """
    ray = ray_module("data", "ray")
    start(ray, cluster, STORE_BYTES)
    # The model may be too large for this machine, so an actor's machine says what it is.
    values = ray.get(ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus)(_values).remote(load))
    storage, clock = Storage(output), SystemClock()
    leases = Leases(storage, worker_name(), settings.lease_seconds, clock)
    try:
        plan = planned(storage, settings, values, leases, clock)
    finally:
        leases.close()
    finished = plan.finished()
    if begun is not None:
        begun(plan, len(finished))
    names = [{"shard": shard.name} for shard in plan.shards if shard.name not in finished]
    progress = _Progress({shard.name: shard for shard in plan.shards}, report)
    if names:
        # A block for each shard, so that a shard is the unit of scheduling and of retries.
        shards = ray.data.from_items(names, override_num_blocks=len(names)).map_batches(
            ShardActor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=cluster.least, max_size=cluster.most),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
            fn_constructor_args=(load, output, settings.values()),
        )
        for row in shards.iter_rows():
            progress.add(row["shard"], row["error"])
    result = progress.result
    result.left = len(plan.shards) - len(plan.finished())
    return result


def _values(load: Callable[[], ShardTranscriber]) -> dict[str, Any]:
    """What results depend on, on the machine of an actor."""
    return load().values()
