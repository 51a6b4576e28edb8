"""Speakers of a live stream: labels of its text while it grows, and its transcript at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from auris.diarization.labels import SpeakerTimes, labelled
from auris.diarization.live import LiveDiarization
from auris.diarization.windows import NO_SAMPLES
from auris.errors import UsageError
from auris.recognition.scheduler import joined_transcript
from auris.text.tokenizer import Tokenizer
from auris.types import SAMPLE_RATE, Chunk, Samples, Segment, SpeakerTurn, Transcript

WORD_SECONDS = 0.5
"""Taken for the length of a word of which only the end is known."""

LONGEST_HOURS = 12
"""Longest stream with speakers, since its text and the embeddings of its speech are stored."""


@dataclass(frozen=True)
class SpeakerText:
    """Text of one speaker in a chunk.

    Attributes:
        speaker: the name; None if it is not known yet.
        text: what the speaker says; words of settled text, or the text of a part of a segment.
        start, end: seconds of the stream; None if they are not known.
    """

    speaker: str | None
    text: str
    start: float | None
    end: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class StreamSpeakers:
    """The speakers of one stream.

    Args:
        live: tells voices apart; earlier streams of the same recording may have used it.
        words: whether segments show the times of their words.
    """

    def __init__(self, live: LiveDiarization, tokenizer: Tokenizer, words: bool) -> None:
        self._live, self._tokenizer = live, tokenizer
        self._words, self._origin = words, live.origin
        self._segments: list[Segment] = []
        self._labelled, self._samples, self._peak = 0.0, 0, 0.0

    def check_length(self, seconds: float) -> None:
        """Refuse more sound of a stream that is longer than one with speakers can be."""
        if self._origin / SAMPLE_RATE + seconds > LONGEST_HOURS * 3600:
            raise UsageError(
                f"A stream with speakers can last {LONGEST_HOURS} hours",
                "it has lasted longer",
                "finish it, and open another",
            )

    def of_settled(
        self, chunk: Chunk, words: Sequence[tuple[str, float | None]]
    ) -> tuple[SpeakerText, ...]:
        """Who says the settled words of a chunk that is not over.

        Args:
            words: as they are written, and their ends in seconds of the stream.
        """
        newest = max((end for _, end in words if end is not None), default=0.0)
        if newest > self._labelled:
            self._label_newest(chunk.start, chunk.samples)
        times = SpeakerTimes.of(self._turns(chunk.start))
        speaker: str | None = None
        parts: list[SpeakerText] = []
        for word, last in words:
            if last is not None:
                speaker = times.speaker(last - WORD_SECONDS, last, speaker)
            if parts and parts[-1].speaker == speaker:
                parts[-1] = replace(parts[-1], text=parts[-1].text + word, end=last)
            else:
                parts.append(SpeakerText(speaker, word.lstrip(), None, last))
        return tuple(parts)

    def of_final(self, chunk: Chunk, segment: Segment) -> tuple[SpeakerText, ...]:
        """Who says the text of a chunk that is over, which is fed to the diarization."""
        self._live.feed(self._origin + chunk.start, chunk.samples)
        self._samples = chunk.start + len(chunk.samples) + chunk.skipped
        self._peak = max(self._peak, chunk.peak, float(np.abs(chunk.samples).max(initial=0.0)))
        self._segments.append(segment)
        if not segment.text.strip():
            return ()
        self._label_newest(chunk.start + len(chunk.samples), NO_SAMPLES)
        return self._parts([segment], self._turns(chunk.start))

    def corrected(self, turns: Sequence[SpeakerTurn]) -> tuple[SpeakerText, ...]:
        """Who says the text of all chunks, by the turns of the recording at its end."""
        return self._parts(self._segments, self._of_stream(turns))

    def transcript(self, warnings: tuple[str, ...]) -> Transcript:
        """The transcript of the stream, whose end is that of the recording, as of a file.

        Args:
            warnings: about its options.
        """
        turns = self._of_stream(self._live.finish())
        seconds = self._samples / SAMPLE_RATE
        joined = joined_transcript(self._segments, seconds, self._peak, warnings)
        parts = labelled(self._segments, turns, self._tokenizer, self._words)
        return replace(
            joined,
            segments=tuple(parts),
            turns=tuple(turns),
            warnings=(*joined.warnings, *self._live.warnings),
        )

    def shown(self, segment: Segment) -> Segment:
        """A segment with the times of its words where they are shown."""
        return segment if self._words else replace(segment, words=None)

    def _parts(
        self, segments: Sequence[Segment], turns: Sequence[SpeakerTurn]
    ) -> tuple[SpeakerText, ...]:
        parts = labelled(segments, turns, self._tokenizer, self._words)
        return tuple(
            SpeakerText(part.speaker, part.text, part.start, part.end)
            for part in parts
            if part.text.strip()
        )

    def _label_newest(self, start: int, samples: Samples) -> None:
        self._live.label_newest(self._origin + start, samples)
        self._labelled = (start + len(samples)) / SAMPLE_RATE

    def _turns(self, since: int) -> list[SpeakerTurn]:
        """The newest turns, in seconds of the stream."""
        turns = self._live.turns((self._origin + since) / SAMPLE_RATE)
        return self._of_stream(turns)

    def _of_stream(self, turns: Sequence[SpeakerTurn]) -> list[SpeakerTurn]:
        seconds = self._origin / SAMPLE_RATE
        return [replace(turn, start=turn.start - seconds, end=turn.end - seconds) for turn in turns]
