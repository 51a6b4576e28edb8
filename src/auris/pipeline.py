"""`AsrPipeline`: recordings in, transcripts out."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, cast, overload

from auris.align import AligningRecognizer, ForcedAligner, ctc_alignment
from auris.async_streaming import AsyncStreamSession
from auris.audio.io import WEB, Channels, Source, WebLimits
from auris.audio.split import CHUNK_SECONDS
from auris.backends.torch import TorchBackend
from auris.batching import Batch, Failure, PieceDone, RecordingDone, Update
from auris.belonging import stop_ids
from auris.checkpoints.calibration import load_calibration
from auris.checkpoints.configs import read_generation
from auris.checkpoints.hub import FoundModel
from auris.checkpoints.load import Checkpoint
from auris.config import AlignerConfig, AutCtcConfig
from auris.decoding.sampling import Sampling
from auris.errors import ConfigError, UsageError
from auris.loading import LoadOptions, check_count, load_model
from auris.reading import Reading
from auris.recognizers import CtcRecognizer, Options, QwenRecognizer, Recognizer
from auris.streaming import StreamPool, StreamSession
from auris.text.cleanup import check_steps
from auris.text.languages import language_name
from auris.text.tokenizer import Tokenizer
from auris.types import Segment, Transcript

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsrPipeline", "CallOptions", "CancelToken", "Failure", "Progress", "make_recognizer"]


class CancelToken(Protocol):
    """Anything that says whether to stop, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""


@dataclass(frozen=True)
class Progress:
    """How far a call has come: seconds of audio, pieces and recordings that are done.

    Where channels are kept apart, the seconds of each count.
    """

    seconds: float
    segments: int
    recordings: int


class StreamOptions(TypedDict, total=False):
    """Options of a live stream.

    Attributes:
        rate: samples per second that it will be fed (16000).
        chunk_seconds: target length of the pieces that it is cut into (3).
        step_seconds: time between steps (0.5).
        max_new_tokens, temperature, seed, clean, word_timestamps, aligner: as of `CallOptions`;
            words have times in stable segments.
    """

    rate: int
    chunk_seconds: float
    step_seconds: float
    max_new_tokens: int | None
    temperature: float
    seed: int
    clean: Sequence[str]
    word_timestamps: bool
    aligner: ForcedAligner | None


SESSION_OPTIONS = ("rate", "chunk_seconds", "step_seconds")
"""Options of a stream that calls do not have, or by another default."""


class CallOptions(TypedDict, total=False):
    """Options of a call.

    Attributes:
        batch_size: most pieces in one batch of the decoder (1).
        chunk_seconds: target length of the pieces that a recording is cut into (30).
        start, duration: the span of every recording to transcribe, in seconds (all of it).
        channels: "mix" averages a recording's channels, "split" transcribes each by itself and
            puts the segments together by time, with the names of the speakers ("mix").
        speakers: their names, one for each channel ("channel 1", "channel 2", ...).
        urls: what fetching a recording from the web may cost; None refuses addresses.
        max_new_tokens: token budget of a piece (64, and 16 more for each second).
        temperature: 0 takes the best token; above it, tokens are drawn (0).
        seed: of the draws (0).
        clean: clean-up of the texts, "numbers" (English ones in digits) and "punctuation" (none).
        progress: called after every piece and every recording.
        cancel: when set, pieces under way end as they are, with what they have.
        word_timestamps: place every word in time (False).
        aligner: what places them; by default the model's own CTC head.
    """

    batch_size: int
    chunk_seconds: float
    start: float
    duration: float | None
    channels: Channels
    speakers: Sequence[str] | None
    urls: WebLimits | None
    max_new_tokens: int | None
    temperature: float
    seed: int
    clean: Sequence[str]
    progress: Callable[[Progress], None] | None
    cancel: CancelToken | None
    word_timestamps: bool
    aligner: ForcedAligner | None


NOT_BEGUN = Transcript("", None, (), None, "cancelled", 0.0)
"""What is known of a recording whose turn did not come before the work was cancelled."""


