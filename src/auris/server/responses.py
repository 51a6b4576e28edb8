"""Transcripts in the shapes of the API.

The shapes are those of the types in the `openai` package (`openai.types.audio`); docs/server.md
names the version, and says what is additional.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from starlette.responses import JSONResponse, Response

from auris.config import FRAME_SECONDS, QwenAsrConfig, audio_tokens
from auris.output.subtitles import CueStyle
from auris.recognition.recognizer import Recognizer
from auris.server.formats import TEXTS, CommonFormat
from auris.server.schema import (
    DiarizedSegment,
    DiarizedTranscript,
    DurationUsage,
    JsonTranscript,
    LanguageCode,
    TokenLogprob,
    TokenUsage,
    VerboseSegment,
    VerboseTranscript,
    VerboseWord,
)
from auris.server.transcription_request import TranscriptionRequest
from auris.text.languages import LANGUAGE_CODES
from auris.text.reply import text_indices
from auris.text.words import compression_ratio, join_texts
from auris.types import Segment, Transcript

Body = JsonTranscript | VerboseTranscript | DiarizedTranscript | str


def answer(transcript: Transcript, request: TranscriptionRequest, recognizer: Recognizer) -> Body:
    """The body of a response; in JSON with the warnings of the transcript, if there are any."""
    body = _without_warnings(transcript, request, recognizer)
    if transcript.warnings and not isinstance(body, str):
        body["warnings"] = list(transcript.warnings)
    return body


def _without_warnings(
    transcript: Transcript, request: TranscriptionRequest, recognizer: Recognizer
) -> Body:
    form = request.response_format
    if form in TEXTS:
        return TEXTS[form][0](transcript, "", CueStyle())
    if form == "verbose_json":
        return _verbose(transcript, request)
    usage = _tokens_used(transcript, request, recognizer) or _duration(transcript)
    if form == "diarized_json":
        texts = (segment for segment in transcript.segments if segment.text)
        return {
            "task": "transcribe",
            "duration": round(transcript.seconds, 3),
            "text": transcript.text,
            "segments": [_diarized_segment(*numbered) for numbered in enumerate(texts)],
            "usage": usage,
        }
    content: JsonTranscript = {
        "text": transcript.text,
        "languages": _languages(transcript),
        "usage": usage,
    }
    if request.include:
        content["logprobs"] = text_logprobs(transcript.segments, recognizer)
    return content


def answers(
    transcript: Transcript,
    request: TranscriptionRequest,
    recognizer: Recognizer,
    formats: Iterable[str] = (),
) -> dict[str, Any]:
    """The bodies of responses in some formats, or in that of the request and all common ones."""
    formats = formats or dict.fromkeys((request.response_format, *get_args(CommonFormat)))
    return {
        form: answer(transcript, request.model_copy(update={"response_format": form}), recognizer)
        for form in formats
    }


def response_of(body: Body, response_format: str) -> Response:
    """The response with a body in some format."""
    if isinstance(body, str):
        return Response(body, media_type=f"{TEXTS[response_format][1]}; charset=utf-8")
    return JSONResponse(body)


def _languages(transcript: Transcript) -> list[LanguageCode]:
    return language_codes((transcript.language or "").split(","))


def language_codes(names: Iterable[str]) -> list[LanguageCode]:
    """Languages by their names, as the API shows them."""
    return [{"code": LANGUAGE_CODES[name]} for name in names if name in LANGUAGE_CODES]


def _duration(transcript: Transcript) -> DurationUsage:
    return {"type": "duration", "seconds": math.ceil(transcript.seconds)}


def _tokens_used(
    transcript: Transcript, request: TranscriptionRequest, recognizer: Recognizer
) -> TokenUsage | None:
    """Tokens of a transcript; None where segments are divided between voices, and for a model
    without a decoder."""
    if transcript.turns is not None:
        return None
    return tokens_used(transcript.segments, request, recognizer)


def tokens_used(
    segments: Sequence[Segment], request: TranscriptionRequest, recognizer: Recognizer
) -> TokenUsage | None:
    """Tokens of audio, context and text; None for a model without a decoder.

    The context is in the prompt of every chunk, if the model reads it.
    """
    if not isinstance(recognizer.config, QwenAsrConfig):
        return None
    # Silence that was left out went through no model.
    recognized = [segment for segment in segments if segment.skipped == 0]
    audio = sum(audio_tokens(round((s.end - s.start) / FRAME_SECONDS)) for s in recognized)
    read = request.context if request.reads_contexts else ""
    context = len(recognized) * len(recognizer.tokenizer.encode(read))
    output = sum(len(segment.tokens) for segment in segments)
    return {
        "type": "tokens",
        "input_tokens": audio + context,
        "input_token_details": {"audio_tokens": audio, "text_tokens": context},
        "output_tokens": output,
        "total_tokens": audio + context + output,
    }


def text_logprobs(segments: Iterable[Segment], recognizer: Recognizer) -> list[TokenLogprob]:
    """Log-probabilities of the texts' tokens, without those that name the language."""
    entries: list[TokenLogprob] = []
    for segment in segments:
        if not segment.text:
            continue
        indices: Sequence[int] = range(len(segment.tokens))
        if isinstance(recognizer.config, QwenAsrConfig):
            indices = text_indices(segment.tokens, recognizer.tokenizer)
        for index in indices:
            token = recognizer.tokenizer.content(segment.tokens[index])
            raw = token.encode() if isinstance(token, str) else token
            text = raw.decode("utf-8", "replace")
            entries.append({"token": text, "logprob": segment.logprobs[index], "bytes": list(raw)})
    return entries


