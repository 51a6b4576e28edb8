"""Transcripts in the shapes of the API.

The shapes are those of the types in the `openai` package (`openai.types.audio`); docs/server.md
names the version. What Auris has no number for is said there, too.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from auris.config import FRAME_SECONDS, QwenAsrConfig, audio_tokens
from auris.output.formats import to_srt, to_text, to_vtt
from auris.output.subtitles import CueStyle
from auris.recognition.recognizer import Recognizer
from auris.server.transcription_request import TranscriptionRequest
from auris.text.languages import LANGUAGES
from auris.text.reply import text_places
from auris.text.words import join_texts
from auris.types import Segment, Transcript

__all__ = [
    "CONTENT_TYPES",
    "Deltas",
    "answer",
    "answers",
    "diarized_segment",
    "done_event",
    "formats_event",
    "language_codes",
    "segment_with_words",
    "text_logprobs",
    "tokens_used",
]

CODES = {name: code for code, name in LANGUAGES.items()}

CONTENT_TYPES = {
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}
"""Of the formats that are no JSON."""

PLAIN_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
"""Formats that any transcript can be written in."""

TEXTS = {"text": to_text, "srt": to_srt, "vtt": to_vtt}


def answer(
    transcript: Transcript, asked: TranscriptionRequest, recognizer: Recognizer
) -> dict[str, Any] | str:
    """The body of a response: JSON values, or text for the formats in `CONTENT_TYPES`."""
    form = asked.response_format
    if form in TEXTS:
        return TEXTS[form](transcript, "", CueStyle())
    if form == "verbose_json":
        return _verbose(transcript, asked)
    if form == "diarized_json":
        return _diarized(transcript, asked, recognizer)
    return _plain(transcript, asked, recognizer)


def answers(
    transcript: Transcript, asked: TranscriptionRequest, recognizer: Recognizer
) -> dict[str, Any]:
    """The bodies of responses in the format that was asked for and in all that need no more."""
    return {
        form: answer(transcript, replace(asked, response_format=form), recognizer)
        for form in dict.fromkeys((asked.response_format, *PLAIN_FORMATS))
    }


def _plain(
    transcript: Transcript, asked: TranscriptionRequest, recognizer: Recognizer
) -> dict[str, Any]:
    content: dict[str, Any] = {"text": transcript.text, "languages": _languages(transcript)}
    if asked.logprobs:
        content["logprobs"] = text_logprobs(transcript.segments, recognizer)
    content["usage"] = _usage(transcript, asked, recognizer)
    return content


def _languages(transcript: Transcript) -> list[dict[str, str]]:
    return language_codes((transcript.language or "").split(","))


def language_codes(names: Iterable[str]) -> list[dict[str, str]]:
    """Languages by their codes, from their English names."""
    return [{"code": CODES.get(name, name.lower())} for name in names if name]


def _usage(
    transcript: Transcript, asked: TranscriptionRequest, recognizer: Recognizer
) -> dict[str, Any]:
    used = tokens_used(transcript.segments, asked, recognizer)
    return used or _duration(transcript)


def _duration(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.seconds)}


def tokens_used(
    segments: Sequence[Segment], asked: TranscriptionRequest, recognizer: Recognizer
) -> dict[str, Any] | None:
    """Tokens of audio, prompt and text; None for a model that does not count in tokens.

    Every piece of a recording hears the caller's prompt.
    """
    if not isinstance(recognizer.config, QwenAsrConfig):
        return None
    # Silence that was left out went through no model.
    recognized = [segment for segment in segments if segment.skipped == 0]
    heard = sum(audio_tokens(round((s.end - s.start) / FRAME_SECONDS)) for s in recognized)
    told = len(recognized) * len(recognizer.tokenizer.encode(asked.context))
    written = sum(len(segment.tokens) for segment in segments)
    return {
        "type": "tokens",
        "input_tokens": heard + told,
        "input_token_details": {"audio_tokens": heard, "text_tokens": told},
        "output_tokens": written,
        "total_tokens": heard + told + written,
    }


def text_logprobs(segments: Iterable[Segment], recognizer: Recognizer) -> list[dict[str, Any]]:
    """Log-probabilities of the texts' tokens."""
    return [entry for segment in segments for entry in _token_logprobs(segment, recognizer)]


def _token_logprobs(segment: Segment, recognizer: Recognizer) -> Iterator[dict[str, Any]]:
    """The text's tokens; those that name its language are not among them."""
    if not segment.text:
        return
    places: Sequence[int] = range(len(segment.tokens))
    if isinstance(recognizer.config, QwenAsrConfig):
        places = text_places(segment.tokens, recognizer.tokenizer)
    for place in places:
        piece = recognizer.tokenizer.piece(segment.tokens[place])
        raw = piece.encode() if isinstance(piece, str) else piece
        token = raw.decode("utf-8", "replace")
        yield {"token": token, "logprob": segment.logprobs[place], "bytes": list(raw)}


