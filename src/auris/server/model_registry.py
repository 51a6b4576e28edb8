"""The served models, each with its engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from auris.alignment.aligner import ForcedAligner
from auris.audio.activity import chosen_model
from auris.errors import UsageError
from auris.pipeline import AsrPipeline
from auris.recognition.fingerprint import model_values
from auris.recognition.load import Loaded, load_model, make_recognizer, with_adapter
from auris.recognition.options import SearchOptions
from auris.server.engine import Engine, EngineBatch, Priority
from auris.server.errors import ApiError
from auris.server.settings import Settings
from auris.server.speakers import SharedDiarizer
from auris.server.transcription_request import TranscriptionRequest
from auris.streaming.pool import StreamPool


@dataclass(frozen=True)
class ServedModel:
    """A model that is served.

    Attributes:
        name: what callers ask for.
        engine: runs it.
        pipelines: over the engine, for each priority.
        pool: their streams, computed in the engine's thread.
        aligner: places words in the engine's thread: another model's, or by the own CTC head.
        since: when it was loaded, in seconds since 1970.
        values: what of it shapes results, see `auris.recognition.fingerprint.model_values`.
        diarizer: tells the speakers of calls apart by their voices.
        vad_model: the detector of speech that calls use.
        beam_size, hotwords: of requests that name none.
    """

    name: str
    engine: Engine
    pipelines: dict[Priority, AsrPipeline]
    pool: StreamPool
    aligner: ForcedAligner | None
    since: int
    values: dict[str, Any]
    diarizer: SharedDiarizer
    vad_model: str = "auto"
    beam_size: int | None = None
    hotwords: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of the content of the model and its adapters, which other servers may serve, too."""
        return f"{self.values['model_digest']}{self.values['adapter']}"

    def fitted(self, request: TranscriptionRequest) -> TranscriptionRequest:
        """A request whose keywords are context only if the model reads one."""
        reads_contexts = self.pipelines[Priority.FILE].reads_contexts
        return request if reads_contexts else request.for_model_without_contexts()

    def search(self, request: TranscriptionRequest) -> SearchOptions:
        """The beam and the hotwords of a request, or those of the server. Sampling has none."""
        beam_size, hotwords = request.beam_size, request.keywords
        if not request.temperature:
            beam_size = self.beam_size if beam_size is None else beam_size
            hotwords = hotwords or self.hotwords
        return {
            "temperature": request.temperature,
            "beam_size": beam_size,
            "hotwords": hotwords,
        }

    @classmethod
    def load(
        cls,
        model: str | None,
        settings: Settings,
        aligner: ForcedAligner | None,
        diarizer: SharedDiarizer,
    ) -> ServedModel:
        """Load a model."""
        loaded = AsrPipeline.from_pretrained(
            model,
            lm=settings.lm,
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
        )
        return cls.over(loaded, settings, aligner, diarizer)

    @classmethod
    def load_adapted(
        cls,
        model: str | None,
        settings: Settings,
        aligner: ForcedAligner | None,
        diarizer: SharedDiarizer,
    ) -> list[ServedModel]:
        """Load a model with each of the adapters, which share its weights."""
        served: list[ServedModel] = []
        loaded: Loaded | None = None
        for name, directory in settings.adapters:
            if loaded is None:
                loaded = load_model(
                    model,
                    device=settings.device,
                    dtype=settings.dtype,
                    threads=settings.threads,
                    adapter=directory,
                )
            else:
                loaded = with_adapter(loaded, directory)
            recognizer = make_recognizer(
                loaded.backend, loaded.checkpoint, loaded.tokenizer, lm=settings.lm
            )
            pipeline = AsrPipeline.over(recognizer, loaded.model, loaded.backend, loaded.defaults)
            one = cls.over(pipeline, settings, aligner, diarizer)
            served.append(replace(one, name=name))
        return served

    @classmethod
    def over(
        cls,
        loaded: AsrPipeline,
        settings: Settings,
        aligner: ForcedAligner | None,
        diarizer: SharedDiarizer,
    ) -> ServedModel:
        """Serve a model that is loaded."""
        values = model_values(loaded)  # Now, since the files may be replaced later.
        engine = Engine(loaded.recognizer, settings.batch_size)
        pipelines = {
            priority: AsrPipeline.over(
                loaded.recognizer,
                loaded.model,
                loaded.backend,
                loaded.defaults,
                partial(EngineBatch, engine, priority),
            )
            for priority in Priority
        }
        name = loaded.model.name
        if loaded.model.origin == "directory":
            name = Path(name).resolve().name  # Callers need not know where it is.
        pool = StreamPool(loaded.recognizer, settings.most_realtime_sessions, engine.between)
        chosen = settings.vad_model, settings.beam_size, settings.hotwords
        since = int(time.time())
        return cls(name, engine, pipelines, pool, aligner, since, values, diarizer, *chosen)


class ModelRegistry:
    """All served models, by name; the first one is the default, which may have further names."""

    def __init__(self, models: list[ServedModel], aliases: tuple[str, ...] = ()) -> None:
        self.default = models[0]
        self._models = {model.name: model for model in models}
        for alias in aliases:
            if alias in self._models:
                raise UsageError(
                    "--alias has to be a further name of the first model",
                    f"{alias!r} is the name of a model that is served",
                    "leave it out, or choose another name",
                )
        self.by_name = {**self._models, **dict.fromkeys(aliases, self.default)}

    @classmethod
    def load(cls, settings: Settings) -> ModelRegistry:
        """Load all models of the settings; an `AurisError` where one cannot be loaded."""
        chosen_model(settings.vad_model)
        aligner = None
        if settings.aligner is not None:
            aligner = ForcedAligner.from_pretrained(
                settings.aligner, device=settings.device, dtype=settings.dtype
            )
        diarizer = SharedDiarizer(settings.speaker_model)
        names = settings.models or (None,)
        models = [ServedModel.load(name, settings, aligner, diarizer) for name in names]
        models += ServedModel.load_adapted(names[0], settings, aligner, diarizer)
        for adapter, _ in settings.adapters:
            if [model.name for model in models].count(adapter) > 1:
                raise UsageError(
                    "Adapters that are served need names of their own",
                    f"{adapter!r} is the name of two models",
                    "choose another name for --adapter",
                )
        return cls(models, settings.aliases)

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def start(self) -> None:
        """Start all engines."""
        for model in self:
            model.engine.start()

    def stop(self) -> None:
        """Stop all engines."""
        for model in self:
            model.engine.stop()

    def pick(self, name: str) -> ServedModel:
        """The model of a name; an `ApiError` where there is none."""
        if name not in self.by_name:
            raise ApiError(
                404,
                f"The model {name[:100]!r} does not exist here; there is "
                f"{', '.join(map(repr, self.by_name))}.",
                param="model",
                code="model_not_found",
            )
        return self.by_name[name]
