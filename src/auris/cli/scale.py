"""`auris scale`: corpora and the server on a Ray cluster."""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.corpus import CorpusOptions, ShardProgress, loaded_transcriber
from auris.cli.declare import option, with_options
from auris.cli.interrupt import INTERRUPTED, interruptible
from auris.cli.options import BatchSize, Lm, ModelOptions, Speculate, SpeechOptions
from auris.cli.server_options import ServerOptions, require_server_packages
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.scale.ray_cluster import Cluster
    from auris.scale.worker import WorkerReport

app = typer.Typer(name="scale", help="Corpora and the server on a Ray cluster.")

CLUSTER = "Ray"
"""Heading of the help."""


@dataclass(frozen=True)
class ClusterOptions:
    """Where actors run, and what each of them needs."""

    cpus: Annotated[float, option("Processors of each.", min=0, group=CLUSTER)] = 1.0
    gpus: Annotated[float, option("GPUs of each.", min=0, group=CLUSTER)] = 0.0
    ray_address: Annotated[
        str | None,
        option(
            "Address of the cluster, or auto.",
            default="Ray is started on this machine",
            group=CLUSTER,
        ),
    ] = None

    def cluster(self, least: int, most: int) -> Cluster:
        """The cluster with a number of actors."""
        from auris.scale.ray_cluster import Cluster

        return Cluster(self.ray_address, least, max(least, most), self.cpus, self.gpus)


def run(
    output: Annotated[str, option("Folder or address of the run.")],
    model: ModelOptions,
    speech: SpeechOptions,
    corpus: CorpusOptions,
    ray: ClusterOptions,
    speculate: Speculate = "none",
    lm: Lm = "auto",
    batch_size: BatchSize = 8,
    workers: Annotated[int, option("Processes of each actor that read ahead.", min=0)] = 0,
    least_actors: Annotated[int, option("Smallest number of actors.", min=1, group=CLUSTER)] = 1,
    most_actors: Annotated[int, option("Largest number of actors.", min=1, group=CLUSTER)] = 1,
) -> None:
    """Transcribe a corpus with actors of Ray; the plan and the results are those of auris batch.

    Actors that end are started again, and their shards are transcribed by others. auris batch
    status and auris batch merge read the run.
    """
    speech.check()
    if corpus.worker is not None:
        raise UsageError("--worker is for auris batch", "Ray divides the work here", "leave it out")
    settings = corpus.settings()
    from auris.scale.ray_run import transcribe_on_ray
    from auris.scale.storage import absolute

    load = partial(loaded_transcriber, model, speech, speculate, lm, batch_size, workers)
    cluster = ray.cluster(least_actors, most_actors)
    progress = ShardProgress()
    report: WorkerReport | None = None
    with interruptible():
        report = transcribe_on_ray(
            load, absolute(output), settings, cluster, begun=progress.begin, report=progress.show
        )
    raise typer.Exit(progress.interrupted() if report is None else progress.end(report))


def serve(
    options: ServerOptions,
    ray: ClusterOptions,
    least_replicas: Annotated[
        int, option("Smallest number of replicas.", min=1, group=CLUSTER)
    ] = 1,
    most_replicas: Annotated[int, option("Largest number of replicas.", min=1, group=CLUSTER)] = 1,
    target_requests: Annotated[
        int | None,
        option(
            "Requests and WebSockets of a replica above which Ray starts another one.",
            default="--batch-size",
            min=1,
            group=CLUSTER,
        ),
    ] = None,
) -> None:
    """Serve the OpenAI audio API with replicas on Ray Serve, each with its own model.

    Ray receives the requests at --host and --port and starts and ends replicas as there are
    requests. Ctrl-C or SIGTERM ends all of them after the calls in progress. With --ray-address
    there are no jobs and no page.
    """
    require_server_packages("auris scale serve", "ray-serve")
    from auris.scale.ray_serve import serve_on_ray

    settings = options.settings()
    cluster = ray.cluster(least_replicas, most_replicas)
    with interruptible() as interrupt:
        serve_on_ray(settings, cluster, target_requests or settings.batch_size, until_stopped)
    raise typer.Exit(INTERRUPTED if interrupt.is_set() else 0)


def until_stopped(address: str) -> None:
    """Tell the address, and wait for SIGTERM."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        sys.stderr.write(f"auris: Ray Serve answers at {address}\n")
        stopped.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


app.callback()(lambda: None)
for command in (run, serve):
    app.command()(with_options(command))
