"""What the connections of a Wyoming server share: models, limits, and their description."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from auris import __version__
from auris.audio.segmentation import CHUNK_SECONDS, Cutter
from auris.errors import AurisError, UsageError
from auris.pipeline import AsrPipeline
from auris.recognition.load import check_count, check_number
from auris.streaming.pool import StreamPool
from auris.text.languages import LANGUAGES
from auris.wyoming.events import WyomingError

AUTHOR = Attribution("Auris", "")


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        streams: transcriptions at a time.
        audio_seconds: longest audio of a transcription.
        idle_seconds: longest time in which a client sends nothing, or reads nothing.
        stop_seconds: time that a transcription whose audio is complete has when the server stops.
    """

    streams: int = 16
    audio_seconds: float = 600.0
    idle_seconds: float = 300.0
    stop_seconds: float = 10.0

    def __post_init__(self) -> None:
        check_count("--max-streams", self.streams)
        check_number("--max-audio-seconds", self.audio_seconds, 1, 1e6)
        check_number("--idle-seconds", self.idle_seconds, 0.01, 1e6)
        check_number("--stop-seconds", self.stop_seconds, 0, 1e6)


@dataclass(frozen=True)
class WyomingModel:
    """A model that clients can name.

    Attributes:
        pool: the streams of all clients, whose steps run as one batch.
        languages: codes of the languages that can be requested.
        chunk_seconds: target length of chunks.
        vad_model: the detector of speech, of `auris.audio.activity.VAD_MODELS`.
    """

    name: str
    pipeline: AsrPipeline
    pool: StreamPool
    languages: list[str]
    chunk_seconds: float
    vad_model: str

    @classmethod
    def of(
        cls,
        pipeline: AsrPipeline,
        streams: int,
        chunk_seconds: float | None = None,
        vad_model: str = "auto",
    ) -> WyomingModel:
        """A loaded model, for up to that many transcriptions at a time.

        Args:
            chunk_seconds: None for the model's inference default, or else 30.
            vad_model: the detector, where the model's inference defaults use one.
        """
        chunk_seconds = chunk_seconds or pipeline.defaults.chunk_seconds or CHUNK_SECONDS
        Cutter(chunk_seconds, vad_model=vad_model)  # Refuses what is out of range.
        name = pipeline.model.name
        if pipeline.model.origin == "directory":
            name = Path(name).resolve().name  # Clients need not know where it is.
        languages = [code for code in LANGUAGES if _knows(pipeline, code)]
        pool = pipeline.streams(streams)
        return cls(name, pipeline, pool, languages, chunk_seconds, vad_model)

    def describe(self) -> AsrModel:
        """What clients learn about it."""
        return AsrModel(
            name=self.name,
            attribution=AUTHOR,
            installed=True,
            description=f"Auris with the model {self.name}",
            version=None,
            languages=self.languages,
        )


def _knows(pipeline: AsrPipeline, language: str) -> bool:
    try:
        list(pipeline.updates([], language))  # Without recordings, options are only checked.
    except AurisError:
        return False
    return True


class Service:
    """The models and the state of a running server.

    Attributes:
        stopping: set when the server stops.
        active: transcriptions in progress.
    """

    def __init__(self, models: Sequence[WyomingModel], limits: Limits) -> None:
        self.limits = limits
        self.stopping = asyncio.Event()
        self.active = 0
        self._default = models[0]
        self._models = {model.name: model for model in models}
        if len(self._models) < len(models):
            names = ", ".join(model.name for model in models)
            raise UsageError("Models need different names", f"they are {names}", "rename one")

    def describe(self) -> Info:
        """The answer to `describe`."""
        program = AsrProgram(
            name="auris",
            attribution=AUTHOR,
            installed=True,
            description="Auris speech recognition",
            version=__version__,
            models=[model.describe() for model in self._models.values()],
            supports_transcript_streaming=True,
            requires_external_vad=True,
            # The models were trained on audio as microphones record it.
            prefers_auto_gain_enabled=False,
            prefers_noise_reduction_enabled=False,
        )
        return Info(asr=[program])

    def pick(self, name: str | None) -> WyomingModel:
        """The model of a name, or the default."""
        if not name:
            return self._default
        if name not in self._models:
            known = ", ".join(map(repr, self._models))
            text = f"The model {name[:100]!r} does not exist here; there is {known}."
            raise WyomingError(text, "unknown_model")
        return self._models[name]
