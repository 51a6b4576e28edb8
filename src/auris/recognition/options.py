"""The options of calls and live streams: names, checks, and what they mean for decoding."""

from __future__ import annotations

import math
import numbers
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol, TypedDict, cast

from auris.audio.io import Channels, Source
from auris.audio.pauses import FIRST_PAUSE_SECONDS
from auris.audio.remote import WebLimits
from auris.audio.segmentation import CHUNK_SECONDS
from auris.checkpoints.inference_defaults import InferenceDefaults
from auris.decoding.requests import MOST_BEAM_SIZE
from auris.decoding.sampling import Sampling
from auris.errors import UsageError
from auris.recognition.chunker import AudioChunker
from auris.recognition.hotword_lists import checked_hotwords, with_letters
from auris.recognition.hotwords import HOTWORDS_WITHOUT_LETTERS, warned
from auris.recognition.language_model import WeightedLanguageModel
from auris.recognition.load import check_count, check_number
from auris.recognition.requests import DecodeOptions, WordAligner
from auris.recognition.scheduler import Progress
from auris.text.cleanup import check_steps
from auris.text.languages import language_name, language_names
from auris.text.tokenizer import check_unicode

MOST_CONTEXT_LETTERS = 10_000
"""Longest context; it is in the prompt of every chunk, so a long one costs more than the audio."""


LARGEST_SEED = (1 << 63) - 1


