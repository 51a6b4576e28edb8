"""Calls of the pipeline: checks of requests by the model, and one recording being transcribed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from auris.errors import AurisError, EngineError
from auris.recognition.options import CallOptions
from auris.recognition.scheduler import Failure, KnownSegments, SegmentDone
from auris.server.engine import Priority
from auris.server.errors import ClientDisconnected, invalid
from auris.server.model_registry import ServedModel
from auris.server.schema import ModelCapabilities
from auris.server.speakers import RequestedSpeakers
from auris.server.tracing import span
from auris.server.transcription_request import TranscriptionRequest
from auris.server.upload_validation import Recording
from auris.text.languages import LANGUAGES
from auris.types import Segment, Transcript


def check_options(
    served: ServedModel, request: TranscriptionRequest, most_prompt_letters: int
) -> None:
    """Refuse what a model cannot do, before the recording is read."""
    if len(request.context) > most_prompt_letters:
        name = "prompt" if request.prompt else "keywords[]"
        raise invalid(name, f"prompt and keywords may have {most_prompt_letters} letters together")
    if request.temperature and ((request.beam_size or 1) > 1 or request.keywords):
        raise invalid("temperature", "it has to be 0 with beam_size and keywords[]")
    pipeline = served.pipelines[Priority.FILE]
    request = served.fitted(request)
    if request.temperature and request.prompt and not request.reads_contexts:
        raise invalid("temperature", "it has to be 0 with prompt, whose words are hotwords here")
    if request.by_voice:
        served.diarizer.get()
    # Without recordings, the pipeline only checks the options.
    list(pipeline.updates([], request.language, request.context, **_options(served, request)))


def capabilities(served: ServedModel) -> ModelCapabilities:
    """What requests to a model may contain. Languages and words are found by the checks of
    requests; every model takes prompts, as contexts or hotwords, and speakers."""

    def can(**fields: str | tuple[str, ...]) -> bool:
        form = {"model": served.name, "response_format": "verbose_json", **fields}
        try:
            check_options(served, TranscriptionRequest.model_validate(form), 1)
        except AurisError:
            return False
        return True

    return {
        "languages": [code for code in LANGUAGES if can(language=code)],
        "prompt": True,
        "words": can(timestamp_granularities=("word",)),
        "speakers": True,
    }


def _options(served: ServedModel, request: TranscriptionRequest) -> CallOptions:
    languages = None if request.language else tuple(filter(None, request.languages))
    search = served.search(request)
    options: CallOptions = {
        "temperature": search["temperature"],
        "beam_size": search["beam_size"],
        "hotwords": search["hotwords"],
        "languages": languages or None,
        "clean": request.clean,
        "vad": True if request.chunking_strategy else None,
        "vad_model": served.vad_model,
        "urls": None,
    }
    if request.words:
        options["word_timestamps"] = True
        options["aligner"] = served.aligner
    return options


@dataclass
class Call:
    """A recording and what is requested of it.

    Attributes:
        chunk_seconds: target length of the chunks; None for the model's own.
        speakers: how speakers are told apart; None where they are not.
        cancelled: set when the client disconnects.
    """

    served: ServedModel
    request: TranscriptionRequest
    recording: Recording
    priority: Priority
    chunk_seconds: float | None
    speakers: RequestedSpeakers | None
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def options(self) -> CallOptions:
        """Options of the pipeline."""
        options = _options(self.served, self.request)
        options["batch_size"] = self.served.engine.rows
        options["chunk_seconds"] = self.chunk_seconds
        options["cancel"] = self.cancelled
        if self.speakers is None:
            return options
        if self.speakers.diarizer is None:
            options["channels"] = "split"
            options["speakers"] = self.speakers.names
            return options
        options["diarize"] = self.speakers.diarizer
        options["aligner"] = self.served.aligner
        options["speakers"] = self.request.speakers
        options["min_speakers"] = self.request.min_speakers
        options["max_speakers"] = self.request.max_speakers
        return options

    def run(
        self,
        report: Callable[[Segment], None] = lambda segment: None,
        known: KnownSegments | None = None,
        recognized: Callable[[Segment], None] | None = None,
    ) -> Transcript:
        """Transcribe, and report every segment in the order of time.

        Args:
            report: called with every segment, which has its speaker.
            known: looks up segments that were recognized before.
            recognized: called with every segment before voices are told apart.

        Raises:
            AurisError: the recording or the engine failed.
            ClientDisconnected: the client has disconnected.
        """
        with span("recognize", seconds=self.recording.seconds) as attributes:
            transcript = self._transcript(report, known, recognized)
            attributes |= {f"{stage}_seconds": one for stage, one in transcript.timings.items()}
            return transcript

    def _transcript(
        self,
        report: Callable[[Segment], None],
        known: KnownSegments | None,
        recognized: Callable[[Segment], None] | None,
    ) -> Transcript:
        for update in self.served.pipelines[self.priority].updates(
            [self.recording.again()],
            self.request.language,
            self.request.context,
            known=known,
            recognized=recognized,
            **self.options,
        ):
            if isinstance(update, SegmentDone):
                report(update.segment)
            elif isinstance(update.result, Failure):
                raise update.result.error
            elif update.result.finish_reason != "cancelled":
                return update.result
        if self.cancelled.is_set():
            raise ClientDisconnected
        raise EngineError("The server is stopping", "", "send the recording again")
