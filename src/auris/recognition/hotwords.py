"""Hotwords as a model supports them, and those of a context that it does not read."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache

from auris.checkpoints.inference_defaults import InferenceDefaults
from auris.recognition.hotword_lists import MOST_HOTWORD_LETTERS, in_lower_case
from auris.recognition.requests import DecodeOptions
from auris.text.context_phrases import phrases_of_context

_LOG = logging.getLogger(__name__)

CONTEXT_AS_HOTWORDS = (
    "The words of the context are used as hotwords, since this model has no context in its prompt."
)

CONTEXT_IGNORED = (
    "The context is ignored: this model has none in its prompt, and hotwords in its place need a "
    "temperature of 0 and words of at least two letters that the model writes."
)

HOTWORDS_WITHOUT_LETTERS = "Hotwords without a letter or a digit are left out."

HOTWORDS_NOT_WRITTEN = (
    "Hotwords with digits, symbols or letters other than a to z are left out, since this model "
    "writes none: spell them as they are spoken."
)


def supported_options(
    options: DecodeOptions, defaults: InferenceDefaults, reads_contexts: bool
) -> DecodeOptions:
    """The options as a model supports them.

    The words of a context are hotwords of a model that reads none. Hotwords are brought to the form
    in which the model writes, and those that it cannot write are left out, with a warning.

    Args:
        options: as they were given.
        defaults: of the model.
        reads_contexts: whether the model has a context in its prompt.
    """
    defaults.check_language(options.language, *(options.languages or ()))
    written = _as_written(options.hotwords, defaults)
    not_written = len(written) < len(options.hotwords)
    warnings = options.warnings + warned(HOTWORDS_NOT_WRITTEN, not_written)
    if options.context and not reads_contexts:
        named = _as_written(_hotwords_of_context(options), defaults)
        warnings += warned(CONTEXT_AS_HOTWORDS if named else CONTEXT_IGNORED)
        written += named
        options = replace(options, context="")
    return replace(options, hotwords=tuple(dict.fromkeys(written)), warnings=warnings)


def _as_written(phrases: tuple[str, ...], defaults: InferenceDefaults) -> tuple[str, ...]:
    """Phrases in the form in which a model writes, without those that it cannot write."""
    if not defaults.lower_case:
        return phrases
    return in_lower_case(phrases, letters_of_english=defaults.languages == ("English",))


def _hotwords_of_context(options: DecodeOptions) -> tuple[str, ...]:
    """The words of a context; none where tokens are sampled."""
    if options.sampling.temperature:
        return ()
    phrases = phrases_of_context(options.context)
    return tuple(phrase for phrase in phrases if len(phrase) <= MOST_HOTWORD_LETTERS)


def warned(warning: str, applies: bool = True) -> tuple[str, ...]:
    """A warning for the transcript, if it applies; it is also logged once."""
    if not applies:
        return ()
    log_once(warning)
    return (warning,)


@cache
def log_once(warning: str) -> None:
    """Log a warning, once in a process: calls of a server or of a program are often alike."""
    _LOG.warning(warning)
