"""`auris scale`: corpora on a Ray cluster."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.corpus import CorpusOptions, ShardProgress, loaded_transcriber
from auris.cli.declare import option, with_options
from auris.cli.interrupt import interruptible
from auris.cli.options import BatchSize, Lm, ModelOptions, Speculate, SpeechOptions
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.scale.worker import WorkerReport

app = typer.Typer(name="scale", help="Corpora on a Ray cluster.")


def run(
    output: Annotated[str, option("Folder or address of the run.")],
    model: ModelOptions,
    speech: SpeechOptions,
    corpus: CorpusOptions,
    speculate: Speculate = "none",
    lm: Lm = "auto",
    batch_size: BatchSize = 8,
    workers: Annotated[int, option("Processes of each actor that read ahead.", min=0)] = 0,
    least_actors: Annotated[int, option("Smallest number of actors.", min=1)] = 1,
    most_actors: Annotated[int, option("Largest number of actors.", min=1)] = 1,
    cpus: Annotated[float, option("Processors of an actor.", min=0)] = 1.0,
    gpus: Annotated[float, option("GPUs of an actor.", min=0)] = 0.0,
    ray_address: Annotated[
        str | None,
        option("Address of the cluster, or auto.", default="Ray is started on this machine"),
    ] = None,
) -> None:
    """Transcribe a corpus with actors of Ray; the plan and the results are those of auris batch.

    Actors that end are started again, and their shards are transcribed by others. auris batch
    status and auris batch merge read the run.
    """
    speech.check()
    if corpus.worker is not None:
        raise UsageError("--worker is for auris batch", "Ray divides the work here", "leave it out")
    settings = corpus.settings()
    from auris.scale.ray_run import Cluster, transcribe_on_ray
    from auris.scale.storage import absolute

    load = partial(loaded_transcriber, model, speech, speculate, lm, batch_size, workers)
    most = max(least_actors, most_actors)
    cluster = Cluster(ray_address, least_actors, most, cpus, gpus)
    progress = ShardProgress()
    report: WorkerReport | None = None
    with interruptible():
        report = transcribe_on_ray(
            load, absolute(output), settings, cluster, begun=progress.begin, report=progress.show
        )
    raise typer.Exit(progress.interrupted() if report is None else progress.end(report))


app.callback()(lambda: None)
app.command()(with_options(run))