def _verbose(transcript: Transcript, asked: TranscriptionRequest) -> dict[str, Any]:
    content: dict[str, Any] = {
        "task": "transcribe",
        "language": (transcript.language or "").lower(),
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
        "usage": _duration(transcript),
    }
    if asked.segments:
        content["segments"] = [
            _segment(number, segment, asked.temperature)
            for number, segment in enumerate(transcript.segments)
        ]
    if asked.words:
        content["words"] = [word for segment in transcript.segments for word in _words(segment)]
    return content


def _words(segment: Segment) -> list[dict[str, Any]]:
    """The words of a segment; those that could not be placed share the time between neighbours."""
    shown: list[dict[str, Any]] = []
    before = segment.start
    placed = groupby(segment.words or (), lambda w: w.start is not None and w.end is not None)
    runs = [(known, list(words)) for known, words in placed]
    following_runs = [*runs[1:], None] if runs else []
    for (known, words), after in zip(runs, following_runs, strict=True):
        if known:
            shown += [_word(word.text, word.start or 0.0, word.end or 0.0) for word in words]
            before = words[-1].end or before
            continue
        following = segment.end if after is None else after[1][0].start or before
        step = max(0.0, following - before) / len(words)
        times = [before + step * place for place in range(len(words) + 1)]
        shown += map(_word, (word.text for word in words), times, times[1:])
    return shown


def _segment(number: int, segment: Segment, temperature: float) -> dict[str, Any]:
    silence = segment.no_speech_probability
    if silence is None:
        silence = float(segment.no_speech)
    return {
        "id": number,
        "seek": round(segment.start / FRAME_SECONDS),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": temperature,
        "avg_logprob": round(segment.avg_logprob or 0.0, 6),
        "compression_ratio": _compression(segment.text),
        "no_speech_prob": round(silence, 6),
        "finish_reason": segment.finish_reason,
        "truncated": segment.truncated,
    }


def segment_with_words(
    number: int, segment: Segment, asked: TranscriptionRequest
) -> dict[str, Any]:
    """A segment as in verbose_json, with its words where they were requested."""
    shown = _segment(number, segment, asked.temperature)
    if asked.words:
        shown["words"] = _words(segment)
    return shown


def _compression(text: str) -> float:
    raw = text.encode("utf-8", "replace")
    return round(len(raw) / len(zlib.compress(raw)), 4)


def _word(text: str, start: float, end: float) -> dict[str, Any]:
    return {"word": text, "start": round(start, 3), "end": round(end, 3)}


def _diarized(
    transcript: Transcript, asked: TranscriptionRequest, recognizer: Recognizer
) -> dict[str, Any]:
    said = [segment for segment in transcript.segments if segment.text]
    return {
        "task": "transcribe",
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
        "segments": [diarized_segment(number, segment) for number, segment in enumerate(said)],
        "usage": _usage(transcript, asked, recognizer),
    }


def diarized_segment(number: int, segment: Segment) -> dict[str, Any]:
    """A segment with its speaker, in an answer and as an event alike."""
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{number:03}",
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "speaker": segment.speaker or "",
    }


class Deltas:
    """The events of a text that arrives piece by piece.

    Args:
        asked: the request.
        recognizer: whose tokens they are.
    """

    def __init__(self, asked: TranscriptionRequest, recognizer: Recognizer) -> None:
        self._asked = asked
        self._recognizer = recognizer
        self._text = ""
        self._segments = 0

    def take(self, segment: Segment) -> list[dict[str, Any]]:
        """The events of one more piece: of a piece without text only what tells of time."""
        before = self._text
        self._text = join_texts([before, segment.text])
        events = [] if self._text == before else self._said(before, segment)
        if self._asked.response_format == "verbose_json":
            events.append(self._timed(segment))
        return events

    def _said(self, before: str, segment: Segment) -> list[dict[str, Any]]:
        event: dict[str, Any] = {
            "type": "transcript.text.delta",
            "delta": self._text[len(before) :],
        }
        if self._asked.logprobs:
            event["logprobs"] = text_logprobs([segment], self._recognizer)
        if self._asked.response_format != "diarized_json":
            return [event]
        whole = diarized_segment(self._segments, segment)
        event["segment_id"] = whole["id"]
        self._segments += 1
        return [event, whole]

    def _timed(self, segment: Segment) -> dict[str, Any]:
        """A segment as in verbose_json, with its words: an event of our own."""
        shown = segment_with_words(self._segments, segment, self._asked)
        self._segments += 1
        return {"type": "auris.transcript.segment", "segment": shown}


def formats_event(
    transcript: Transcript, asked: TranscriptionRequest, recognizer: Recognizer
) -> dict[str, Any]:
    """The transcript in further formats: an event of our own."""
    formats = {
        name: answer(transcript, replace(asked, response_format=name), recognizer)
        for name in asked.formats
    }
    return {"type": "auris.transcript.formats", "formats": formats}


def done_event(
    transcript: Transcript, asked: TranscriptionRequest, recognizer: Recognizer
) -> dict[str, Any]:
    """The last event of a text."""
    content: dict[str, Any] = {
        "type": "transcript.text.done",
        "text": transcript.text,
        "languages": _languages(transcript),
    }
    if asked.logprobs:
        content["logprobs"] = text_logprobs(transcript.segments, recognizer)
    used = tokens_used(transcript.segments, asked, recognizer)
    if used is not None:
        content["usage"] = used
    return content
