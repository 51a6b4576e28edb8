"""`auris train`: train small AuT models, speaker encoders and language models, fine-tune Qwen3-ASR
checkpoints."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.declare import option, with_options
from auris.cli.table import shown_size
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.training.recipes import RecognizerRecipe
    from auris.training.reports import ProgressReporter

app = typer.Typer(
    name="train",
    help="Train a speech recognizer, and write it as a model directory.",
    no_args_is_help=True,
)

Config = Annotated[Path, option("Recipe: a JSON file with the settings of the run.")]
Data = Annotated[
    list[Path] | None,
    option(
        "Training manifest: a CSV with the columns wav and text, and optionally speaker, "
        "language and prompt; or a .jsonl file with audio and text on every line. Paths in it are "
        "relative to its folder or to the working directory. Repeatable; a manifest that is given "
        "twice is used twice an epoch.",
        default="with --corpus, none",
    ),
]
Corpus = Annotated[
    list[str] | None,
    option(
        "Corpus that is read while the model is trained, in bounded memory, instead of --data: "
        "what auris batch --input takes, with texts, or a manifest of --data. Repeatable.",
        default="with --data, none",
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
        str | None,
        option(
            "Folder of another run, a model directory or a bundled model, whose units and last "
            "weights this run begins with. The recipe may have more layers."
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
    peak_tflops: Annotated[
        float | None,
        option(
            "10^12 operations a second that a device can do, to log which share of them is used.",
            default="not logged",
            min=1e-6,
        ),
    ] = None
    wandb: Annotated[
        str | None,
        option("Project of Weights & Biases that receives the log, too.", default="none"),
    ] = None

    def start_directory(self) -> Path | None:
        """The directory that --start names."""
        from auris.training.starting import trained_directory

        return None if self.start is None else trained_directory(self.start, "--start")

    def train(
        self,
        kind: type[RecognizerRecipe],
        config: Path,
        data: list[Path] | None,
        corpus: list[str] | None,
        model: Path | None = None,
        language: str | None = None,
        encoder: str | None = None,
        decoder: str | None = None,
    ) -> None:
        """Train a model."""
        from auris.training.run import train
        from auris.training.run_options import RunOptions, Sources

        sources = Sources(
            data=data or [],
            corpus=corpus or [],
            dev=self.dev or [],
            texts=self.text or [],
            model=model,
            encoder=encoder,
            decoder=decoder,
            start=self.start_directory(),
            language=language,
        )
        options = RunOptions(
            resume=self.resume,
            workers=self.workers,
            processes=self.processes,
            device=self.device,
            threads=self.threads,
            dtype=self.dtype,
            peak_tflops=self.peak_tflops,
            wandb=self.wandb,
        )
        train(kind.read(config), sources, self.folder(config), options, _reporter())

    def folder(self, config: Path) -> Path:
        """The run's folder."""
        return self.out or Path("runs", config.stem)


def _reporter() -> ProgressReporter:
    """A bar in a terminal, otherwise lines."""
    from auris.training.reports import BarReporter, LineReporter

    return BarReporter() if sys.stdout.isatty() else LineReporter(typer.echo)


def ctc(config: Config, settings: RunSettings, data: Data = None, corpus: Corpus = None) -> None:
    """Train an AuT encoder with a CTC head on recordings and their texts.

    The run first reports how much it has loaded, and every recording that it leaves out, with the
    reason. Texts have to be written as they are spoken: "twenty two", not "22".
    """
    from auris.training.recipes import CtcRecipe

    settings.train(CtcRecipe, config, data, corpus)


