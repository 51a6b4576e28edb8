"""Auris: speech recognition that people run themselves.

    from auris import AsrPipeline

    pipeline = AsrPipeline.from_pretrained()
    print(pipeline.transcribe("recording.mp3"))

Importing this package loads no torch; the pipeline is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from auris.errors import AurisError
from auris.types import Chunk, Segment, Transcript, Waveform, Word

if TYPE_CHECKING:
    from auris.alignment.aligner import ForcedAligner
    from auris.backends.torch import Device
    from auris.pipeline import AsrPipeline
    from auris.recognition.scheduler import Failure, Progress
    from auris.streaming.session import (
        AsyncStreamSession,
        StreamPool,
        StreamSession,
        StreamUpdate,
    )

__version__ = "0.1.0"

__all__ = [
    "AsrPipeline",
    "AsyncStreamSession",
    "AurisError",
    "Chunk",
    "Device",
    "Failure",
    "ForcedAligner",
    "Progress",
    "Segment",
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
    "AsyncStreamSession": "auris.streaming.session",
    "Device": "auris.backends.torch",
    "Failure": "auris.recognition.scheduler",
    "ForcedAligner": "auris.alignment.aligner",
    "Progress": "auris.recognition.scheduler",
    "StreamPool": "auris.streaming.session",
    "StreamSession": "auris.streaming.session",
    "StreamUpdate": "auris.streaming.session",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
