"""`WhisperModel`, as the package faster-whisper has it (1.x), running the models of Auris.

from auris.compat.faster_whisper import WhisperModel

segments, info = WhisperModel("Qwen/Qwen3-ASR-0.6B").transcribe("talk.mp3")
for segment in segments:
    print(f"[{segment.start:.2f}s -> {segment.end:.2f}s] {segment.text}")
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from auris.audio.io import load, load_channels
from auris.compat.refusal import check_options, refuse, warn
from auris.compat.whisper_names import available_models, model_for
from auris.compat.whisper_results import (
    TranscriptionInfo,
    WhisperSegment,
    WhisperWord,
    reported,
    whisper_segments,
)
from auris.pipeline import AsrPipeline
from auris.recognition.chunker import AudioChunker
from auris.recognition.ctc import CtcRecognizer
from auris.recognition.language_id import DETECT_SECONDS
from auris.recognition.language_model import DEFAULT_LM
from auris.recognition.options import CallOptions, SearchOptions, with_default_search
from auris.text.languages import LANGUAGE_CODES, LANGUAGES, language_name
from auris.types import SAMPLE_RATE, Samples, Waveform

__all__ = [
    "BatchedInferencePipeline",
    "TranscriptionInfo",
    "WhisperModel",
    "WhisperSegment",
    "WhisperWord",
    "available_models",
    "decode_audio",
]

DTYPES = {
    "default": "auto",
    "auto": "auto",
    "int8": "int8",
    **dict.fromkeys(("int8_float32", "int8_float16", "int8_bfloat16"), "int8"),
    **{name: name for name in ("float32", "float16", "bfloat16")},
}
"""Types of CTranslate2 as ours. In int8, what is not packed is in the type of the checkpoint."""

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Default of the other package, which decodes again with the later ones."""

NEUTRAL: dict[str, tuple[object, ...]] = {
    "task": ("transcribe", None),
    "best_of": (1, 5),
    "patience": (1,),
    "length_penalty": (1,),
    "repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "compression_ratio_threshold": (None, 2.4),
    "log_prob_threshold": (None, -1.0),
    "log_prob_low_threshold": (None,),
    "no_speech_threshold": (None, 0.6),
    "condition_on_previous_text": (False, True),
    "prompt_reset_on_temperature": (0.5,),
    "prefix": (None,),
    "suppress_blank": (False, True),
    "suppress_tokens": (None, [], [-1], (-1,)),
    "without_timestamps": (True, False),
    "max_initial_timestamp": (0.0, 1.0),
    "prepend_punctuations": ("\"'“¿([{-",),
    "append_punctuations": ("\"'.。,，!！?？:：”)]}、",),
    "multilingual": (True, False),
    "output_language": (None,),
    "vad_parameters": (None,),
    "hallucination_silence_threshold": (None,),
    "language_detection_threshold": (None, 0.5),
    "language_detection_segments": (1,),
}
"""Options of `transcribe`, and their values that change nothing; the other package's defaults are
among them."""

TUNING = NEUTRAL.keys() - {"task", "prefix", "output_language"}
"""Those that only tune decoding: with another value they have no effect, and a warning says so."""

LOADING: dict[str, tuple[object, ...]] = {
    "num_workers": (1,),
    "download_root": (None,),
    "files": (None,),
    "revision": (None,),
    "use_auth_token": (None,),
}
"""The same of loading a model."""


def decode_audio(
    input_file: Any, sampling_rate: int = SAMPLE_RATE, split_stereo: bool = False
) -> Samples | tuple[Samples, Samples]:
    """The samples of a recording at 16 kHz, float32: [S], or those of its two channels.

    Args:
        input_file: a path, an address or a binary file.
        sampling_rate: 16000.
        split_stereo: give left and right; a recording with one channel gives it twice.

    Raises:
        UnsupportedOption: another rate, or more than two channels to split.
        AudioError: the recording cannot be read.
    """
    if sampling_rate != SAMPLE_RATE:
        raise refuse("sampling_rate", sampling_rate, f"leave it out, or pass {SAMPLE_RATE}")
    if not split_stereo:
        return load(input_file).samples
    channels = [channel.samples for channel in load_channels(input_file)]
    if len(channels) > 2:
        raise refuse("split_stereo", split_stereo, f"the recording has {len(channels)} channels")
    return channels[0], channels[-1]


