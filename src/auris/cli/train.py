"""`auris train`: train small AuT models, and fine-tune Qwen3-ASR checkpoints."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.options import option, with_options

if TYPE_CHECKING:
    from auris.training.recipes import Recipe

app = typer.Typer(
    name="train",
    help="Train a speech recognizer, and write it as a model directory.",
    no_args_is_help=True,
)

Config = Annotated[Path, option("Recipe: a JSON file with the settings of the run.")]
Data = Annotated[
    list[Path],
    option(
        "Training manifest: a CSV with the columns wav and text, and optionally speaker, "
        "language and prompt; or a .jsonl file with audio and text on every line. Paths in it are "
        "relative to its folder or to the working directory. Repeatable; a manifest that is given "
        "twice is used twice an epoch."
    ),
]
Dtype = Annotated[str, option("Type of the written weights: float16, bfloat16 or float32.")]


@dataclass(frozen=True)
class RunSettings:
    """The options of all runs."""

    out: Annotated[
        Path | None,
        option(
            "Folder of the run: logs, plot, checkpoints, and at the end the model.",
            default="runs/ and the name of the recipe",
        ),
    ] = None
    dev: Annotated[
        list[Path] | None,
        option("Development manifest, scored after every epoch and never trained on. Repeatable."),
    ] = None
    text: Annotated[
        list[Path] | None,
        option("Text file with one sentence per line, used to choose the units. Repeatable."),
    ] = None
    resume: Annotated[
        bool, option("Continue the run in --out from its last checkpoint.", "--resume")
    ] = False
    start: Annotated[
        Path | None,
        option(
            "Folder of another run, or a model directory, whose units and last weights this "
            "run begins with. The recipe may have more layers."
        ),
    ] = None
    workers: Annotated[
        int, option("Processes that prepare batches ahead, for every training process.", min=0)
    ] = 0
    processes: Annotated[
        int,
        option("Training processes, which share every batch; torchrun can start them, too.", min=1),
    ] = 1
    device: Annotated[str, option("cpu, cuda, mps or auto.")] = "cpu"
    threads: Annotated[
        int | None,
        option("CPU threads of each training process.", default="torch's choice", min=1, max=1024),
    ] = None
    dtype: Dtype = "float16"

    def train(
        self,
        kind: type[Recipe],
        config: Path,
        data: list[Path],
        model: Path | None = None,
        language: str | None = None,
    ) -> None:
        """Train a model."""
        from auris.training.reports import BarReporter, LineReporter
        from auris.training.run import RunOptions, Sources, train

        sources = Sources(data, self.dev or [], self.text or [], model, self.start, language)
        options = RunOptions(
            self.resume, self.workers, self.processes, self.device, self.threads, self.dtype
        )
        reporter = BarReporter() if sys.stdout.isatty() else LineReporter(typer.echo)
        out = self.out or Path("runs", config.stem)
        train(kind.read(config), sources, out, options, reporter)


def ctc(config: Config, data: Data, settings: RunSettings) -> None:
    """Train an AuT encoder with a CTC head on recordings and their texts.

    The run first reports how much it has loaded, and every recording that it leaves out, with the
    reason. Texts have to be written as they are spoken: "twenty two", not "22".
    """
    from auris.training.recipes import CtcRecipe

    settings.train(CtcRecipe, config, data)


def asr(
    config: Config,
    data: Data,
    settings: RunSettings,
    model: Annotated[
        Path | None, option("Directory of a Qwen3-ASR checkpoint to fine-tune.", "--model", "-m")
    ] = None,
    language: Annotated[
        str | None,
        option(
            "Language of the rows that name none, by code or English name.",
            "--language",
            "-l",
            default="none; such rows teach the model to name none",
        ),
    ] = None,
) -> None:
    """Train a small Qwen3-ASR model from random weights, or fine-tune a checkpoint.

    With --model the recipe has no sizes of a model. All weights of the checkpoint are trained, or,
    with lora_rank, adapters of its decoder. Texts are then used as they are written.
    """
    from auris.training.recipes import AsrRecipe, TuneRecipe

    settings.train(AsrRecipe if model is None else TuneRecipe, config, data, model, language)


def export(
    run: Annotated[Path, option("Folder of a run.")],
    out: Annotated[Path, option("Model directory to write; an existing model is replaced.")],
    checkpoint: Annotated[
        str | None, option("best, last or average.", default="average if the run has it, else best")
    ] = None,
    dtype: Dtype = "float16",
) -> None:
    """Write a checkpoint of a run, finished or not, as a model directory."""
    from auris.training.exporting import dtype_named, export_run

    typer.echo(f"wrote {export_run(run, out, checkpoint, dtype_named(dtype))}")


for command in (ctc, asr, export):
    app.command()(with_options(command))