class AsrPipeline:
    """A loaded model that transcribes recordings. Build one with `from_pretrained`.

    Args:
        recognizer: the model with its tokenizer.
        model: where it was found.
        backend: what runs it.
    """

    def __init__(self, recognizer: Recognizer, model: FoundModel, backend: TorchBackend) -> None:
        self.recognizer = recognizer
        self.model = model
        self.backend = backend

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, **options: Unpack[LoadOptions]
    ) -> AsrPipeline:
        """Load a model.

        Args:
            model: a directory, a bundled model's name or a hub id; by default AURIS_MODEL from
                the environment, or the bundled default.
            options: see `LoadOptions`.

        Raises:
            CheckpointError, TokenizerError, DeviceError: what is wrong with the model or the
                machine.
        """
        loaded = load_model(model, **options)
        recognizer = make_recognizer(loaded.backend, loaded.checkpoint, loaded.tokenizer)
        return cls(recognizer, loaded.found, loaded.backend)

    @overload
    def transcribe(
        self,
        audio: Source,
        language: str | None = None,
        context: str = "",
        **options: Unpack[CallOptions],
    ) -> Transcript: ...

    @overload
    def transcribe(
        self,
        audio: list[Source],
        language: str | None = None,
        context: str = "",
        **options: Unpack[CallOptions],
    ) -> list[Transcript]: ...

    def transcribe(
        self,
        audio: Source | list[Source],
        language: str | None = None,
        context: str = "",
        **options: Unpack[CallOptions],
    ) -> Transcript | list[Transcript]:
        """Transcribe one recording, or a list of them.

        Args:
            audio: a path, an http or https address, a data URI, "-" (standard input), bytes, a
                binary file or (array, rate); or a list of these.
            language: code or English name to force; None or "auto" for the model's choice.
            context: words and names to expect.
            options: see `CallOptions`.

        Returns:
            a transcript, or a list of them in the order of the recordings; when cancelled, what
            there is of each has the finish reason "cancelled".

        Raises:
            AurisError: of the first recording that failed; `results` goes on without it.
        """
        sources = audio if isinstance(audio, list) else [audio]
        transcripts: dict[int, Transcript] = {}
        for number, result in self.results(sources, language, context, **options):
            if isinstance(result, Failure):
                raise result.error
            transcripts[number] = result
        ordered = [transcripts.get(number, NOT_BEGUN) for number in range(len(sources))]
        return ordered if isinstance(audio, list) else ordered[0]

    def results(
        self,
        sources: Iterable[Source],
        language: str | None = None,
        context: str = "",
        **options: Unpack[CallOptions],
    ) -> Iterator[tuple[int, Transcript | Failure]]:
        """Transcribe recordings and give each result as soon as it is complete.

        Arguments as in `transcribe`; wrong ones are refused at once. A recording is not read
        before its turn; when cancelled, those whose turn did not come have no result.

        Yields:
            number of the recording, and its transcript or why there is none.
        """
        updates = self._updates(sources, language, context, options)
        return ((u.recording, u.result) for u in updates if isinstance(u, RecordingDone))

    def segments(
        self,
        audio: Source,
        language: str | None = None,
        context: str = "",
        **options: Unpack[CallOptions],
    ) -> Iterator[Segment]:
        """Transcribe one recording piece by piece, in the order of time.

        Arguments as in `transcribe`; `progress` watches and `cancel` stops the work, and so does
        no longer iterating.

        Raises:
            AurisError: at the piece that could not be read.
        """
        return _in_order(self._updates([audio], language, context, options))

    def streams(self, streams: int = 8) -> StreamPool:
        """Room for live streams that share the model; steps due together are computed together."""
        check_count("streams", streams)
        return StreamPool(self.recognizer, streams)

    def stream(
        self,
        language: str | None = None,
        context: str = "",
        pool: StreamPool | None = None,
        **options: Unpack[StreamOptions],
    ) -> StreamSession:
        """Begin a live stream.

        Args:
            language, context: as of `transcribe`.
            pool: from `streams`, for several at once; a stream by itself needs none.
            options: see `StreamOptions`.

        Raises:
            UsageError, LanguageError, UnsupportedOption: an option is impossible.
            InvalidSamples: the rate is.
        """
        _check_names(options, StreamOptions)
        given: dict[str, Any] = {**options}
        own = {name: given.pop(name) for name in SESSION_OPTIONS if name in given}
        calls = cast("CallOptions", given)
        recognizer = self._recognizer(calls)
        text = _options(language, context, calls)
        return (pool or self.streams(1)).open(text, recognizer=recognizer, **own)

    def astream(
        self,
        language: str | None = None,
        context: str = "",
        pool: StreamPool | None = None,
        **options: Unpack[StreamOptions],
    ) -> AsyncStreamSession:
        """As `stream`, to be awaited: work is done beside the event loop."""
        return AsyncStreamSession(self.stream(language, context, pool, **options))

    def _updates(
        self, sources: Iterable[Source], language: str | None, context: str, given: CallOptions
    ) -> Iterator[Update]:
        _check_given(sources, given)
        options = _options(language, context, given)
        recognizer = self._recognizer(given)
        recognizer.check(options)
        rows = given.get("batch_size", 1)
        check_count("batch_size", rows)
        cancel = given.get("cancel")
        batch = Batch(recognizer, _reading(given).pieces, sources, options)
        updates = batch.run(rows, cancel.is_set if cancel else lambda: False)
        report = given.get("progress")
        return _watched(updates, report) if report else updates

    def _recognizer(self, given: CallOptions) -> Recognizer:
        """The recognizer, with an aligner behind it where times of words are asked for."""
        if not given.get("word_timestamps", False):
            return self.recognizer
        return AligningRecognizer(self.recognizer, given.get("aligner") or self._own_aligner)

    @cached_property
    def _own_aligner(self) -> ForcedAligner:
        """The model's CTC head as an aligner."""
        config, tokenizer = self.recognizer.config, self.recognizer.tokenizer
        return ForcedAligner(ctc_alignment(self.backend, config, tokenizer, self.model.directory))