def asr(
    config: Config,
    settings: RunSettings,
    data: Data = None,
    corpus: Corpus = None,
    model: Annotated[
        str | None,
        option(
            "Qwen3-ASR checkpoint to fine-tune: model directory, bundled model or hub id.",
            "--model",
            "-m",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        option(
            "Trained encoder to put a decoder behind: folder of a run, model directory, or name "
            "of a bundled model."
        ),
    ] = None,
    decoder: Annotated[
        str | None,
        option(
            "Trained decoder for --encoder: folder of a run, model directory, or name of a "
            "bundled model.",
            default="a new one",
        ),
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
    """Train a Qwen3-ASR model from random weights or behind a trained encoder, or fine-tune one.

    With --encoder a projector and a decoder are put behind the encoder. The projector is trained
    first, then the decoder, too, and at last the encoder. Rows without audio train the decoder on
    their text alone.

    With --model the recipe has no sizes of a model. All weights of the checkpoint are trained, or,
    with lora_rank, adapters of its decoder. Texts are then used as they are written.
    """
    from auris.checkpoints.hub import resolve
    from auris.training.starting import asr_recipe_kind

    checkpoint = None if model is None else resolve(model).directory
    begun = settings.folder(config) if settings.resume else settings.start_directory()
    kind = asr_recipe_kind(checkpoint, encoder, begun)
    settings.train(kind, config, data, corpus, checkpoint, language, encoder, decoder)


def speaker(
    config: Config,
    data: Annotated[
        list[Path],
        option(
            "Training manifest with the columns wav, text and speaker; texts may be empty. "
            "Repeatable."
        ),
    ],
    out: Annotated[
        Path | None,
        option(
            "Folder of the run: logs, plot, checkpoints, and at the end the model.",
            default="runs/ and the name of the recipe",
        ),
    ] = None,
    dev: Annotated[
        list[Path] | None,
        option(
            "Manifest of other speakers, whose equal error rate is measured after every epoch. "
            "Repeatable."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        option(
            "Trained audio encoder to begin with: folder of a run, model directory, or name of a "
            "bundled model.",
            default="random weights",
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        option(
            "CAM++ checkpoint (.pt or .safetensors) whose embeddings are imitated, for "
            "recipes with teacher_weight."
        ),
    ] = None,
    resume: Annotated[
        bool, option("Continue the run in --out from its last checkpoint.", "--resume")
    ] = False,
    device: Annotated[str, option("cpu, cuda, mps or auto.")] = "cpu",
    threads: Annotated[
        int | None, option("CPU threads.", default="torch's choice", min=1, max=1024)
    ] = None,
    dtype: Dtype = "float16",
) -> None:
    """Train a speaker encoder, for --diarize --speaker-model.

    It learns to tell the training speakers apart. Each speaker is also played slower and faster,
    which makes two further ones. Development speakers have to be others.
    """
    from auris.training.run_options import RunOptions
    from auris.training.speaker_recipe import SpeakerRecipe
    from auris.training.speaker_run import SpeakerSources, train_speaker

    folder = out or Path("runs", config.stem)
    sources = SpeakerSources(data, dev or [], encoder, teacher)
    options = RunOptions(resume=resume, device=device, threads=threads, dtype=dtype)
    train_speaker(SpeakerRecipe.read(config), sources, folder, options, _reporter())


def export(
    run: Annotated[Path, option("Folder of a run.")],
    out: Annotated[Path, option("Model directory to write; an existing model is replaced.")],
    checkpoint: Annotated[
        str | None,
        option(
            "best, last, average, ema or step-N.",
            default="ema or average if the run has it, else best",
        ),
    ] = None,
    dtype: Dtype = "float16",
    adapter: Annotated[
        bool,
        option(
            "Write the adapters (LoRA) alone, in float32, for --adapter of the other commands.",
            "--adapter",
        ),
    ] = False,
) -> None:
    """Write a checkpoint of a run, finished or not, as a model directory."""
    from auris.training.exporting import dtype_named, export_adapter, export_run, written
    from auris.training.folder import RunFolder
    from auris.training.speaker_recipe import SpeakerRecipe
    from auris.training.speaker_run import export_speaker

    if adapter:
        typer.echo(f"wrote {export_adapter(run, out, checkpoint)}")
        return
    if isinstance(RunFolder(run).read()[0], SpeakerRecipe):
        typer.echo(f"wrote {export_speaker(run, out, checkpoint, dtype_named(dtype))}")
        return
    typer.echo(written(export_run(run, out, checkpoint, dtype_named(dtype))))


def lm(
    texts: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT...",
            help="Text files with a sentence a line, in UTF-8; .gz and .xz are read, too. A file "
            "that is named twice counts twice. Or one ARPA file, to convert it.",
        ),
    ],
    out: Annotated[
        Path, option("File to write; with the name .arpa, in the ARPA format of KenLM and SRILM.")
    ],
    order: Annotated[int, option("Length of the longest n-grams, 2 to 5.")] = 3,
    vocabulary: Annotated[int, option("Maximum number of words, the most frequent ones.")] = 60_000,
    min_count: Annotated[int, option("How often a word has to occur.", min=1)] = 2,
    prune: Annotated[
        str,
        option(
            "Counts up to which n-grams are left out: of 2 words, of 3, and so on; the last one "
            "stands for all longer ones."
        ),
    ] = "0,1",
    max_size: Annotated[
        float | None,
        option(
            "Megabytes of the file; the n-grams that matter least are left out.", default="no limit"
        ),
    ] = None,
    dev: Annotated[
        list[Path] | None,
        option("Text that the model does not train on, to measure its perplexity. Repeatable."),
    ] = None,
) -> None:
    """Estimate a language model of words from texts, for --lm.

    Texts are brought to lower-case words without punctuation. Lines with digits or symbols do not
    say how they are spoken and are left out: write "twenty two", not "22".
    """
    from auris.training.language_model import (
        MEGABYTE,
        LanguageModelSettings,
        load_or_train,
        save_language_model,
        score_text,
    )

    settings = LanguageModelSettings(
        order,
        vocabulary,
        min_count,
        _counts(prune),
        None if max_size is None else round(max_size * MEGABYTE),
    )
    model = load_or_train(texts, settings, typer.echo)
    size = save_language_model(model, out)
    typer.echo(f"wrote {out}, {shown_size(size)}")
    for path in dev or []:
        score = score_text(model, [path])
        typer.echo(
            f"{path}: perplexity {score.perplexity:.1f} over {score.words} words, "
            f"{score.known_perplexity:.1f} without the {score.unknown:.1%} unknown ones"
        )


def _counts(text: str) -> tuple[int, ...]:
    """The numbers of --prune."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            "--prune takes whole numbers, separated by commas",
            f"it is {text!r}",
            "write for example 0,1",
        ) from None


for command in (ctc, asr, speaker, export, lm):
    app.command()(with_options(command))
