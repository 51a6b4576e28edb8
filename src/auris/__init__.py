"""Auris: speech recognition that people run themselves.

    from auris import AsrPipeline

    pipeline = AsrPipeline.from_pretrained()
    print(pipeline.transcribe("recording.mp3"))

Importing this package loads nothing else; each name is imported when it is first used. The program
can therefore handle Ctrl-C before it loads its modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auris.alignment.aligner import ForcedAligner
    from auris.backends.devices import Device
    from auris.diarization.diarizer import Diarizer
    from auris.errors import AurisError
    from auris.pipeline import AsrPipeline
    from auris.recognition.scheduler import Failure, Progress
    from auris.streaming.async_session import AsyncStreamSession
    from auris.streaming.pool import StreamPool
    from auris.streaming.session import StreamSession, StreamUpdate
    from auris.types import Chunk, Segment, SpeakerTurn, Transcript, Waveform, Word

__version__ = "0.1.0"

__all__ = [
    "AsrPipeline",
    "AsyncStreamSession",
    "AurisError",
    "Chunk",
    "Device",
    "Diarizer",
    "Failure",
    "ForcedAligner",
    "Progress",
    "Segment",
    "SpeakerTurn",
    "StreamPool",
    "StreamSession",
    "StreamUpdate",
    "Transcript",
    "Waveform",
    "Word",
    "__version__",
]

_LAZY = {
    "AsrPipeline": "auris.pipeline",
    "AsyncStreamSession": "auris.streaming.async_session",
    "AurisError": "auris.errors",
    "Chunk": "auris.types",
    "Device": "auris.backends.devices",
    "Diarizer": "auris.diarization.diarizer",
    "Failure": "auris.recognition.scheduler",
    "ForcedAligner": "auris.alignment.aligner",
    "Progress": "auris.recognition.scheduler",
    "Segment": "auris.types",
    "SpeakerTurn": "auris.types",
    "StreamPool": "auris.streaming.pool",
    "StreamSession": "auris.streaming.session",
    "StreamUpdate": "auris.streaming.session",
    "Transcript": "auris.types",
    "Waveform": "auris.types",
    "Word": "auris.types",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
