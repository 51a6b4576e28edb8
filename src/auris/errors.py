"""Every exception that Auris raises on purpose.

A message is one sentence: what is required and what is the case instead, or what is wrong; then
what to do. Options are written as on the command line (`--chunk-seconds`); a message in Python
names the parameter (`chunk_seconds`). The exit code of the command line is 2 for wrong usage.
"""

from __future__ import annotations

import re

_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


class AurisError(Exception):
    """Base of all errors of this package.

    Args:
        rule: what is required or what is wrong, as the beginning of a sentence.
        actual: what is the case instead; empty if the rule says it already.
        remedy: what the reader can do about it.
        by_span: another remedy, for interfaces in which one can choose a span of the recording.
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
    """The source is readable but has no sample in the requested span."""


class InvalidSamples(AudioError):
    """Samples are NaN or infinite, or the array has an impossible shape or rate."""


class CheckpointError(AurisError):
    """A model directory lacks something, or contains something wrong."""


class ModelNotFound(CheckpointError):
    """A hub id is not in the cache and cannot be fetched."""


class UnknownModel(ModelNotFound, UsageError):
    """A model name is neither a directory nor a bundled model nor a hub id."""


class ConfigError(CheckpointError):
    """A config key is missing or has an impossible value."""


class TensorError(CheckpointError):
    """A tensor is missing, unknown, misshapen or of a wrong type."""


class TokenizerError(AurisError):
    """Tokenizer files are damaged, or lack a token that the prompt needs."""


class DeviceError(AurisError):
    """A device or dtype that this machine does not have."""


class UnknownDevice(DeviceError, UsageError):
    """A device or dtype that does not exist anywhere."""


class LanguageError(AurisError):
    """A language that the model does not know."""

    exit_code = 2


class UnsupportedOption(AurisError):
    """An option that the chosen model does not support."""

    exit_code = 2


class AlignmentError(AurisError):
    """A text cannot be aligned with its recording."""


class OutputError(AurisError):
    """A result cannot be written, for example without permission or space."""


class EngineError(AurisError):
    """The engine of a server failed, or has stopped."""


class TrainingError(AurisError):
    """Training data or a recipe that cannot be used."""


class TrainingStopped(TrainingError):
    """A signal stopped a run after a step; its checkpoint was written."""


class MissingExtra(AurisError):
    """An optional package is needed and not installed."""
