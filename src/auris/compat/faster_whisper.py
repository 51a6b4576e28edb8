"""`WhisperModel`, as the package faster-whisper has it (1.x), running the models of Auris.

from auris.compat.faster_whisper import WhisperModel

segments, info = WhisperModel("Qwen/Qwen3-ASR-0.6B").transcribe("talk.mp3")
for segment in segments:
    print(f"[{segment.start:.2f}s -> {segment.end:.2f}s] {segment.text}")
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from auris import types
from auris.audio.io import load
from auris.compat.refusal import refuse, refuse_unless_neutral
from auris.pipeline import AsrPipeline
from auris.recognition.chunker import AudioChunker
from auris.recognition.ctc import CtcRecognizer
from auris.recognition.language_id import DETECT_SECONDS
from auris.recognition.language_model import DEFAULT_LM
from auris.recognition.options import CallOptions, SearchOptions, with_default_search
from auris.text.languages import LANGUAGE_CODES, LANGUAGES, language_name
from auris.text.words import compression_ratio, spaceless
from auris.types import SAMPLE_RATE

__all__ = ["TranscriptionInfo", "WhisperModel", "WhisperSegment", "WhisperWord"]

FRAMES_PER_SECOND = 100
"""Unit of `WhisperSegment.seek`."""

DTYPES = {"default": "auto", "auto": "auto"} | {
    name: name for name in ("float32", "float16", "bfloat16", "int8")
}

NEUTRAL: dict[str, tuple[object, ...]] = {
    "task": ("transcribe",),
    "log_progress": (False,),
    "best_of": (1,),
    "patience": (1,),
    "length_penalty": (1,),
    "repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "compression_ratio_threshold": (None,),
    "log_prob_threshold": (None,),
    "log_prob_low_threshold": (None,),
    "no_speech_threshold": (None,),
    "condition_on_previous_text": (False,),
    "prompt_reset_on_temperature": (),
    "prefix": (None,),
    "suppress_blank": (False,),
    "suppress_tokens": (None, []),
    "without_timestamps": (True,),
    "max_initial_timestamp": (),
    "prepend_punctuations": (),
    "append_punctuations": (),
    "multilingual": (True,),
    "output_language": (None,),
    "vad_parameters": (None,),
    "hallucination_silence_threshold": (None,),
    "language_detection_threshold": (None,),
    "language_detection_segments": (1,),
}
"""Options of `transcribe` that change nothing with these values."""

LOADING: dict[str, tuple[object, ...]] = {
    "num_workers": (1,),
    "download_root": (None,),
    "files": (None,),
    "revision": (None,),
    "use_auth_token": (None,),
}
"""The same of loading a model."""


@dataclass(frozen=True)
class WhisperWord:
    """A word; `word` begins with a space in scripts that have spaces, `probability` is its
    confidence, NaN where the aligner gives none."""

    start: float
    end: float
    word: str
    probability: float


@dataclass(frozen=True)
class WhisperSegment:
    """The result of one chunk.

    Attributes:
        id: counted from 1.
        seek: where it begins, in hundredths of a second.
        start, end: its span in seconds.
        text: begins with a space in scripts that have spaces, so that texts can be joined.
        tokens: ids as decoded.
        avg_logprob: mean log-probability of the tokens; NaN without tokens.
        compression_ratio: length of the text over its compressed length.
        no_speech_prob: how likely there is no speech; NaN where the model does not say.
        words: with their times, where requested; those whose times are not known are left out.
        temperature: that of the call.
    """

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: list[WhisperWord] | None
    temperature: float


@dataclass(frozen=True)
class TranscriptionInfo:
    """What is known of a recording before its segments.

    Attributes:
        language: code of the language that was forced, or of the first chunk; None where that
            holds no speech.
        language_probability: 1 when forced; else as the decoder has it for the first 30 seconds,
            NaN for a model without one.
        duration: seconds of the recording.
        duration_after_vad: those that are left without long silence, where it is left out.
        all_language_probs: codes with their probabilities, the likeliest first; None where the
            language is forced or the model does not say.
        vad_options: None.
        transcription_options: the options of the call that were given.
    """

    language: str | None
    language_probability: float
    duration: float
    duration_after_vad: float
    all_language_probs: list[tuple[str, float]] | None
    transcription_options: Mapping[str, Any]
    vad_options: None


class WhisperModel:
    """A loaded model.

    Args:
        model_size_or_path: directory, bundled model or hub id of a model that Auris runs.
        device: "auto", "cpu", or another that `AsrPipeline.from_pretrained` knows.
        device_index: which of several.
        compute_type: "default", "auto", "float32", "float16", "bfloat16" or "int8".
        cpu_threads: 0 leaves the choice to torch.
        local_files_only: never use the network.
        lm: language model that scores texts in the search, see `AsrPipeline`; "none" for none.
        options: others only where they change nothing.

    Raises:
        UnsupportedOption: an option cannot be honoured.
        CheckpointError, DeviceError: see `AsrPipeline.from_pretrained`.
    """

    def __init__(
        self,
        model_size_or_path: str | Path,
        device: str = "auto",
        device_index: int = 0,
        compute_type: str = "default",
        cpu_threads: int = 0,
        *,
        local_files_only: bool = False,
        lm: str | Path | None = DEFAULT_LM,
        **options: Any,
    ) -> None:
        refuse_unless_neutral(options, LOADING)
        if compute_type not in DTYPES:
            raise refuse("compute_type", compute_type, f"choose one of {', '.join(DTYPES)}")
        if type(device_index) is not int or (device_index and device == "auto"):
            raise refuse("device_index", device_index, "name one device")
        self.pipeline = AsrPipeline.from_pretrained(
            model_size_or_path,
            device=f"{device}:{device_index}" if device_index else device,
            dtype=DTYPES[compute_type],
            threads=cpu_threads or None,
            local_files_only=local_files_only,
            lm=lm,
        )

    @property
    def supported_languages(self) -> list[str]:
        """Codes of the languages."""
        return list(LANGUAGES)

    @property
    def _accepts_contexts(self) -> bool:
        has_decoder = not isinstance(self.pipeline.recognizer, CtcRecognizer)
        return has_decoder and self.pipeline.defaults.accepts_contexts

    def _search(self, beam_size: int | None, heat: float, hotwords: str | None) -> SearchOptions:
        """The search of a call, with the beam of the model's default search where none is given."""
        given = CallOptions(beam_size=beam_size, temperature=heat)
        filled = with_default_search(given, self.pipeline.recognizer.scorers.lm)
        phrases = [] if heat else _phrases(hotwords)
        return SearchOptions(beam_size=filled["beam_size"] or 1, temperature=heat, hotwords=phrases)

    def transcribe(
        self,
        audio: Any,
        language: str | None = None,
        task: str = "transcribe",
        *,
        beam_size: int | None = None,
        temperature: float | list[float] | tuple[float, ...] = 0.0,
        initial_prompt: str | None = None,
        hotwords: str | None = None,
        max_new_tokens: int | None = None,
        chunk_length: float | None = None,
        clip_timestamps: str | list[float] = "0",
        word_timestamps: bool = False,
        vad_filter: bool = False,
        **options: Any,
    ) -> tuple[Iterator[WhisperSegment], TranscriptionInfo]:
        """Transcribe a recording; the first chunk at once, the others when they are needed.

        Args:
            audio: a path, an address, a binary file, or samples at 16 kHz.
            language: code or English name to force.
            task: "transcribe".
            beam_size: hypotheses of a text that are followed at a time, 1 to 16; None for the
                default search of the model.
            temperature: 0 takes the best token; above it, tokens are drawn. Only one.
            initial_prompt: words and names to expect, as context.
            hotwords: words that are written more readily, if the temperature is 0, and context for
                models that have one; phrases are separated by commas, words also by spaces.
            max_new_tokens: token budget of a chunk.
            chunk_length: target length of the chunks in seconds.
            clip_timestamps: the span to transcribe: its start, or start and end.
            word_timestamps: give segments their words, by the model's CTC head.
            vad_filter: leave long silence out, by our detector and not by Silero's; some models
                always do, see their inference defaults.
            options: others only where they change nothing, see `NEUTRAL`.

        Returns:
            the segments that hold text, and what is known before them.

        Raises:
            UnsupportedOption: an option cannot be honoured.
            AurisError: see `AsrPipeline.transcribe`.
        """
        refuse_unless_neutral({"task": task, **options}, NEUTRAL)
        heat = _one_temperature(temperature)
        search = self._search(beam_size, heat, hotwords)
        start, duration = _clip(clip_timestamps)
        vad = vad_filter or self.pipeline.defaults.vad
        waveform = load((audio, SAMPLE_RATE) if isinstance(audio, np.ndarray) else audio)
        segments = self.pipeline.segments(
            waveform,
            language,
            _context(initial_prompt, hotwords if self._accepts_contexts else None),
            start=start,
            duration=duration,
            **search,
            max_new_tokens=max_new_tokens,
            chunk_seconds=chunk_length,
            word_timestamps=word_timestamps,
            vad=vad,
        )
        decoded = (segment for segment in segments if not segment.skipped)
        first = next(decoded, None)
        forced = language_name(language)
        spoken = forced or (first.language if first else None)
        probabilities: dict[str | None, float] | None = None
        if first and not forced and not isinstance(self.pipeline.recognizer, CtcRecognizer):
            span = min(first.end - first.start, DETECT_SECONDS)
            detected = self.pipeline.detect_language(waveform, start=first.start, duration=span)
            probabilities = dict(detected)
        info = TranscriptionInfo(
            language=None if spoken is None else LANGUAGE_CODES.get(spoken, spoken),
            language_probability=1.0 if forced else (probabilities or {}).get(spoken, math.nan),
            duration=waveform.seconds,
            duration_after_vad=_seconds_of_speech(waveform) if vad else waveform.seconds,
            all_language_probs=None
            if probabilities is None
            else [
                (LANGUAGE_CODES[name], one)
                for name, one in probabilities.items()
                if name is not None
            ],
            transcription_options={
                "beam_size": search["beam_size"],
                "temperature": heat,
                "initial_prompt": initial_prompt,
                "hotwords": hotwords,
                "max_new_tokens": max_new_tokens,
                "clip_timestamps": clip_timestamps,
                "word_timestamps": word_timestamps,
                "vad_filter": vad_filter,
                **options,
            },
            vad_options=None,
        )
        return _segments(chain([first] if first else [], decoded), heat), info


