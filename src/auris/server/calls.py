"""One recording being transcribed for one caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from auris.errors import EngineError, UnsupportedOption
from auris.recognition.options import CallOptions
from auris.recognition.scheduler import Failure, KnownSegments, SegmentDone
from auris.server.engine_queue import Priority
from auris.server.errors import ApiError
from auris.server.model_registry import ServedModel
from auris.server.transcription_request import TranscriptionRequest
from auris.server.upload_validation import ClientDisconnected, Recording
from auris.types import Segment, Transcript

__all__ = ["DIARIZED", "Call", "ClientDisconnected", "check_options", "speakers_of"]

DIARIZED = "diarized_json"


def check_options(served: ServedModel, asked: TranscriptionRequest) -> None:
    """Refuse what a model cannot do, before its recording is looked at.

    Raises:
        AurisError: it cannot.
    """
    if asked.context and not served.pipelines[Priority.FILE].defaults.accepts_contexts:
        raise UnsupportedOption(
            "--context needs a model that was trained with contexts",
            f"{served.name!r} was trained without any, and would write wrong text",
            "leave it out",
        )
    pipeline = served.pipelines[Priority.FILE]
    # The sources are none, so that this only asks.
    for _ in pipeline.updates([], asked.language, asked.context, **_options(served, asked)):
        raise AssertionError


def speakers_of(asked: TranscriptionRequest, channels: int) -> tuple[str, ...]:
    """Names of the speakers, one a channel: those that were given, or A, B and so on.

    Raises:
        ApiError: the recording has one channel, or not as many as there are names.
    """
    if channels < 2:
        raise ApiError(
            400,
            "Unsupported 'response_format': diarized_json tells speakers apart by their channels, "
            "and this recording has one.",
            param="response_format",
            code="unsupported_parameter",
        )
    if asked.speakers and len(asked.speakers) != channels:
        raise ApiError(
            400,
            f"Invalid 'known_speaker_names[]': the recording has {channels} channels.",
            param="known_speaker_names[]",
            code="invalid_value",
        )
    return asked.speakers or tuple(chr(ord("A") + index) for index in range(channels))


def _options(served: ServedModel, asked: TranscriptionRequest) -> CallOptions:
    options: CallOptions = {
        "temperature": asked.temperature,
        "languages": asked.languages or None,
        "vad": True if asked.vad else None,
        "urls": None,
    }
    if asked.words:
        options["word_timestamps"] = True
        options["aligner"] = served.aligner
    return options


@dataclass
class Call:
    """A recording and what is asked of it.

    Attributes:
        served: the model.
        asked: the request.
        recording: what is transcribed.
        priority: whose turn comes first.
        chunk_seconds: target length of the pieces; None for what the model hears best.
        cancelled: set when the caller leaves.
    """

    served: ServedModel
    asked: TranscriptionRequest
    recording: Recording
    priority: Priority
    chunk_seconds: float | None
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def options(self) -> CallOptions:
        """What is asked of the pipeline."""
        options = _options(self.served, self.asked)
        options["batch_size"] = self.served.engine.rows
        options["chunk_seconds"] = self.chunk_seconds
        options["cancel"] = self.cancelled
        if self.asked.response_format == DIARIZED:
            options["channels"] = "split"
            options["speakers"] = speakers_of(self.asked, self.recording.channels)
        return options

    def run(
        self,
        report: Callable[[Segment], None] = lambda segment: None,
        known: KnownSegments | None = None,
    ) -> Transcript:
        """Transcribe.

        Args:
            report: called with every segment, in the order of time.
            known: looks up segments that were recognized before.

        Raises:
            AurisError: the recording or the engine failed.
            ClientDisconnected: the caller has left.
        """
        pipeline = self.served.pipelines[self.priority]
        for update in pipeline.updates(
            [self.recording.again()],
            self.asked.language,
            self.asked.context,
            known=known,
            **self.options,
        ):
            if isinstance(update, SegmentDone):
                report(update.segment)
            elif isinstance(update.result, Failure):
                raise update.result.error
            else:
                return self._whole(update.result)
        raise ClientDisconnected

    def _whole(self, transcript: Transcript) -> Transcript:
        if transcript.finish_reason != "cancelled":
            return transcript
        if self.cancelled.is_set():
            raise ClientDisconnected
        raise EngineError(
            "A transcript has to be whole", "the server is stopping", "send the recording again"
        )
