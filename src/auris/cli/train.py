"""`auris train`: train small AuT models, and Qwen3-ASR checkpoints further, on one's recordings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from auris.training.reports import ProgressReporter

app = typer.Typer(
    name="train",
    help="Train a speech recognizer and write it as a model directory.",
    no_args_is_help=True,
)

Config = Annotated[
    Path, typer.Option(help="Recipe: a JSON file with the model's shapes and how to train it.")
]
Data = Annotated[
    list[Path],
    typer.Option(
        help="Training manifest: a CSV with the columns wav (relative to the CSV's folder) and "
        "text, and perhaps speaker; or a .jsonl file with audio and text on every line, and "
        "perhaps language and prompt. Repeatable; one given twice is heard twice an epoch."
    ),
]
Dev = Annotated[
    list[Path] | None,
    typer.Option(
        help="Development manifest, scored after every epoch and never trained on. Repeatable."
    ),
]
Text = Annotated[
    list[Path] | None,
    typer.Option(help="Text file, a sentence a line, that helps to choose the units. Repeatable."),
]
Out = Annotated[
    Path,
    typer.Option(
        help="Folder of the run: log.csv, curve.png, data.txt, the checkpoints, and at the end "
        "the model."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the run in --out from its last checkpoint.")
]
Start = Annotated[
    Path | None,
    typer.Option(
        help="Folder of another run, or a model directory, to begin with its units and last "
        "weights. The recipe may have more layers."
    ),
]
Workers = Annotated[
    int,
    typer.Option(min=0, help="Processes that prepare batches ahead, for every training process."),
]
Processes = Annotated[
    int,
    typer.Option(min=1, help="Training processes, which share every batch; or use torchrun."),
]
Accelerator = Annotated[str, typer.Option(help="Where to train: cpu, cuda, mps or auto.")]
TrainThreads = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Processor threads; by default torch decides."),
]


def _reporter() -> ProgressReporter:
    from auris.training.reports import BarReporter, LineReporter

    return BarReporter() if sys.stdout.isatty() else LineReporter(typer.echo)


@app.command()
def ctc(
    config: Config,
    data: Data,
    out: Out,
    dev: Dev = None,
    text: Text = None,
    resume: Resume = False,
    start: Start = None,
    workers: Workers = 0,
    processes: Processes = 1,
    device: Accelerator = "cpu",
    threads: TrainThreads = None,
) -> None:
    """Train an AuT encoder with CTC on recordings and their texts.

    Before training starts, the run reports how much it loaded, and every recording that it left
    out with the reason. Texts have to be written as spoken: "twenty two", not "22".
    """
    from auris.training.recipes import CtcRecipe
    from auris.training.run import RunOptions, Sources, train

    sources = Sources(data, dev or [], text or [], start=start)
    options = RunOptions(resume, workers, processes, device, threads)
    train(CtcRecipe.read(config), sources, out, options, _reporter())


@app.command()
def asr(
    config: Config,
    data: Data,
    out: Out,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Directory of a Qwen3-ASR checkpoint to train further."),
    ] = None,
    dev: Dev = None,
    text: Text = None,
    resume: Resume = False,
    start: Start = None,
    workers: Workers = 0,
    processes: Processes = 1,
    device: Accelerator = "cpu",
    threads: TrainThreads = None,
) -> None:
    """Train a Qwen3-ASR model: a small one from nothing, or a checkpoint further.

    With --model the recipe has no shapes: all weights of the checkpoint are trained, or adapters
    on its decoder with lora_rank. Texts are then kept as they are written.
    """
    from auris.training.recipes import AsrRecipe, TuneRecipe
    from auris.training.run import RunOptions, Sources, train

    sources = Sources(data, dev or [], text or [], model, start)
    options = RunOptions(resume, workers, processes, device, threads)
    kind = AsrRecipe if model is None else TuneRecipe
    train(kind.read(config), sources, out, options, _reporter())


@app.command()
def export(
    run: Annotated[Path, typer.Option(help="Folder of a run.")],
    out: Annotated[Path, typer.Option(help="Model directory to write.")],
    checkpoint: Annotated[str, typer.Option(help="Which checkpoint: best or last.")] = "best",
) -> None:
    """Write a checkpoint of a run, finished or not, as a model directory (float16)."""
    from auris.training.run import export_run

    typer.echo(f"wrote {export_run(run, out, checkpoint)}")
