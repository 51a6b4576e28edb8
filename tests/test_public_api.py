"""What docs/releases.md calls public: removing or renaming something here is a change that the
version and CHANGELOG.md have to tell."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

import auris
from auris import errors

NAMES = {
    "auris": (
        "AsrPipeline AsyncStreamSession AurisError Chunk Device Diarizer Failure ForcedAligner "
        "Progress Segment SpeakerTurn StreamPool StreamSession StreamUpdate Transcript Waveform "
        "Word __version__"
    ),
    "auris.compat.faster_whisper": (
        "BatchedInferencePipeline TranscriptionInfo WhisperModel WhisperSegment WhisperWord "
        "available_models decode_audio"
    ),
    "auris.compat.qwen_asr": (
        "ASRStreamingState ASRTranscription ForcedAlignItem ForcedAlignResult Qwen3ASRModel "
        "Qwen3ForcedAligner parse_asr_output"
    ),
}

ERRORS = (
    "AlignmentError AudioError AurisError CheckpointError ConfigError DecoderCrashed DeviceError "
    "EmptyAudio EngineError InvalidSamples LanguageError MissingExtra ModelNotFound OutputError "
    "TensorError TokenizerError TrainingError TrainingStopped UnknownDevice UnknownModel "
    "UnreadableAudio UnsupportedOption UsageError"
)

PARAMETERS = {
    "AsrPipeline.from_pretrained": "model speculate lm options",
    "AsrPipeline.transcribe": "self audio language context options",
    "AsrPipeline.results": "self sources language context options",
    "AsrPipeline.segments": "self audio language context options",
    "AsrPipeline.detect_language": "self audio start duration",
    "AsrPipeline.stream": "self language context pool options",
    "AsrPipeline.astream": "self language context pool options",
    "AsrPipeline.streams": "self streams",
    "ForcedAligner.from_pretrained": "model options",
    "ForcedAligner.align": "self audio text language start duration",
    "StreamSession.feed": "self samples rate",
    "StreamSession.finish": "self",
    "StreamSession.close": "self",
    "StreamPool.feed": "self samples",
    "AsyncStreamSession.feed": "self samples rate",
    "AsyncStreamSession.listen": "self source",
}

FIELDS = {
    "Segment": "start end text language tokens avg_logprob confidence words speaker",
    "Word": "text start end confidence repaired speaker",
    "Transcript": "segments text words language finish_reason warnings turns",
}


@pytest.mark.parametrize("module", NAMES)
def test_names(module: str) -> None:
    exported = import_module(module)
    assert sorted(exported.__all__) == sorted(NAMES[module].split())
    assert all(getattr(exported, name) is not None for name in exported.__all__)


def test_errors() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert kinds == set(ERRORS.split())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    owner, _, method = name.partition(".")
    parameters = inspect.signature(getattr(getattr(auris, owner), method)).parameters
    assert list(parameters) == PARAMETERS[name].split()


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name: str) -> None:
    kind = getattr(auris, name)
    known = {*kind.__dataclass_fields__, *vars(kind)}
    assert set(FIELDS[name].split()) <= known
