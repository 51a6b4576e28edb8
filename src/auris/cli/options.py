"""Options that several commands share, declared once, and what they load."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from auris.cli.advice import advise_int8
from auris.cli.declare import CUTS, MACHINE, SEARCH, SPAN, SPEAKERS, TEXT, WORK, option
from auris.cli.speakers import VoiceOptions
from auris.cli.values import listed, read_hotwords
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.alignment.aligner import ForcedAligner
    from auris.pipeline import AsrPipeline
    from auris.recognition.load import LoadOptions
    from auris.recognition.options import CallOptions


MODEL_HELP = (
    "Directory, bundled model or hub id (OWNER/NAME or OWNER/NAME@REVISION). Default: AURIS_MODEL, "
    "or the bundled model tiny."
)
Model = Annotated[str | None, option(MODEL_HELP, "--model", "-m", default=False)]
Models = Annotated[
    list[str] | None, option(f"{MODEL_HELP} Repeatable.", "--model", "-m", default=False)
]
SourceModel = Annotated[
    str, typer.Argument(metavar="IN", help="Model: directory, bundled model or hub id.")
]
TargetDirectory = Annotated[
    Path, typer.Argument(metavar="OUT", help="Directory to write; it must be new or empty.")
]
Revision = Annotated[
    str | None,
    option("Branch, tag or commit of a hub id.", default="the main branch", group=MACHINE),
]
Device = Annotated[
    str | None,
    option(
        "auto, cpu, cuda, cuda:N, mps or metal (another name of mps). Default: AURIS_DEVICE, "
        "or auto.",
        default=False,
    ),
]
Dtype = Annotated[
    str,
    option(
        "auto (the stored type, if the device computes in it), float32, bfloat16, float16, int8 "
        "or int4.",
        group=MACHINE,
    ),
]
Threads = Annotated[
    int | None, option("CPU threads.", default="torch's choice", min=1, max=1024, group=MACHINE)
]
Speculate = Annotated[
    str,
    option(
        "ctc: texts of the model's CTC head are drafts that the decoder verifies; or none.",
        group=SEARCH,
    ),
]
Lm = Annotated[
    str,
    option(
        "Language model that scores texts in the search: auto (that of the model's default "
        "search, which the bundled models have), none, english (the bundled one), a file that "
        "auris train lm writes, or an ARPA file.",
        group=SEARCH,
    ),
]
BatchSize = Annotated[
    int, option("Maximum number of chunks in a batch, of all recordings.", min=1, group=WORK)
]
Language = Annotated[
    str, option("auto, or the language by code or English name.", "--language", "-l")
]
Languages = Annotated[
    str | None,
    option(
        "Languages that the model may choose from, such as en,zh.",
        default="all that the model knows",
        group=SEARCH,
    ),
]
Context = Annotated[
    str, option("Names and words to expect; hotwords of a model that reads no context.")
]
BeamSize = Annotated[
    int | None,
    option(
        "Hypotheses of a text that are followed at a time; 1 takes the best token at every step, "
        "without a language model.",
        default="that of the model's search, or 1 without a language model",
        min=1,
        max=16,
        group=SEARCH,
    ),
]
HotwordList = Annotated[
    str | None,
    option(
        "Words and phrases that are written more readily, such as names: separated by commas, or a "
        "text file with one on each line.",
        "--hotwords",
        default="none",
    ),
]
ChunkSeconds = Annotated[
    float | None,
    option(
        "Target length of the chunks that a recording is cut into, at quiet places.",
        default="the model's default, or 30",
        group=CUTS,
    ),
]
Vad = Annotated[
    bool | None,
    option(
        "Voice activity detection: cut where nobody speaks, and leave long silence out.",
        "--vad/--no-vad",
        default="the model's default, or no-vad",
        group=CUTS,
    ),
]
VadModel = Annotated[
    Literal["auto", "energy", "silero"],
    option(
        "Detector of speech: energy (levels above the noise), silero (the network of silero-vad), "
        "or auto: silero where that is installed, and else energy.",
        group=CUTS,
    ),
]
Aligner = Annotated[
    str | None,
    option("Model that finds the times of words.", default="the model's own CTC head", group=TEXT),
]
OutputFormat = Annotated[Literal["txt", "json"], option("Output format.", "--output-format", "-f")]
TestSets = Annotated[
    list[str],
    option(
        "Recordings with transcripts: a CSV with the columns wav and text, a folder with a "
        ".txt file for every recording, or a folder in the layout of LibriSpeech. Repeatable."
    ),
]
ClipLengths = Annotated[str, option("Lengths of the clips of noise, separated by commas.")]
ClipTokens = Annotated[int, option("Tokens to decode of every clip.", min=2)]
Dtypes = Annotated[
    str, option("As of auris transcribe; several, separated by commas, are interleaved.")
]
Peers = Annotated[str, option("Other programs on the weights of the first model: transformers.")]
Runs = Annotated[int, option("Counted runs of each, after one that warms up.", min=1)]
Limit = Annotated[
    int | None, option("Use only the first N clips of every set.", min=1, metavar="N")
]


def models_or_default(models: list[str] | None) -> list[str]:
    """The models that are named, or the default model."""
    from auris.checkpoints.hub import DEFAULT_MODEL

    return models or [os.environ.get("AURIS_MODEL") or DEFAULT_MODEL]


def show_loading(models: list[str] | None) -> None:
    """Tell on a terminal which models are loaded, since a server answers some seconds later."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"auris: loading {', '.join(models_or_default(models))}\n")


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
        option(
            "Seconds of audio that the encoder's attention covers.",
            default="as the model was trained",
            min=1,
            max=8,
            group=MACHINE,
        ),
    ] = None
    adapter: Annotated[
        Path | None,
        option(
            "Directory of adapters (LoRA) that change the model's decoder, as written by "
            "auris train export --adapter.",
            default="none",
            group=MACHINE,
        ),
    ] = None

    @property
    def is_default(self) -> bool:
        """Whether no model is named, here or in the environment."""
        return self.model is None and not os.environ.get("AURIS_MODEL")

    def load_options(self) -> LoadOptions:
        """How the model is loaded."""
        values = {name: value for name, value in vars(self).items() if name != "model"}
        return cast("LoadOptions", values)

    def pipeline(
        self, speculate: str = "none", lm: str = "auto", beam_size: int | None = None
    ) -> AsrPipeline:
        """Load the model as a pipeline.

        Args:
            speculate, lm: see `AsrPipeline`.
            beam_size: of the command, which a language model that is named needs to be larger
                than 1.
        """
        from auris.pipeline import AsrPipeline

        if lm not in ("auto", "none") and beam_size == 1:
            raise UsageError(
                "A language model needs a search with a beam of 2 or more",
                f"--lm is {lm!r}, and --beam-size is 1",
                "leave one of them out",
            )
        options = self.load_options()
        pipeline = AsrPipeline.from_pretrained(self.model, speculate=speculate, lm=lm, **options)
        advise_int8(pipeline)
        return pipeline

    def aligner(self) -> ForcedAligner:
        """Load the model as an aligner."""
        from auris.alignment.aligner import ForcedAligner

        return ForcedAligner.from_pretrained(self.model, **self.load_options())