class WhisperModel:
    """A loaded model.

    Args:
        model_size_or_path: directory, bundled model or hub id of a model that Auris runs. A size
            of Whisper gets a model of Auris, and a warning says which.
        device: "auto", "cpu", or another that `AsrPipeline.from_pretrained` knows.
        device_index: which of several.
        compute_type: "default", "auto", "float32", "float16", "bfloat16", "int8" or one that begins
            with "int8_".
        cpu_threads: 0 leaves the choice to torch.
        local_files_only: never use the network.
        lm: language model that scores texts in the search, see `AsrPipeline`; "none" for none.
        options: others only where they change nothing, and `num_workers`, which has no effect.

    Raises:
        UnsupportedOption: an option is not supported.
        CheckpointError, DeviceError: see `AsrPipeline.from_pretrained`.
    """

    def __init__(
        self,
        model_size_or_path: str | Path,
        device: str = "auto",
        device_index: int | list[int] = 0,
        compute_type: str = "default",
        cpu_threads: int = 0,
        *,
        local_files_only: bool = False,
        lm: str | Path | None = DEFAULT_LM,
        **options: Any,
    ) -> None:
        check_options(options, LOADING, ("num_workers",))
        if compute_type not in DTYPES:
            raise refuse("compute_type", compute_type, f"choose one of {', '.join(DTYPES)}")
        given = device_index if isinstance(device_index, list) else [device_index]
        if len(given) != 1 or type(given[0]) is not int or (given[0] and device == "auto"):
            raise refuse("device_index", device_index, "name one device")
        self.pipeline = AsrPipeline.from_pretrained(
            model_for(model_size_or_path),
            device=f"{device}:{given[0]}" if given[0] else device,
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
    def is_multilingual(self) -> bool:
        """Whether the model chooses among languages: it has a decoder."""
        return not isinstance(self.pipeline.recognizer, CtcRecognizer)

    def detect_language(self, audio: Any) -> tuple[str | None, float, list[tuple[str, float]]]:
        """The likeliest language of the first 30 seconds of a recording, and of all of them.

        Args:
            audio: as of `transcribe`.

        Returns:
            its code (None for no speech), its probability, and the codes with theirs.

        Raises:
            UnsupportedOption: the model has no decoder.
        """
        detected = self.pipeline.detect_language(_source(audio))
        name, probability = detected[0]
        return name and LANGUAGE_CODES[name], probability, _codes(dict(detected))

    def _search(
        self, beam_size: int | None, temperature: float, hotwords: str | None
    ) -> SearchOptions:
        """The search of a call, with the beam of the model's default search where none is given."""
        given = CallOptions(beam_size=beam_size, temperature=temperature)
        filled = with_default_search(given, self.pipeline.recognizer.scorers.lm)
        phrases = _phrases(hotwords)
        if temperature and phrases and not self.pipeline.reads_contexts:
            warn(f"hotwords = {hotwords!r} have no effect: they need a temperature of 0")
        return SearchOptions(
            beam_size=filled["beam_size"] or 1,
            temperature=temperature,
            hotwords=[] if temperature else phrases,
        )

    def transcribe(
        self,
        audio: Any,
        language: str | None = None,
        task: str | None = "transcribe",
        log_progress: bool = False,
        beam_size: int | None = None,
        *,
        temperature: float | list[float] | tuple[float, ...] = 0.0,
        initial_prompt: str | None = None,
        hotwords: str | None = None,
        max_new_tokens: int | None = None,
        chunk_length: float | None = None,
        clip_timestamps: str | list[Any] = "0",
        word_timestamps: bool = False,
        vad_filter: bool = False,
        batch_size: int = 1,
        **options: Any,
    ) -> tuple[Iterator[WhisperSegment], TranscriptionInfo]:
        """Transcribe a recording; the first chunk at once, the others when they are needed.

        Args:
            audio: a path, an address, a binary file, or samples at 16 kHz.
            language: code or English name to force.
            task: "transcribe".
            log_progress: show on standard error how far the segments reach.
            beam_size: hypotheses of a text that are followed at a time, 1 to 16; None for the
                default search of the model.
            temperature: 0 takes the best token; above it, tokens are drawn. Of several the first
                one counts: texts that are decoded again keep it.
            initial_prompt: words and names to expect, as context.
            hotwords: words that are written more readily, if the temperature is 0, and context for
                models that read one; phrases are separated by commas, words also by spaces.
            max_new_tokens: token budget of a chunk.
            chunk_length: target length of the chunks in seconds.
            clip_timestamps: the span to transcribe: its start, or start and end.
            word_timestamps: give segments their words, by the model's CTC head.
            vad_filter: leave long silence out, by our detector and not by Silero's; some models
                always do, see their inference defaults.
            batch_size: chunks that are decoded at once.
            options: others where they change nothing (`NEUTRAL`); those that only tune decoding
                (`TUNING`) have no effect, and a warning says so.

        Returns:
            the segments that hold text, and what is known before them.

        Raises:
            UnsupportedOption: an option is not supported.
            AurisError: see `AsrPipeline.transcribe`.
        """
        check_options({"task": task, **options}, NEUTRAL, TUNING)
        first_temperature = _first_temperature(temperature)
        search = self._search(beam_size, first_temperature, hotwords)
        start, duration = _clip(clip_timestamps)
        vad = vad_filter or self.pipeline.defaults.vad
        waveform = load(_source(audio))
        segments = self.pipeline.segments(
            waveform,
            language,
            _context(initial_prompt, hotwords if self.pipeline.reads_contexts else None),
            start=start,
            duration=duration,
            **search,
            max_new_tokens=max_new_tokens,
            chunk_seconds=chunk_length,
            word_timestamps=word_timestamps,
            vad=vad,
            batch_size=batch_size,
        )
        if log_progress:
            segments = reported(segments, waveform.seconds)
        decoded = (segment for segment in segments if not segment.skipped)
        first = next(decoded, None)
        forced = language_name(language)
        spoken = forced or (first.language if first else None)
        probabilities: dict[str | None, float] | None = None
        if first and not forced and self.is_multilingual:
            span = min(first.end - first.start, DETECT_SECONDS)
            detected = self.pipeline.detect_language(waveform, start=first.start, duration=span)
            probabilities = dict(detected)
        info = TranscriptionInfo(
            language=None if spoken is None else LANGUAGE_CODES.get(spoken, spoken),
            language_probability=1.0 if forced else (probabilities or {}).get(spoken, math.nan),
            duration=waveform.seconds,
            duration_after_vad=_seconds_of_speech(waveform) if vad else waveform.seconds,
            all_language_probs=None if probabilities is None else _codes(probabilities),
            transcription_options={
                "beam_size": search["beam_size"],
                "temperature": first_temperature,
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
        return whisper_segments(chain([first] if first else [], decoded), first_temperature), info


class BatchedInferencePipeline:
    """A model whose chunks are decoded in batches.

    Args:
        model: the model.
    """

    def __init__(self, model: WhisperModel) -> None:
        self.model = model

    def transcribe(
        self, audio: Any, *given: Any, batch_size: int = 8, vad_filter: bool = True, **options: Any
    ) -> tuple[Iterator[WhisperSegment], TranscriptionInfo]:
        """As `WhisperModel.transcribe`, with chunks in batches and long silence left out."""
        options |= {"batch_size": batch_size, "vad_filter": vad_filter}
        return self.model.transcribe(audio, *given, **options)


def _source(audio: Any) -> Any:
    return (audio, SAMPLE_RATE) if isinstance(audio, np.ndarray) else audio


def _codes(probabilities: dict[str | None, float]) -> list[tuple[str, float]]:
    """Codes of languages with their probabilities, the likeliest first."""
    return [(LANGUAGE_CODES[name], one) for name, one in probabilities.items() if name is not None]


def _seconds_of_speech(waveform: Waveform) -> float:
    """Seconds that are left without long silence."""
    chunks = AudioChunker(vad=True).chunks(waveform)
    return sum(len(chunk.samples) for chunk in chunks) / SAMPLE_RATE


def _first_temperature(given: Any) -> float:
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    if not listed:
        raise refuse("temperature", given, "pass one")
    if len(listed) > 1 and tuple(listed) != TEMPERATURES:
        warn(f"temperature = {given!r}: only the first one has an effect")
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
    return [hotwords] if "," in hotwords else hotwords.split()


def _clip(given: Any) -> tuple[float, float | None]:
    """Start and duration of a single clip."""
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], dict):
        given = [given[0].get("start"), given[0].get("end")]
    try:
        times = [float(time) for time in (given.split(",") if isinstance(given, str) else given)]
    except (TypeError, ValueError):
        times = []
    if len(times) not in (1, 2):
        raise refuse("clip_timestamps", given, "pass the start, or start and end, of one clip")
    return times[0], times[1] - times[0] if len(times) == 2 else None