def _verbose(transcript: Transcript, request: TranscriptionRequest) -> VerboseTranscript:
    content: VerboseTranscript = {
        "task": "transcribe",
        "language": (transcript.language or "").lower(),
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
        "usage": _duration(transcript),
    }
    if request.segments:
        content["segments"] = [
            _segment(*numbered, request) for numbered in enumerate(transcript.segments)
        ]
    if request.words:
        content["words"] = [word for segment in transcript.segments for word in _words(segment)]
    return content


def _words(segment: Segment) -> list[VerboseWord]:
    """The words of a segment; those without times share the time between their neighbours."""
    shown: list[VerboseWord] = []
    untimed: list[str] = []
    before = segment.start
    for word in segment.words or ():
        if word.start is None or word.end is None:
            untimed.append(word.text)
            continue
        shown += _spread(untimed, before, word.start)
        shown.append(_word(word.text, word.start, word.end))
        untimed, before = [], word.end
    return shown + _spread(untimed, before, segment.end)


def _spread(texts: list[str], start: float, end: float) -> list[VerboseWord]:
    """Words that share a span of time."""
    step = max(0.0, end - start) / max(1, len(texts))
    return [
        _word(text, start + step * index, start + step * (index + 1))
        for index, text in enumerate(texts)
    ]


def _word(text: str, start: float, end: float) -> VerboseWord:
    return {"word": text, "start": round(start, 3), "end": round(end, 3)}


def _segment(number: int, segment: Segment, request: TranscriptionRequest) -> VerboseSegment:
    no_speech = segment.no_speech_probability
    shown: VerboseSegment = {
        "id": number,
        "seek": round(segment.start / FRAME_SECONDS),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": request.temperature,
        "avg_logprob": round(segment.avg_logprob or 0.0, 6),
        "compression_ratio": round(compression_ratio(segment.text), 4),
        "no_speech_prob": round(float(segment.no_speech) if no_speech is None else no_speech, 6),
        "finish_reason": segment.finish_reason,
        "truncated": segment.truncated,
    }
    if segment.speaker is not None:
        shown["speaker"] = segment.speaker
    return shown


def segment_with_words(
    number: int, segment: Segment, request: TranscriptionRequest
) -> VerboseSegment:
    """A segment as in verbose_json, with its words where they were requested."""
    shown = _segment(number, segment, request)
    if request.words:
        shown["words"] = _words(segment)
    return shown


def _diarized_segment(number: int, segment: Segment) -> DiarizedSegment:
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{number:03}",
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "speaker": segment.speaker or "",
    }


@dataclass
class TranscriptEvents:
    """The events of a transcript that arrives segment by segment."""

    request: TranscriptionRequest
    recognizer: Recognizer
    _text: str = ""
    _segments: int = 0

    def of_segment(self, segment: Segment) -> Iterator[dict[str, Any]]:
        """The events of the next segment; without text it has none but that of its times."""
        before, self._text = self._text, join_texts([self._text, segment.text])
        form = self.request.response_format
        if self._text != before:
            event = {"type": "transcript.text.delta", "delta": self._text[len(before) :]}
            event |= self._logprobs([segment])
            if form == "diarized_json":
                diarized = _diarized_segment(self._segments, segment)
                yield {**event, "segment_id": diarized["id"]}
                yield {**diarized}
                self._segments += 1
            else:
                yield event
        if form == "verbose_json":
            shown = segment_with_words(self._segments, segment, self.request)
            yield {"type": "auris.transcript.segment", "segment": shown}
            self._segments += 1

    def at_end(self, transcript: Transcript) -> Iterator[dict[str, Any]]:
        """The events after the last segment."""
        if self.request.formats:
            formats = answers(transcript, self.request, self.recognizer, self.request.formats)
            yield {"type": "auris.transcript.formats", "formats": formats}
        done = {
            "type": "transcript.text.done",
            "text": transcript.text,
            "languages": _languages(transcript),
            **self._logprobs(transcript.segments),
        }
        if transcript.warnings:
            done["warnings"] = list(transcript.warnings)
        usage = _tokens_used(transcript, self.request, self.recognizer)
        yield done if usage is None else {**done, "usage": usage}

    def _logprobs(self, segments: Iterable[Segment]) -> dict[str, Any]:
        if not self.request.include:
            return {}
        return {"logprobs": text_logprobs(segments, self.recognizer)}