@dataclass(frozen=True)
class SpeechOptions(VoiceOptions):
    """What is transcribed of recordings, and how."""

    batch_seconds: Annotated[
        float | None, option("Maximum seconds of audio in a batch.", default="no limit", group=WORK)
    ] = None
    language: Language = "auto"
    languages: Languages = None
    context: Context = ""
    max_new_tokens: Annotated[
        int | None,
        option(
            "Token budget of a chunk.", default="64, and 16 for each second", min=1, group=SEARCH
        ),
    ] = None
    chunk_seconds: ChunkSeconds = None
    vad: Vad = None
    vad_model: VadModel = "auto"
    start: Annotated[float, option("First second to transcribe.", group=SPAN)] = 0.0
    duration: Annotated[
        float | None, option("Seconds to transcribe.", default="all", group=SPAN)
    ] = None
    end: Annotated[
        float | None,
        option("Second to transcribe up to, instead of --duration.", default="all", group=SPAN),
    ] = None
    channels: Annotated[
        str,
        option("mix, or split to transcribe every channel separately, as a speaker.", group=SPAN),
    ] = "mix"
    track: Annotated[
        int | None,
        option(
            "Number of the sound track, from 1.",
            default="the container's default",
            min=1,
            group=SPAN,
        ),
    ] = None
    allow_damaged: Annotated[
        bool,
        option(
            "Transcribe the readable part of a damaged file, with a warning.",
            "--allow-damaged",
            group=SPAN,
        ),
    ] = False
    speakers: Annotated[
        str | None,
        option(
            "Names of the speakers of split channels, separated by commas. With --diarize their "
            "number, or their names in the order in which they begin to speak.",
            default="channel 1,channel 2",
            group=SPEAKERS,
        ),
    ] = None
    temperature: Annotated[
        float, option("0 takes the most probable token; above 0 tokens are sampled.", group=SEARCH)
    ] = 0
    seed: Annotated[int, option("Random seed for sampling.", group=SEARCH)] = 0
    beam_size: BeamSize = None
    hotwords: HotwordList = None
    word_timestamps: Annotated[
        bool,
        option(
            "Find the times of all words; for formats with times.", "--word-timestamps", group=TEXT
        ),
    ] = False
    aligner: Aligner = None
    clean: Annotated[
        str | None,
        option(
            "Clean-up of texts, separated by commas: numbers (English ones in digits), written "
            "(numbers, dates, currency and units of twelve languages), simplified or traditional "
            "(Chinese), punctuation. written and the scripts of Chinese need the extra written.",
            default="none",
            group=TEXT,
        ),
    ] = None

    def check(self) -> None:
        """Refuse options that do not go together, before a model is loaded."""
        if self.aligner is not None and not (self.word_timestamps or self.diarize):
            raise UsageError(
                "--aligner needs --word-timestamps or --diarize",
                "neither is given",
                "add --word-timestamps",
            )
        self.check_voices()
        if self.diarize and self.channels == "split":
            raise UsageError(
                "--diarize and --channels split exclude each other",
                "both are given",
                "tell speakers apart by voice or by channel",
            )
        if self.end is None:
            return
        if self.duration is not None:
            raise UsageError(
                "--end and --duration exclude each other", "both are given", "give one of them"
            )
        if not self.end > self.start:
            raise UsageError(
                "--end has to be later than --start",
                f"they are {self.end:g} and {self.start:g}",
                "give a later --end",
            )

    @property
    def seconds(self) -> float | None:
        """Length of the span that is transcribed; None for all of a recording."""
        return self.duration if self.end is None else self.end - self.start

    def call(self, model: ModelOptions) -> CallOptions:
        """The options of a call; an aligner is loaded with the device and dtype of the model."""
        values = asdict(self)
        for name in ("language", "context", "end", "known_speakers", "speaker_model"):
            del values[name]
        values["duration"] = self.seconds
        values["languages"] = listed(self.languages)
        values["speakers"] = self.number_or_names(self.speakers)
        values["diarize"] = self.diarizer()
        values["clean"] = listed(self.clean) or []
        values["hotwords"] = read_hotwords(self.hotwords)
        if self.aligner is not None:
            options = ModelOptions(self.aligner, device=model.device, dtype=model.dtype)
            values["aligner"] = options.aligner()
        return cast("CallOptions", values)


@dataclass(frozen=True)
class CueOptions:
    """How much text a cue holds."""

    max_line_width: Annotated[
        int | None,
        option("Maximum columns of a line in srt, vtt and lrc.", default="42", group=TEXT),
    ] = None
    max_line_count: Annotated[
        int | None, option("Maximum lines of a cue in srt and vtt.", default="2", group=TEXT)
    ] = None
