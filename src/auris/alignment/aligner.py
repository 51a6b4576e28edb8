"""`ForcedAligner`: times of the words of known texts and of transcripts."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from auris.alignment.ctc import CtcAlignment
from auris.alignment.forced import MarkAlignment
from auris.audio.io import Source, load
from auris.backends.torch import TorchBackend
from auris.checkpoints.validation import check_vocabulary
from auris.config import AlignerConfig, AutCtcConfig, QwenAsrConfig
from auris.errors import AlignmentError, LanguageError, UnsupportedOption, UsageError
from auris.recognition.load import LoadOptions, load_model, with_ctc_head
from auris.text.languages import language_name
from auris.text.tokenizer import Tokenizer
from auris.text.words import split_words
from auris.types import Samples, Segment, Word

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Alignment(Protocol):
    """Aligns words: by a CTC head or by the marks of a forced aligner."""

    def check(self, language: str | None) -> None:
        """Raise UnsupportedOption or LanguageError for a language that the model does not know."""

    def words(self, samples: Samples, text: str, language: str | None) -> list[Word]:
        """Words of a text with their times in float32 samples [S], in the order of the text.

        Raises:
            AlignmentError: the text cannot be aligned.
            MissingExtra: the language's words need a package that is not installed.
        """

    def segment_words(
        self, samples: Samples, segment: Segment, states: Tensor | None = None
    ) -> list[Word]:
        """Words of a segment with their times in the samples of its chunk.

        Args:
            states: see `auris.recognition.requests.WordAligner`.
        """


class ForcedAligner:
    """Finds the times of the words of a known text. Build one with `from_pretrained`."""

    def __init__(self, alignment: Alignment, directory: Path | None = None) -> None:
        self.alignment = alignment
        self.directory = directory

    def check(self, language: str | None) -> None:
        """Raise UnsupportedOption or LanguageError for a language that the model does not know."""
        self.alignment.check(language)

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, **options: Unpack[LoadOptions]
    ) -> ForcedAligner:
        """Load a model that can align: a forced aligner, or one with a CTC head.

        Args:
            model: a directory, a bundled model's name or a hub id; by default AURIS_MODEL from
                the environment, or the bundled default.
            options: see `LoadOptions`.

        Raises:
            UnsupportedOption: the model cannot align.
            CheckpointError, TokenizerError, DeviceError: the model or the machine is not usable.
        """
        loaded = load_model(model, **options)
        backend, config, tokenizer = loaded.backend, loaded.checkpoint.config, loaded.tokenizer
        directory = loaded.model.directory
        if not isinstance(config, AlignerConfig):
            return cls(ctc_alignment(backend, config, tokenizer, directory), directory)
        check_vocabulary(config, tokenizer)
        return cls(MarkAlignment(backend, config, tokenizer), directory)

    def align(
        self,
        audio: Source,
        text: str,
        language: str | None = None,
        *,
        start: float = 0.0,
        duration: float | None = None,
    ) -> list[Word]:
        """Find the times of the words of a text in the recording in which it is spoken.

        Args:
            audio: a path, "-" (standard input), bytes, a binary file or (array, rate).
            text: the spoken text; an empty text has no words.
            language: code or English name; None or "auto" if it is not known.
            start: beginning of the span of the recording, in seconds.
            duration: its length in seconds; None for the rest.

        Returns:
            words in the order of the text, with times in seconds of the source that never go
            back; both times are None for a word that could not be aligned.

        Raises:
            AudioError: the recording cannot be read.
            LanguageError, UnsupportedOption: the model does not know the language.
            AlignmentError: the text cannot be aligned with the recording.
            MissingExtra: the language's words need a package that is not installed.
        """
        if not isinstance(text, str):
            raise UsageError(
                "text has to be a string", f"it is a {type(text).__name__}", "pass its text"
            )
        name = language_name(language)
        self.check(name)
        waveform = load(audio, start=start, duration=duration)
        words = self.alignment.words(waveform.samples, text, name)
        return _moved(words, waveform.start)

    def with_words(
        self, segment: Segment, samples: Samples, states: Tensor | None = None
    ) -> Segment:
        """A segment with its words; the words of a text that cannot be aligned have no times.

        Args:
            samples: float32 [S] of its chunk.
            states: encoder output [N, d_model] of the chunk, if the model that wrote the segment
                has computed it; None if it is not known.

        Raises:
            MissingExtra: the language's words need a package that is not installed.
        """
        if segment.no_speech:  # Its tokens may still write a text.
            return replace(segment, words=())
        try:
            words = self.alignment.segment_words(samples, segment, states)
        except (AlignmentError, LanguageError):
            spans = split_words(segment.text, segment.language)
            words = [Word(span.text, None, None) for span in spans]
        words = _with_confidences(_moved(words, segment.start), segment)
        return replace(segment, words=tuple(words))


def _moved(words: list[Word], seconds: float) -> list[Word]:
    return [word.moved(seconds).in_milliseconds() for word in words]


def _with_confidences(words: list[Word], segment: Segment) -> list[Word]:
    """Aligned words with the confidences of their text instead of those of their times.

    An aligner may cut words in another way than the transcript (Japanese and Korean). Such a word
    has the lowest confidence of the transcript's words that overlap it.
    """
    scores = segment.word_confidences
    if not scores:
        return words
    if "".join(text for text, _ in scores) != "".join(word.text for word in words):
        return [replace(word, confidence=None) for word in words]
    letters = iter(confidence for text, confidence in scores for _ in text)
    scored = []
    for word in words:
        known = [score for score in islice(letters, len(word.text)) if score is not None]
        lowest = min(known) if len(known) == len(word.text) > 0 else None
        scored.append(replace(word, confidence=lowest))
    return scored


def ctc_alignment(
    backend: TorchBackend,
    config: AutCtcConfig | QwenAsrConfig,
    tokenizer: Tokenizer,
    directory: Path,
    transcribes: bool = False,
) -> CtcAlignment:
    """Alignment by a model's own CTC head.

    Args:
        directory: where a Qwen3-ASR model may have a head next to its weights.
        transcribes: whether the model also writes the segments whose words it aligns.

    Raises:
        UnsupportedOption: the model has no CTC head.
        ConfigError: tokenizer and config do not belong together.
    """
    check_vocabulary(config, tokenizer)
    if isinstance(config, AutCtcConfig):
        return CtcAlignment(backend, config, tokenizer, transcribes)
    scoring = with_ctc_head(backend, directory)
    if scoring is None:
        raise UnsupportedOption(
            "Times of words need a forced aligner or a model with a CTC head",
            "this model is neither",
            "name an aligner (--aligner when transcribing)",
        )
    return CtcAlignment(scoring, config, tokenizer, transcribes)
