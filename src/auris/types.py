"""Audio, chunks, words, segments and transcripts: frozen values.

Times are in seconds from the beginning of the source; counts of samples are at 16 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000
"""Samples per second of every waveform inside Auris."""

QUIET_PEAK = 0.01
"""A recording whose samples are all smaller is so quiet that its text may be wrong."""

SILENT_PEAK = 1 / 32768
"""A recording whose samples are all smaller is silent: one step of 16-bit audio."""

SHOWN_LETTERS = 80
"""Maximum number of letters of the text in the representation of a transcript."""

MILLISECOND_SLACK = 1e-6
"""Milliseconds by which rounding may change a sum of seconds."""

Samples: TypeAlias = "NDArray[np.float32]"
"""float32 samples. As a string, since importing this module must not load numpy."""

FinishReason = Literal["stop", "length", "loop", "cancelled"]
"""Why a text ends: a stop token, the token budget, a loop, or the caller."""

RetryCause = Literal["loop", "length", "context"]
"""Why a chunk was decoded again: a loop, the token budget, or a text that repeats the context."""


@dataclass(frozen=True)
class Waveform:
    """Mono audio at 16 kHz.

    Attributes:
        samples: float32 [S], full scale is -1..1 (values beyond it are possible).
        start: position of the first sample in its source, in seconds.
        channel: index of the source's channel, or None when channels were mixed down.
    """

    samples: Samples
    start: float = 0.0
    channel: int | None = None

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True)
class Chunk:
    """A stretch of a recording that is recognized by itself.

    Attributes:
        start: its offset in the source, in samples at 16 kHz.
        samples: float32 [S]; empty for skipped silence.
        speaker: who speaks, on the channel or by voice; None if speakers are not told apart.
        skipped: number of samples of skipped silence, from `start` on; 0 for a chunk to recognize.
        peak: largest absolute sample of that silence.
        warnings: sentences about reading the recording up to here. The last chunk may have
            warnings only, without samples or silence.
    """

    start: int
    samples: Samples
    speaker: str | None = None
    skipped: int = 0
    peak: float = 0.0
    warnings: tuple[str, ...] = ()


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


@dataclass(frozen=True)
class Word:
    """A word with its times.

    Attributes:
        text: the word without punctuation, or one character of Chinese.
        start: its beginning, in seconds of the source, rounded to milliseconds; None if unknown.
        end: its end; None if unknown.
        confidence: 0..1; None if the model gives none. For a transcribed word the probability that
            it is right, see `Segment.calibrated`; for a word of a known text the geometric mean of
            the probabilities of its units or marks.
        repaired: whether a time was inferred from neighbours.
        speaker: who says it; None if voices were not told apart.
    """

    text: str
    start: float | None
    end: float | None
    confidence: float | None = None
    repaired: bool = False
    speaker: str | None = None

    def moved(self, seconds: float) -> Word:
        """The same word, `seconds` later."""
        if self.start is None or self.end is None:
            return self
        return replace(self, start=self.start + seconds, end=self.end + seconds)

    def in_milliseconds(self) -> Word:
        """The same word with times in whole milliseconds, inside the exact span."""
        if self.start is None or self.end is None:
            return self
        end = math.floor(1000 * self.end + MILLISECOND_SLACK)
        start = min(math.ceil(1000 * self.start - MILLISECOND_SLACK), end)
        return replace(self, start=start / 1000, end=end / 1000)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the speaker only where there is one."""
        speaker = {} if self.speaker is None else {"speaker": self.speaker}
        return {
            "text": self.text,
            "start": _rounded(self.start, 3),
            "end": _rounded(self.end, 3),
            "confidence": _rounded(self.confidence, 6),
            "repaired": self.repaired,
            **speaker,
        }


@dataclass(frozen=True)
class SpeakerTurn:
    """A stretch of a recording in which a speaker speaks, in seconds; turns may overlap."""

    start: float
    end: float
    speaker: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "speaker": self.speaker,
        }


@dataclass(frozen=True)
class Retry:
    """A decoding that was discarded and repeated in another way.

    Attributes:
        start: its beginning, in seconds of the source.
        end: its end.
        cause: why it was discarded. After "loop" and "length" the span was cut in two, after
            "context" it was decoded without the context.
        tokens: its token ids.
    """

    start: float
    end: float
    cause: RetryCause
    tokens: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "cause": self.cause,
            "tokens": list(self.tokens),
        }


