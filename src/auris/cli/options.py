"""Options that several commands share, with one spelling and one help text.

A command takes a group of them as one parameter, whose type is a dataclass here; `with_options`
makes an option of each of its fields.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer

from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.alignment.aligner import ForcedAligner
    from auris.audio.io import Channels
    from auris.recognition.load import LoadOptions
    from auris.recognition.options import CallOptions

__all__ = [
    "BatchSize",
    "ChunkSeconds",
    "Context",
    "CueOptions",
    "Device",
    "Dtype",
    "Language",
    "Languages",
    "Model",
    "ModelOptions",
    "Speculate",
    "SpeechOptions",
    "Threads",
    "Vad",
    "listed",
    "with_options",
]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Directory, bundled model or hub id (OWNER/NAME or OWNER/NAME@REVISION); "
        "AURIS_MODEL or the bundled default.",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="auto, cpu, cuda, cuda:N, mps or metal (the same); AURIS_DEVICE or auto.",
        show_default=False,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto (as stored, where it is fast), float32, bfloat16, float16, int8 or int4."
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="CPU threads; torch's own choice by default.")
]
Speculate = Annotated[
    str,
    typer.Option(help="none, or ctc: the model's CTC head guesses what the decoder verifies."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Most pieces decoded at once, over all files.")]
Language = Annotated[
    str, typer.Option("--language", "-l", help="auto, or a code or English name to force.")
]
Context = Annotated[
    str, typer.Option(help="Names and words to expect; models with a decoder only.")
]
ChunkSeconds = Annotated[
    float | None,
    typer.Option(
        help="Cut longer recordings at quiet places about this far apart.",
        show_default="what the model hears best, or 30",
    ),
]
Languages = Annotated[
    str | None,
    typer.Option(help="Languages to choose from, as en,zh.", show_default="all of the model's"),
]
Vad = Annotated[
    bool | None,
    typer.Option(
        "--vad/--no-vad",
        help="Cut where nobody speaks and leave long silence out.",
        show_default="what the model hears best, or no-vad",
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it is loaded."""

    model: Model = None
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of a hub id.", show_default="the main branch"),
    ] = None
    device: Device = None
    dtype: Dtype = "auto"
    threads: Threads = None
    attention_window: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=8,
            help="Seconds that the encoder's attention sees.",
            show_default="what the model was trained with",
        ),
    ] = None

    def loading(self) -> LoadOptions:
        """The arguments of `from_pretrained` behind the model."""
        return {
            "revision": self.revision,
            "device": self.device,
            "dtype": self.dtype,
            "threads": self.threads,
            "attention_window": self.attention_window,
        }


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
        typer.Option(min=1, help="Token budget of a piece; by default 64, and 16 a second."),
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
        str, typer.Option(help="mix, or split to transcribe each by itself, with speakers.")
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
            help="Names for split channels, by commas.", show_default="channel 1,channel 2"
        ),
    ] = None
    temperature: Annotated[float, typer.Option(help="0 takes the best token, above it draws.")] = 0
    seed: Annotated[int, typer.Option(help="Random seed for sampling.")] = 0
    word_timestamps: Annotated[
        bool,
        typer.Option(
            "--word-timestamps", help="Give every word its times; not with txt or tsv alone."
        ),
    ] = False
    aligner: Annotated[
        str | None,
        typer.Option(help="Model that places the words; the model's own CTC head by default."),
    ] = None
    clean: Annotated[
        str | None,
        typer.Option(help="Clean-up of texts: numbers (English, in digits), punctuation."),
    ] = None

    def check(self) -> None:
        """Refuse options that do not go together, before a model is loaded.

        Raises:
            UsageError: there are such.
        """
        if self.aligner is not None and not self.word_timestamps:
            raise UsageError(
                "--aligner is the model for --word-timestamps",
                "these were not asked",
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
                "--end has to lie behind --start",
                f"they are {self.end:g} and {self.start:g}",
                "correct them",
            )

    @property
    def seconds(self) -> float | None:
        """Length of the span that is transcribed; None for all of a recording."""
        return self.duration if self.end is None else self.end - self.start

    def call(self, model: ModelOptions) -> CallOptions:
        """The options of a call; an aligner is loaded as the model is."""
        return {
            "batch_seconds": self.batch_seconds,
            "languages": listed(self.languages),
            "max_new_tokens": self.max_new_tokens,
            "chunk_seconds": self.chunk_seconds,
            "vad": self.vad,
            "start": self.start,
            "duration": self.seconds,
            "channels": cast("Channels", self.channels),
            "track": self.track,
            "allow_damaged": self.allow_damaged,
            "speakers": listed(self.speakers),
            "temperature": self.temperature,
            "seed": self.seed,
            "word_timestamps": self.word_timestamps,
            "aligner": self._aligner(model),
            "clean": listed(self.clean) or [],
        }

    def _aligner(self, model: ModelOptions) -> ForcedAligner | None:
        if self.aligner is None:
            return None
        from auris.alignment.aligner import ForcedAligner

        return ForcedAligner.from_pretrained(self.aligner, device=model.device, dtype=model.dtype)


@dataclass(frozen=True)
class CueOptions:
    """How much text a cue holds."""

    max_line_width: Annotated[
        int | None,
        typer.Option(help="Columns of a line of srt, vtt and lrc.", show_default="42"),
    ] = None
    max_line_count: Annotated[
        int | None, typer.Option(help="Lines of a cue of srt and vtt.", show_default="2")
    ] = None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are groups of options become the options of the groups."""
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
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{f.name: given.pop(f.name) for f in fields(group)})
        command(**given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def listed(given: str | None) -> list[str] | None:
    """The parts of an option's value that commas separate."""
    return None if given is None else [part.strip() for part in given.split(",")]
