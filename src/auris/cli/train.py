"""`auris train`: train a small AuT model on one's own recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="train",
    help="Train a small speech recognizer and write it as a model directory.",
    no_args_is_help=True,
)

CONFIG_HELP = "Recipe: a JSON file with the model's shapes and how to train it."
DATA_HELP = (
    "Training manifest: a CSV with the columns wav (relative to the CSV's folder) and text, and "
    "perhaps speaker. Repeat the option for several; one given twice is heard twice an epoch."
)
DEV_HELP = "Development manifest, scored after every epoch and never trained on. Repeatable."
TEXT_HELP = "Text file, a sentence a line, that helps to choose the text units. Repeatable."
OUT_HELP = "Folder of the run: log.csv, data.txt, the checkpoints, and at the end the model."


@app.command()
def ctc(
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)],
    data: Annotated[list[Path], typer.Option(help=DATA_HELP)],
    out: Annotated[Path, typer.Option(help=OUT_HELP)],
    dev: Annotated[list[Path] | None, typer.Option(help=DEV_HELP)] = None,
    text: Annotated[list[Path] | None, typer.Option(help=TEXT_HELP)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out from its last checkpoint.")
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option(help="Folder of another run, to begin with its units and last weights."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that prepare batches ahead; 1 is enough.")
    ] = 0,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Processor threads; by default torch decides."),
    ] = None,
) -> None:
    """Train an AuT encoder with CTC on recordings and their texts.

    Before training starts, the run reports how much it loaded, and every recording that it left
    out with the reason. Texts have to be written as spoken: "twenty two", not "22".
    """
    import torch

    from auris.training.recipes import Recipe
    from auris.training.run import Sources, train_ctc

    if threads is not None:
        torch.set_num_threads(threads)
    sources = Sources(data=data, dev=dev or [], texts=text or [])
    train_ctc(
        Recipe.read(config),
        sources,
        out,
        resume=resume,
        report=typer.echo,
        workers=workers,
        start=start,
    )


@app.command()
def export(
    run: Annotated[Path, typer.Option(help="Folder of a run.")],
    out: Annotated[Path, typer.Option(help="Model directory to write.")],
    checkpoint: Annotated[str, typer.Option(help="Which checkpoint: best or last.")] = "best",
) -> None:
    """Write a checkpoint of a run, finished or not, as a model directory (float16)."""
    from auris.training.run import export_run

    typer.echo(f"wrote {export_run(run, out, checkpoint)}")