@dataclass(frozen=True)
class Segment:
    """The result of one chunk.

    Attributes:
        start: its beginning, in seconds of the source.
        end: its end.
        text: the text after clean-up.
        language: English name of the language; None for no speech, or if it is not known.
        tokens: ids exactly as decoded, before any clean-up, without the stop token; for a chunk
            that was decoded in parts, those of all parts.
        logprobs: natural-log probability of each of `tokens`.
        finish_reason: why the decoding ended; for a chunk in parts, the first reason other than
            "stop". If a text ends in a loop, `tokens` have all repeats and `text` one of them.
        words: the words of the model's own text, before any clean-up, with their times; None if
            they were not requested.
        speaker: who speaks, on the channel or by voice; None if speakers are not told apart.
        token_confidences: for each of `tokens` how likely the words that it writes are right.
        word_confidences: the words of the text and how likely each is right, 0..1; None if it is
            not known which tokens write the word.
        confidence: mean of those, the share of the words that is probably right; None without any.
        calibrated: whether confidences are measured probabilities; otherwise they are those of the
            model, for a word the geometric mean over its tokens.
        no_speech: whether nobody spoke, by the model or the calibration; the text is then empty,
            while `tokens` are what the model wrote.
        no_speech_probability: how likely nobody spoke, 0..1; None if the model does not give it.
        retries: decodings that were discarded, in order.
        skipped: seconds of silence that were left out: the length of the segment, which then has no
            text, or 0.
    """

    start: float
    end: float
    text: str
    language: str | None
    tokens: tuple[int, ...] = field(repr=False)
    logprobs: tuple[float, ...] = field(repr=False)
    finish_reason: FinishReason
    words: tuple[Word, ...] | None = None
    speaker: str | None = None
    token_confidences: tuple[float, ...] = field(default=(), repr=False)
    word_confidences: tuple[tuple[str, float | None], ...] = field(default=(), repr=False)
    confidence: float | None = None
    calibrated: bool = False
    no_speech: bool = False
    no_speech_probability: float | None = None
    retries: tuple[Retry, ...] = field(default=(), repr=False)
    skipped: float = 0.0

    @property
    def truncated(self) -> bool:
        """Whether the text ends where its token budget ran out."""
        return self.finish_reason == "length"

    @property
    def avg_logprob(self) -> float | None:
        """Mean log-probability of the tokens; None for a segment without tokens."""
        return math.fsum(self.logprobs) / len(self.logprobs) if self.logprobs else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; words, speaker and retries only where there are any."""
        content: dict[str, Any] = {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "text": self.text,
            "language": self.language,
            "tokens": list(self.tokens),
            "token_confidences": [round(confidence, 4) for confidence in self.token_confidences],
            "avg_logprob": _rounded(self.avg_logprob, 6),
            "confidence": _rounded(self.confidence, 6),
            "calibrated": self.calibrated,
            "no_speech": self.no_speech,
            "no_speech_probability": _rounded(self.no_speech_probability, 6),
            "finish_reason": self.finish_reason,
            "truncated": self.truncated,
            "skipped": round(self.skipped, 3),
            "word_confidences": [
                [word, _rounded(confidence, 4)] for word, confidence in self.word_confidences
            ],
        }
        if self.retries:
            content["retries"] = [retry.to_dict() for retry in self.retries]
        if self.words is not None:
            content["words"] = [word.to_dict() for word in self.words]
        if self.speaker is not None:
            content["speaker"] = self.speaker
        return content


@dataclass(frozen=True, repr=False)
class Transcript:
    """The result for one recording; as a string it is its text.

    Attributes:
        text: all of the text.
        language: English name; None for no speech, or if it is not known. If segments differ, their
            names in the order of time, joined by commas.
        segments: in the order of time; where channels are split, by their starts.
        confidence: mean of the confidences of all words, 0..1; None without any.
        finish_reason: "stop" if all segments have it, otherwise the first other reason.
        seconds: length of the requested span, with skipped silence.
        timings: seconds of work per stage (audio, mel, encode, prefill, decode).
        peak: largest absolute sample; full scale is 1.
        warnings: sentences about options that were ignored, and about what the recording lacks.
        turns: who speaks when, by voice; None if voices were not told apart.
    """

    text: str
    language: str | None
    segments: tuple[Segment, ...]
    confidence: float | None
    finish_reason: FinishReason
    seconds: float
    timings: Mapping[str, float] = field(default_factory=dict)
    peak: float = 0.0
    warnings: tuple[str, ...] = ()
    turns: tuple[SpeakerTurn, ...] | None = None

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= SHOWN_LETTERS else f"{self.text[:SHOWN_LETTERS]}..."
        return (
            f"Transcript(text={text!r}, language={self.language!r}, "
            f"segments=<{len(self.segments)}>, seconds={self.seconds:.3f}, "
            f"finish_reason={self.finish_reason!r})"
        )

    @property
    def silent(self) -> bool:
        """Whether nothing was recorded: all samples are smaller than a step of 16-bit audio."""
        return self.peak < SILENT_PEAK

    @property
    def truncated(self) -> bool:
        """Whether the text of any segment ends where its token budget ran out."""
        return any(segment.truncated for segment in self.segments)

    @property
    def skipped(self) -> float:
        """Seconds of silence that were left out, in all split channels together."""
        return math.fsum(segment.skipped for segment in self.segments)

    @property
    def calibrated(self) -> bool:
        """Whether confidences are measured probabilities, see `Segment.calibrated`."""
        decoded = [segment for segment in self.segments if not segment.skipped]
        return bool(decoded) and all(segment.calibrated for segment in decoded)

    @property
    def words(self) -> tuple[Word, ...] | None:
        """The words of all segments; None if their times were not requested."""
        if any(segment.words is None for segment in self.segments if not segment.skipped):
            return None
        return tuple(word for segment in self.segments for word in segment.words or ())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; warnings and turns only where there are any."""
        turns = {} if self.turns is None else {"turns": [turn.to_dict() for turn in self.turns]}
        warnings = {"warnings": list(self.warnings)} if self.warnings else {}
        return {
            "text": self.text,
            "language": self.language,
            "confidence": _rounded(self.confidence, 6),
            "calibrated": self.calibrated,
            "finish_reason": self.finish_reason,
            "truncated": self.truncated,
            "audio_seconds": round(self.seconds, 3),
            "skipped": round(self.skipped, 3),
            "peak": round(self.peak, 6),
            "timings": {stage: round(seconds, 4) for stage, seconds in self.timings.items()},
            **warnings,
            **turns,
            "segments": [segment.to_dict() for segment in self.segments],
        }