def _seconds_of_speech(waveform: types.Waveform) -> float:
    """Seconds that are left without long silence."""
    chunks = AudioChunker(vad=True).chunks(waveform)
    return sum(len(chunk.samples) for chunk in chunks) / SAMPLE_RATE


def _spaced(text: str) -> str:
    """A text with a space before it, unless its script has none."""
    return text if spaceless(text[0]) else f" {text}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _words(segment: types.Segment) -> list[WhisperWord] | None:
    if segment.words is None:
        return None
    return [
        WhisperWord(word.start, word.end, _spaced(word.text), _number(word.confidence))
        for word in segment.words
        if word.start is not None and word.end is not None
    ]


def _segments(segments: Iterable[types.Segment], temperature: float) -> Iterator[WhisperSegment]:
    spoken = (segment for segment in segments if segment.text)
    for number, segment in enumerate(spoken, 1):
        text = _spaced(segment.text)
        yield WhisperSegment(
            id=number,
            seek=round(segment.start * FRAMES_PER_SECOND),
            start=segment.start,
            end=segment.end,
            text=text,
            tokens=list(segment.tokens),
            avg_logprob=_number(segment.avg_logprob),
            compression_ratio=compression_ratio(text),
            no_speech_prob=_number(segment.no_speech_probability),
            words=_words(segment),
            temperature=temperature,
        )


def _one_temperature(given: Any) -> float:
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(listed) != 1:
        raise refuse("temperature", given, "pass one; retries keep it")
    temperature: float = listed[0]
    return temperature


def _context(initial_prompt: object, hotwords: str | None) -> str:
    if not isinstance(initial_prompt, (str, type(None))):
        raise refuse("initial_prompt", initial_prompt, "pass its text")
    return " ".join(filter(None, [initial_prompt, hotwords]))


def _phrases(hotwords: str | None) -> list[str]:
    """Hotwords that commas separate, or else spaces, as the other package joins them."""
    if hotwords is None:
        return []
    return hotwords.split(",") if "," in hotwords else hotwords.split()


def _clip(given: str | list[float]) -> tuple[float, float | None]:
    """Start and duration of a single clip."""
    try:
        times = [float(time) for time in (given.split(",") if isinstance(given, str) else given)]
    except (TypeError, ValueError):
        times = []
    if len(times) not in (1, 2):
        raise refuse("clip_timestamps", given, "pass the start, or start and end, of one clip")
    return times[0], times[1] - times[0] if len(times) == 2 else None