class CancelToken(Protocol):
    """An object that tells whether to stop, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""


class SearchOptions(TypedDict, total=False):
    """How the tokens of a text are chosen.

    Attributes:
        temperature: 0 takes the best tokens; above it, tokens are sampled (0).
        beam_size: hypotheses of a text that are followed at a time, 1 to 16. 1 takes the best token
            at every step, without a language model. None stands for the model's default search: 1
            without a language model, and with one the number that it was fitted with.
        hotwords: words and phrases that are written more readily, such as names (none).
    """

    temperature: float
    beam_size: int | None
    hotwords: Sequence[str] | None


class VoiceDiarizer(ABC):
    """Tells voices apart, see `auris.diarization`."""

    @property
    @abstractmethod
    def values(self) -> Mapping[str, Any]:
        """What can change its results, as plain values."""


class TextOptions(SearchOptions, total=False):
    """Options of calls and of live streams, with those of `SearchOptions`.

    Attributes:
        languages: codes or names of the languages that the model may choose from (all).
        max_new_tokens: token budget of a chunk (64, and 16 more for each second).
        seed: random seed for sampling (0).
        clean: clean-up of the texts, of `auris.text.cleanup.STEPS`: "numbers" (English ones in
            digits), "written" (numbers, dates, currency and units), "simplified" or "traditional"
            (Chinese), "punctuation" (none).
        word_timestamps: find the times of every word; of live text, in final segments (False).
        aligner: finds them; by default the model's own CTC head.
    """

    languages: Sequence[str] | None
    max_new_tokens: int | None
    seed: int
    clean: Sequence[str]
    word_timestamps: bool
    aligner: WordAligner | None


class SpeakerOptions(TypedDict, total=False):
    """How speakers are told apart.

    Attributes:
        diarize: by their voices, see `auris.Diarizer`; True loads its default networks (False).
        speakers: with `diarize` the number of speakers, or their names in the order in which they
            begin to speak; of split channels one name each ("channel 1", "channel 2", ...).
        min_speakers: least number of them, with `diarize` (1).
        max_speakers: largest number of them, with `diarize` (no limit).
    """

    diarize: bool | VoiceDiarizer
    speakers: Sequence[str] | int | None
    min_speakers: int | None
    max_speakers: int | None


class CallOptions(TextOptions, SpeakerOptions, total=False):
    """Options of a call, with those of `TextOptions` and `SpeakerOptions`.

    Attributes:
        batch_size: largest number of chunks in one batch of the decoder (1).
        batch_seconds: maximum seconds of audio in one batch; a longer chunk is alone (no limit).
        chunk_seconds: target length of the chunks that a recording is cut into; None for the
            model's inference default (of its traits.json, or 30).
        vad: cut where nobody speaks, and skip long silence; None for the model's inference
            default (of its traits.json, or False).
        vad_model: the detector: "energy", "silero", or "auto" for silero where its package is
            installed ("auto").
        end_at_pauses: end chunks at pauses of 0.8 s, or as long as the model's inference default
            says, and in longer chunks at shorter ones, as live streams do; without vad (False).
        start: beginning of the span of every recording to transcribe, in seconds (0).
        duration: its length; None for the rest (None).
        channels: "mix" averages a recording's channels; "split" transcribes each separately and
            merges the segments by time, with the names of the speakers ("mix").
        track: number of the sound track, from 1 (the default of the container).
        allow_damaged: transcribe what can be read of a damaged recording instead of failing; a
            warning of the transcript says how much that is (False).
        urls: limits of downloading a recording from the web; None refuses addresses.
        progress: called after every segment and every recording.
        attention_window: seconds that the encoder's attention sees, 1 to 8; None for those that
            the model was loaded with.
        workers: processes that read recordings ahead (0: none, they are read in line).
        cancel: when set, chunks that are being decoded end with the text so far.
    """

    batch_size: int
    batch_seconds: float | None
    chunk_seconds: float | None
    vad: bool | None
    vad_model: str
    end_at_pauses: bool
    start: float
    duration: float | None
    channels: Channels
    track: int | None
    allow_damaged: bool
    urls: WebLimits | None
    progress: Callable[[Progress], None] | None
    cancel: CancelToken | None
    workers: int
    attention_window: int | None


class SessionOptions(TypedDict, total=False):
    """Options of a live stream that concern the stream and not its chunks.

    Attributes:
        rate: samples per second of the input (16000).
        chunk_seconds: target length of the chunks that it is cut into; None for 8, or for the
            model's inference default (of its traits.json) if that is shorter.
        end_at_pauses: end chunks at pauses of 0.8 s, or as long as the model's inference default
            says, and in longer chunks at shorter ones, as soon as they are that long; without vad
            (True).
        step_seconds: time between steps, at least 0.02 (0.5).
        partial_text: whether updates have the text of a chunk that is not over; if not, words
            settle with their chunk, and a model with a search computes nothing before its end
            (True).
        skip_late: skip the partial text of a step if the next step is already due, so that a slow
            machine keeps up; final text does not change (False).
        vad: cut where nobody speaks, and skip long silence (False).
        vad_model: the detector, as of a call ("auto").
        settle_seconds: how long a word of a chunk that is not over has to be the same before it
            settles, see `auris.streaming.settle`; 0 settles words with their chunk only (1.0).
    """

    rate: int
    chunk_seconds: float | None
    end_at_pauses: bool
    step_seconds: float
    partial_text: bool
    skip_late: bool
    vad: bool
    vad_model: str
    settle_seconds: float


class StreamOptions(SessionOptions, TextOptions, SpeakerOptions, total=False):
    """Options of a live stream, with those of `SessionOptions`, `TextOptions` and `SpeakerOptions`.

    Attributes:
        partial_words: with word_timestamps, find the times of the words of partial text, too,
            which takes one alignment for each step (False).
    """

    partial_words: bool


def chunker_for(given: CallOptions, defaults: InferenceDefaults) -> AudioChunker:
    """The chunker of a call; options that the call leaves out come from the model's defaults."""
    names = {field.name for field in fields(AudioChunker)} & given.keys()
    if given.get("diarize"):
        names.discard("speakers")  # They are voices then, not channels.
    options: dict[str, Any] = {name: given[name] for name in names}  # type: ignore[literal-required]
    if options.get("chunk_seconds") is None:
        options["chunk_seconds"] = defaults.chunk_seconds or CHUNK_SECONDS
    if options.get("vad") is None:
        options["vad"] = defaults.vad
    options["pause_seconds"] = defaults.pause_seconds or FIRST_PAUSE_SECONDS
    return AudioChunker(**options)


def check_call(sources: Iterable[Source], given: CallOptions) -> None:
    """Refuse unknown options, and a single source where several are expected."""
    _check_names(given, CallOptions, "call")
    _check_diarize(given)
    pair = isinstance(sources, tuple) and len(sources) == 2
    array = pair and isinstance(tuple(sources)[1], numbers.Real)
    if array or isinstance(sources, (str, bytes, os.PathLike)):
        raise UsageError(
            "Several recordings have to be a list or another iterable of sources",
            f"a single {type(sources).__name__} was passed",
            "put it into a list",
        )


def _check_diarize(given: CallOptions | StreamOptions) -> None:
    """Refuse options that do not go together with telling voices apart, or need it."""
    diarize = given.get("diarize", False)
    if not isinstance(diarize, (bool, VoiceDiarizer)):
        raise UsageError(
            "diarize has to be True, False or a Diarizer",
            f"it is {diarize!r}",
            "load one with Diarizer.from_pretrained",
        )
    if diarize and given.get("channels") == "split":
        raise UsageError(
            "Speakers are told apart either by their voices or by channels",
            "diarize and split channels are both requested",
            "leave one of them out",
        )
    limits = [name for name in ("min_speakers", "max_speakers") if given.get(name) is not None]
    if isinstance(given.get("speakers"), int):
        limits.append("a number of speakers")
    if limits and not diarize:
        raise UsageError(
            f"{' and '.join(limits)} can be used where voices are told apart",
            "diarize is not requested",
            "add diarize (--diarize), or leave them out",
        )


