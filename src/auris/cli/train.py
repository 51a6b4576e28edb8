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
        help="Training manifest: a CSV with the columns wav and text, and perhaps speaker, "
        "language and prompt; or a .jsonl file with audio and text on every line. Paths in it are "
        "relative to its folder or to the working directory. Repeatable; one given twice is used "
        "twice an epoch."
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
    Path | None,
    typer.Option(
        help="Folder of the run: log.csv, curve.png, data.txt, the checkpoints, and at the end "
        "the model.",
        show_default="runs/ and the name of the recipe",
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
Dtype = Annotated[
    str, typer.Option(help="Type of the written weights: float16, bfloat16 or float32.")
]


def _reporter() -> ProgressReporter:
    from auris.training.reports import BarReporter, LineReporter

    return BarReporter() if sys.stdout.isatty() else LineReporter(typer.echo)


def _folder(out: Path | None, config: Path) -> Path:
    return out or Path("runs", config.stem)


@app.command()
def ctc(
    config: Config,
    data: Data,
    out: Out = None,
    dev: Dev = None,
    text: Text = None,
    resume: Resume = False,
    start: Start = None,
    workers: Workers = 0,
    processes: Processes = 1,
    device: Accelerator = "cpu",
    threads: TrainThreads = None,
    dtype: Dtype = "float16",
) -> None:
    """Train an AuT encoder with CTC on recordings and their texts.

    Before training starts, the run reports how much it loaded, and every recording that it left
    out with the reason. Texts have to be written as spoken: "twenty two", not "22".
    """
    from auris.training.recipes import CtcRecipe
    from auris.training.run import RunOptions, Sources, train

    sources = Sources(data, dev or [], text or [], start=start)
    options = RunOptions(resume, workers, processes, device, threads, dtype)
    train(CtcRecipe.read(config), sources, _folder(out, config), options, _reporter())


@app.command()
def asr(
    config: Config,
    data: Data,
    out: Out = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Directory of a Qwen3-ASR checkpoint to train further."),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            "-l",
            help="Code or English name of the language of rows that name none.",
            show_default="none; they teach the model to name none",
        ),
    ] = None,
    dev: Dev = None,
    text: Text = None,
    resume: Resume = False,
    start: Start = None,
    workers: Workers = 0,
    processes: Processes = 1,
    device: Accelerator = "cpu",
    threads: TrainThreads = None,
    dtype: Dtype = "float16",
) -> None:
    """Train a Qwen3-ASR model: a small one from nothing, or a checkpoint further.

    With --model the recipe has no shapes: all weights of the checkpoint are trained, or adapters
    on its decoder with lora_rank. Texts are then kept as they are written.
    """
    from auris.training.recipes import AsrRecipe, TuneRecipe
    from auris.training.run import RunOptions, Sources, train

    sources = Sources(data, dev or [], text or [], model, start, language)
    options = RunOptions(resume, workers, processes, device, threads, dtype)
    kind = AsrRecipe if model is None else TuneRecipe
    train(kind.read(config), sources, _folder(out, config), options, _reporter())


@app.command()
def export(
    run: Annotated[Path, typer.Option(help="Folder of a run.")],
    out: Annotated[Path, typer.Option(help="Model directory to write.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Which checkpoint: best, last or average; by default average where the run has "
            "one, else best."
        ),
    ] = None,
    dtype: Dtype = "float16",
) -> None:
    """Write a checkpoint of a run, finished or not, as a model directory."""
    from auris.training.exporting import dtype_named, export_run

    typer.echo(f"wrote {export_run(run, out, checkpoint, dtype_named(dtype))}")
