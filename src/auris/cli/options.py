"""Options that several commands share, declared once, and what they load.

A command takes a group of options as one parameter, whose type is a dataclass here; `with_options`
makes an option of each field.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer

from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.alignment.aligner import ForcedAligner
    from auris.pipeline import AsrPipeline
    from auris.recognition.load import LoadOptions
    from auris.recognition.options import CallOptions

__all__ = [
    "Aligner",
    "BatchSize",
    "ChunkSeconds",
    "Context",
    "CueOptions",
    "Device",
    "Dtype",
    "Language",
    "Languages",
    "Limit",
    "Model",
    "ModelOptions",
    "Models",
    "OutputFormat",
    "Revision",
    "SourceModel",
    "Speculate",
    "SpeechOptions",
    "TargetDirectory",
    "TestSets",
    "Threads",
    "Vad",
    "check_format",
    "listed",
    "with_options",
]

MODEL_HELP = (
    "Directory, bundled model or hub id (OWNER/NAME or OWNER/NAME@REVISION). Default: AURIS_MODEL, "
    "or the bundled model tiny."
)
Model = Annotated[str | None, typer.Option("--model", "-m", help=MODEL_HELP, show_default=False)]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help=f"{MODEL_HELP} Repeatable.", show_default=False),
]
SourceModel = Annotated[
    str, typer.Argument(metavar="IN", help="Model: directory, bundled model or hub id.")
]
TargetDirectory = Annotated[
    Path, typer.Argument(metavar="OUT", help="Directory to write; it must be new or empty.")
]
Revision = Annotated[
    str | None,
    typer.Option(help="Branch, tag or commit of a hub id.", show_default="the main branch"),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="auto, cpu, cuda, cuda:N, mps or metal (another name of mps). Default: AURIS_DEVICE, "
        "or auto.",
        show_default=False,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto (as stored, where the device computes in it), float32, bfloat16, float16, int8 "
        "or int4."
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="CPU threads.", show_default="torch's choice")
]
Speculate = Annotated[
    str,
    typer.Option(
        help="none, or ctc: the CTC head of the model drafts texts, which the decoder verifies."
    ),
]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Most chunks decoded at once, over all recordings.")
]
Language = Annotated[
    str, typer.Option("--language", "-l", help="auto, or the language by code or English name.")
]
Languages = Annotated[
    str | None,
    typer.Option(
        help="Languages that the model may choose from, such as en,zh.",
        show_default="all that the model knows",
    ),
]
Context = Annotated[str, typer.Option(help="Names and words to expect; for models with a decoder.")]
ChunkSeconds = Annotated[
    float | None,
    typer.Option(
        help="Target length of the chunks that a recording is cut into, at quiet places.",
        show_default="the model's default, or 30",
    ),
]
Vad = Annotated[
    bool | None,
    typer.Option(
        "--vad/--no-vad",
        help="Voice activity detection: cut where nobody speaks, and leave long silence out.",
        show_default="the model's default, or no-vad",
    ),
]
Aligner = Annotated[
    str | None,
    typer.Option(
        help="Model that finds the times of words.", show_default="the model's own CTC head"
    ),
]
OutputFormat = Annotated[str, typer.Option("--output-format", "-f", help="txt or json.")]
TestSets = Annotated[
    list[str],
    typer.Option(
        help="Recordings with transcripts: a CSV with the columns wav and text, a folder with a "
        ".txt file for every recording, or a folder in the layout of LibriSpeech. Repeatable."
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Use only the first N clips of every set.", metavar="N"),
]


@dataclass(frozen=True)
class ModelOptions:
    """Which model is used, and how it is loaded."""

    model: Model = None
    revision: Revision = None
    device: Device = None
    dtype: Dtype = "auto"
    threads: Threads = None
    attention_window: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=8,
            help="Seconds of audio that the encoder's attention covers.",
            show_default="as the model was trained",
        ),
    ] = None

    def load_options(self) -> LoadOptions:
        """How the model is loaded."""
        values = asdict(self)
        del values["model"]
        return cast("LoadOptions", values)

    def pipeline(self, speculate: str = "none") -> AsrPipeline:
        """Load the model as a pipeline."""
        from auris.pipeline import AsrPipeline

        return AsrPipeline.from_pretrained(self.model, speculate=speculate, **self.load_options())

    def aligner(self) -> ForcedAligner:
        """Load the model as an aligner."""
        from auris.alignment.aligner import ForcedAligner

        return ForcedAligner.from_pretrained(self.model, **self.load_options())


@dataclass(frozen=True)
class SpeechOptions:
    """What is transcribed of recordings, and how."""

    batch_seconds: Annotated[
        float | None,
        typer.Option(help="Most seconds of audio decoded at once.", show_default="no limit"),
    ] = None
    language: Language = "auto"
    languages: Languages = None
    context: Context = ""
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Token budget of a chunk.", show_default="64, and 16 for each second"
        ),
    ] = None
    chunk_seconds: ChunkSeconds = None
    vad: Vad = None
    start: Annotated[float, typer.Option(help="First second to transcribe.")] = 0.0
    duration: Annotated[
        float | None, typer.Option(help="Seconds to transcribe.", show_default="all")
    ] = None
    end: Annotated[
        float | None,
        typer.Option(help="Second to transcribe up to, instead of --duration.", show_default="all"),
    ] = None
    channels: Annotated[
        str,
        typer.Option(help="mix, or split to transcribe every channel separately, as a speaker."),
    ] = "mix"
    track: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of the sound track, from 1.", show_default="the container's default"
        ),
    ] = None
    allow_damaged: Annotated[
        bool,
        typer.Option(
            "--allow-damaged", help="Transcribe what can be read of a damaged file, with a warning."
        ),
    ] = False
    speakers: Annotated[
        str | None,
        typer.Option(
            help="Names of the speakers of split channels, separated by commas.",
            show_default="channel 1,channel 2",
        ),
    ] = None
    temperature: Annotated[
        float, typer.Option(help="0 takes the most probable token; above 0 tokens are sampled.")
    ] = 0
    seed: Annotated[int, typer.Option(help="Random seed for sampling.")] = 0
    word_timestamps: Annotated[
        bool,
        typer.Option(
            "--word-timestamps", help="Find the times of every word; for formats with times."
        ),
    ] = False
    aligner: Aligner = None
    clean: Annotated[
        str | None,
        typer.Option(
            help="Clean-up of texts, separated by commas: numbers (English ones in digits), "
            "punctuation.",
            show_default="none",
        ),
    ] = None

    def check(self) -> None:
        """Refuse options that do not go together, before a model is loaded.

        Raises:
            UsageError: there are such.
        """
        if self.aligner is not None and not self.word_timestamps:
            raise UsageError(
                "--aligner names the model for --word-timestamps",
                "that option is not given",
                "add --word-timestamps",
            )
        if self.end is None:
            return
        if self.duration is not None:
            raise UsageError(
                "The span ends at --end or after --duration", "both are given", "give one of them"
            )
        if not self.end > self.start:
            raise UsageError(
                "--end has to be later than --start",
                f"they are {self.end:g} and {self.start:g}",
                "correct them",
            )

    @property
    def seconds(self) -> float | None:
        """Length of the span that is transcribed; None for all of a recording."""
        return self.duration if self.end is None else self.end - self.start

    def call(self, model: ModelOptions) -> CallOptions:
        """The options of a call; an aligner is loaded with the device and dtype of the model."""
        values = asdict(self)
        for name in ("language", "context", "end"):
            del values[name]
        values["duration"] = self.seconds
        values["languages"] = listed(self.languages)
        values["speakers"] = listed(self.speakers)
        values["clean"] = listed(self.clean) or []
        if self.aligner is not None:
            options = ModelOptions(self.aligner, device=model.device, dtype=model.dtype)
            values["aligner"] = options.aligner()
        return cast("CallOptions", values)


@dataclass(frozen=True)
class CueOptions:
    """How much text a cue holds."""

    max_line_width: Annotated[
        int | None,
        typer.Option(help="Most columns of a line in srt, vtt and lrc.", show_default="42"),
    ] = None
    max_line_count: Annotated[
        int | None, typer.Option(help="Most lines of a cue in srt and vtt.", show_default="2")
    ] = None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command in which every parameter that is a group of options becomes these options."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        group = hints[name]
        if not is_dataclass(group):
            parameters.append(parameter.replace(annotation=group))
            continue
        groups[name] = group
        kinds = get_type_hints(group, include_extras=True)
        parameters += [
            parameter.replace(name=f.name, annotation=kinds[f.name], default=f.default)
            for f in fields(group)
        ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{f.name: values.pop(f.name) for f in fields(group)})
        command(**values)

    # Typer shows the lines of a paragraph as they are, however wide the terminal is.
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    run.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def listed(value: str | None) -> list[str] | None:
    """The parts of an option's value that commas separate."""
    return None if value is None else [part.strip() for part in value.split(",")]


def check_format(output_format: str) -> None:
    """Refuse an output format other than txt and json.

    Raises:
        UsageError: it is another one.
    """
    if output_format not in ("txt", "json"):
        raise UsageError(
            "The output format has to be txt or json",
            f"it is {output_format!r}",
            "choose one with -f",
        )