def make_recognizer(
    backend: TorchBackend, checkpoint: Checkpoint, tokenizer: Tokenizer, calibrated: bool = True
) -> Recognizer:
    """The recognizer for a checkpoint's kind of model.

    Args:
        backend, checkpoint, tokenizer: of the model.
        calibrated: whether to use the calibration that lies beside the weights, where there is one.

    Raises:
        ConfigError, TokenizerError: config, weights and tokenizer do not belong together.
        CheckpointError: the calibration is damaged.
    """
    config = checkpoint.config
    if isinstance(config, AlignerConfig):
        raise ConfigError(
            "Transcribing needs a model that writes text",
            "this checkpoint is a forced aligner, whose head scores timestamps",
            "choose a Qwen3-ASR checkpoint, or name this one with --aligner",
        )
    calibration = load_calibration(checkpoint.directory) if calibrated else None
    if isinstance(config, AutCtcConfig):
        return CtcRecognizer(backend, config, tokenizer, calibration)
    stops = stop_ids(config, read_generation(checkpoint.directory))
    return QwenRecognizer(backend, config, tokenizer, stops, calibration)


def _reading(given: CallOptions) -> Reading:
    return Reading(
        given.get("chunk_seconds", CHUNK_SECONDS),
        given.get("start", 0.0),
        given.get("duration"),
        given.get("channels", "mix"),
        given.get("speakers"),
        given.get("urls", WEB),
    )


def _check_given(sources: Iterable[Source], given: CallOptions) -> None:
    _check_names(given, CallOptions)
    if isinstance(sources, (str, bytes, os.PathLike)):
        raise UsageError(
            "Several recordings have to be a list or another iterable of sources",
            f"a single {type(sources).__name__} was passed",
            "put it into a list",
        )


def _check_names(given: Iterable[str], known: type[CallOptions] | type[StreamOptions]) -> None:
    unknown = sorted(set(given) - set(known.__annotations__))
    if unknown:
        what = "call" if known is CallOptions else "stream"
        raise UsageError(
            f"The options of a {what} are {', '.join(known.__annotations__)}",
            f"there is also {', '.join(unknown)}",
            "correct the name",
        )


def _options(language: str | None, context: str, given: CallOptions) -> Options:
    _is_text("language", language or "")
    _is_text("context", context)
    budget = given.get("max_new_tokens")
    temperature = given.get("temperature", 0.0)
    if budget is not None:
        check_count("max_new_tokens", budget)
    real = isinstance(temperature, numbers.Real)
    if not real or not 0.0 <= temperature <= 100.0:
        raise UsageError(
            "The temperature has to lie between 0 and 100", f"it is {temperature!r}", "choose 0"
        )
    seed = given.get("seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise UsageError(
            "The seed has to be a whole number from 0 to 2**63 - 1", f"it is {seed!r}", "choose one"
        )
    sampling = Sampling(temperature, seed)
    name = language_name(language)
    return Options(name, context, budget, sampling, check_steps(given.get("clean", ()), name))


def _is_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(
            f"{name} has to be a string", f"it is a {type(value).__name__}", "pass its text"
        )


def _watched(updates: Iterator[Update], report: Callable[[Progress], None]) -> Iterator[Update]:
    seconds, segments, recordings = 0.0, 0, 0
    for update in updates:
        if isinstance(update, PieceDone):
            seconds += update.segment.end - update.segment.start
            segments += 1
        else:
            recordings += 1
        report(Progress(seconds, segments, recordings))
        yield update


def _in_order(updates: Iterator[Update]) -> Iterator[Segment]:
    waiting: dict[int, Segment] = {}
    following = 0
    for update in updates:
        if isinstance(update, PieceDone):
            waiting[update.index] = update.segment
            while following in waiting:
                yield waiting.pop(following)
                following += 1
        elif isinstance(update.result, Failure):
            raise update.result.error
    yield from (waiting[index] for index in sorted(waiting))
