"""The exception tree: every error that Auris raises on purpose.

    AurisError
    ├── UsageError              the call itself is wrong (command line exit code 2)
    ├── AudioError              a recording cannot be read or used
    │   ├── UnreadableAudio     missing, not audio, or broken
    │   │   └── DecoderCrashed  the process that decoded it crashed
    │   ├── EmptyAudio          readable, but without a single sample in the requested span
    │   └── InvalidSamples      samples that are NaN, infinite or misshapen
    ├── CheckpointError         a model directory does not hold what its layout demands
    │   ├── ModelNotFound       a hub id that cannot be fetched
    │   │   └── UnknownModel    a name that is no directory, bundled model or hub id (exit code 2)
    │   ├── ConfigError         a config key is missing or has an impossible value
    │   └── TensorError         a tensor is missing, unknown, misshapen or of a wrong type
    ├── TokenizerError          a vocabulary lacks what the prompt needs
    ├── DeviceError             a device or dtype that this machine does not have
    │   └── UnknownDevice       a device or dtype that does not exist (exit code 2)
    ├── LanguageError           a language that the model does not know (exit code 2)
    ├── UnsupportedOption       an option that the chosen model cannot honour (exit code 2)
    ├── AlignmentError          a text cannot be placed in its recording
    ├── OutputError             a result cannot be written
    ├── EngineError             the engine of a server failed or has stopped
    ├── TrainingError           training data or a recipe that cannot be used
    │   └── TrainingStopped     a signal stopped a run; its checkpoint was written
    └── MissingExtra            an optional package is needed and not installed

Every message is one sentence: what is required and what is the case instead, or what is wrong; then
what to do. Options are written as on the command line (`--chunk-seconds`); a message in Python
names the parameter (`chunk_seconds`).
"""

from __future__ import annotations

import re

_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


class AurisError(Exception):
    """Base of all errors of this package.

    Args:
        rule: what is required or what is wrong, as the beginning of a sentence.
        actual: what is the case instead; empty where the rule says it already.
        remedy: what the reader can do about it.
        by_span: what else, where the reader can choose a span of the recording.
    """

    exit_code = 1

    def __init__(self, rule: str, actual: str, remedy: str, by_span: str = "") -> None:
        super().__init__(rule, actual, remedy, by_span)
        self.rule = rule
        self.actual = actual
        self.remedy = remedy
        self.by_span = by_span

    @property
    def sentence(self) -> str:
        """The message with the options of the command line."""
        remedies = ", or ".join(filter(None, (self.remedy, self.by_span)))
        actual = f", but {self.actual}" if self.actual else ""
        return f"{self.rule}{actual}: {remedies}."

    def without_span(self) -> AurisError:
        """The same error for interfaces without spans of recordings."""
        return type(self)(self.rule, self.actual, self.remedy)

    def __str__(self) -> str:
        return _OPTION.sub(lambda option: option[1].replace("-", "_"), self.sentence)


class UsageError(AurisError):
    """The call itself is wrong."""

    exit_code = 2


class AudioError(AurisError):
    """A recording cannot be read or used."""


class UnreadableAudio(AudioError):
    """The source is missing, is not audio, or is broken."""


class DecoderCrashed(UnreadableAudio):
    """The process that decoded a recording crashed; it may have been killed by the system."""


class EmptyAudio(AudioError):
    """The source is readable but holds no sample in the requested span."""


class InvalidSamples(AudioError):
    """Samples are NaN or infinite, or the array has an impossible shape or rate."""


class CheckpointError(AurisError):
    """A model directory does not hold what its layout demands."""


class ModelNotFound(CheckpointError):
    """A hub id is not in the cache and cannot be fetched."""


class UnknownModel(ModelNotFound, UsageError):
    """A model name is neither a directory nor a bundled model nor a hub id."""


class ConfigError(CheckpointError):
    """A config key is missing or has an impossible value."""


class TensorError(CheckpointError):
    """A tensor is missing, unknown, misshapen or of a wrong type."""


class TokenizerError(AurisError):
    """A vocabulary lacks what the prompt needs."""


class DeviceError(AurisError):
    """A device or dtype that this machine does not have."""


class UnknownDevice(DeviceError, UsageError):
    """A device or dtype that does not exist anywhere."""


class LanguageError(AurisError):
    """A language that the model does not know."""

    exit_code = 2


class UnsupportedOption(AurisError):
    """An option that the chosen model cannot honour."""

    exit_code = 2


class AlignmentError(AurisError):
    """A text cannot be placed in its recording."""


class OutputError(AurisError):
    """A result cannot be written: no permission, no room, no such place."""


class EngineError(AurisError):
    """The engine of a server met a fault of the program, or has stopped."""


class TrainingError(AurisError):
    """Training data or a recipe that cannot be used."""


class TrainingStopped(TrainingError):
    """A signal stopped a run after a step; its checkpoint was written."""


class MissingExtra(AurisError):
    """An optional package is needed and not installed."""