def stream_options(given: StreamOptions) -> tuple[SessionOptions, CallOptions]:
    """The options of a stream: those of its session, and those that calls have, too."""
    _check_names(given, StreamOptions, "stream")
    _check_diarize(given)
    session = {name: given[name] for name in SessionOptions.__annotations__ if name in given}  # type: ignore[literal-required]
    call = {name: value for name, value in given.items() if name not in session}
    return cast("SessionOptions", session), cast("CallOptions", call)


def _check_names(given: Iterable[str], known: type, what: str) -> None:
    unknown = sorted(set(given) - set(known.__annotations__))
    if unknown:
        raise UsageError(
            f"The options of a {what} are {', '.join(known.__annotations__)}",
            f"there is also {', '.join(unknown)}",
            "correct the name",
        )


def with_default_search(given: CallOptions, lm: WeightedLanguageModel | None) -> CallOptions:
    """The options of a call with the beam of the model's search where they name none.

    Args:
        lm: the language model of the search; None if the model is not searched by default.
    """
    if lm is None or given.get("beam_size") is not None or given.get("temperature"):
        return given
    return {**given, "beam_size": lm.weights.beam_size}


def decode_options(language: str | None, context: str, given: CallOptions) -> DecodeOptions:
    """The decode options of a call, checked, without the aligner."""
    _check_aligner(given.get("aligner"))
    _check_texts(language, context)
    budget = given.get("max_new_tokens")
    if budget is not None:
        check_count("max_new_tokens", budget)
    sampling = Sampling(given.get("temperature", 0.0), given.get("seed", 0))
    check_number("temperature", sampling.temperature, 0, 100)
    check_count("seed", sampling.seed, LARGEST_SEED, least=0)
    name, names = language_name(language), language_names(given.get("languages"))
    if name is not None and names is not None:
        raise UsageError(
            "language and languages exclude each other",
            "both were given",
            "leave one of them out",
        )
    beam_size, hotwords = _search(given, sampling.temperature)
    lettered = with_letters(hotwords)
    return DecodeOptions(
        name,
        context,
        budget,
        sampling,
        check_steps(given.get("clean", ()), name),
        names,
        _batch_seconds(given.get("batch_seconds")),
        warnings=warned(HOTWORDS_WITHOUT_LETTERS, len(lettered) < len(hotwords)),
        beam_size=beam_size,
        hotwords=lettered,
    )


def _check_aligner(aligner: object) -> None:
    if aligner is not None and not isinstance(aligner, WordAligner):
        raise UsageError(
            "aligner has to be a ForcedAligner",
            f"it is {aligner!r}",
            "load one with ForcedAligner.from_pretrained, or leave it out",
        )


def _check_texts(language: str | None, context: str) -> None:
    """Check the language and the context, which a caller may give as anything."""
    _check_string("language", language or "")
    _check_string("context", context)
    if len(context) > MOST_CONTEXT_LETTERS:
        raise UsageError(
            f"--context has to be at most {MOST_CONTEXT_LETTERS} letters",
            f"it has {len(context)}",
            "keep the names and words that matter most",
        )
    check_unicode(context, "--context")


def _check_string(option: str, value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(
            f"{option} has to be a string", f"it is a {type(value).__name__}", "pass its text"
        )


def _search(given: CallOptions, temperature: float) -> tuple[int, tuple[str, ...]]:
    """The beam size and the hotwords of a call."""
    size, hotwords = given.get("beam_size"), checked_hotwords(given.get("hotwords"))
    beam_size = 1 if size is None else size
    check_count("beam_size", beam_size, MOST_BEAM_SIZE)
    if temperature and (beam_size > 1 or hotwords):
        raise UsageError(
            "--beam-size and --hotwords need --temperature 0, since they take the best tokens",
            f"--temperature is {temperature:g}",
            "leave it out",
        )
    return beam_size, hotwords


def _batch_seconds(given: object) -> float:
    if given is None:
        return math.inf
    if isinstance(given, numbers.Real) and 0.0 < float(given) < math.inf:
        return float(given)
    raise UsageError(
        "batch_seconds has to be a finite number of seconds, more than 0",
        f"it is {given!r}",
        "choose one, or leave it out",
    )
