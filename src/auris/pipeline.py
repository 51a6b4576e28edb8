"""`AsrPipeline`: recordings in, transcripts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from auris.align import AligningRecognizer, ForcedAligner, ctc_alignment
from auris.async_streaming import AsyncStreamSession
from auris.audio.io import Source, Sources, SourceT, is_several
from auris.backends.torch import TorchBackend
from auris.batching import (
    Batch,
    Failure,
    KeptSegments,
    PieceDone,
    RecordingDone,
    Update,
    no_kept_segments,
)
from auris.belonging import stop_ids
from auris.calls import (
    CallOptions,
    CancelToken,
    Progress,
    StreamOptions,
    check_call,
    honoured,
    reading_of,
    stream_options,
    text_options,
)
from auris.checkpoints.calibration import load_calibration
from auris.checkpoints.configs import read_generation
from auris.checkpoints.hub import FoundModel
from auris.checkpoints.load import Checkpoint
from auris.checkpoints.traits import Traits
from auris.config import AlignerConfig, AutCtcConfig
from auris.ctc_recognizer import CtcRecognizer
from auris.detection import DETECT_SECONDS, language_chances
from auris.errors import ConfigError, UsageError
from auris.loading import LoadOptions, OtherLoadOptions, check_count, drafting_backend, load_model
from auris.pieces import Options
from auris.reading_ahead import ReadAhead
from auris.recognizers import QwenRecognizer, Recognizer
from auris.streaming import StreamPool, StreamSession
from auris.text.tokenizer import Tokenizer
from auris.types import Segment, Transcript

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsrPipeline", "CallOptions", "CancelToken", "Failure", "Progress", "make_recognizer"]


NOT_BEGUN = Transcript("", None, (), None, "cancelled", 0.0)
"""What is known of a recording whose turn did not come before the work was cancelled."""

GENERAL = Traits()


class AsrPipeline:
    """A loaded model that transcribes recordings.

    Args:
        model: a directory, a bundled model's name or a hub id; by default AURIS_MODEL from the
            environment, or the bundled default.
        device: what it runs on, see `LoadOptions`.
        speculate: "ctc" lets the CTC head beside the weights guess texts, which the decoder
            verifies several tokens at a time; texts stay the same.
        options: see `LoadOptions`.

    Attributes:
        recognizer: the model with its tokenizer.
        model: where it was found.
        backend: what runs it.
        traits: what it was made for.

    Raises:
        CheckpointError, TokenizerError, DeviceError: what is wrong with the model or the machine.
        UnsupportedOption: the model has no CTC head to guess with.
    """

    recognizer: Recognizer
    model: FoundModel
    backend: TorchBackend
    traits: Traits

    def __init__(
        self,
        model: str | Path | None = None,
        device: str | None = None,
        *,
        speculate: str = "none",
        **options: Unpack[OtherLoadOptions],
    ) -> None:
        loaded = load_model(model, device=device, **options)
        recognizer = make_recognizer(loaded.backend, loaded.checkpoint, loaded.tokenizer)
        drafting = drafting_backend(loaded, speculate)
        if isinstance(recognizer, QwenRecognizer):
            recognizer.drafting = drafting
        self._set(recognizer, loaded.found, loaded.backend, loaded.traits)

    def _set(
        self, recognizer: Recognizer, model: FoundModel, backend: TorchBackend, traits: Traits
    ) -> None:
        self.recognizer = recognizer
        self.model = model
        self.backend = backend
        self.traits = traits

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        speculate: str = "none",
        **options: Unpack[LoadOptions],
    ) -> AsrPipeline:
        """Load a model; arguments and errors are those of the class."""
        return cls(model, speculate=speculate, **options)

    @classmethod
    def over(
        cls,
        recognizer: Recognizer,
        model: FoundModel,
        backend: TorchBackend,
        traits: Traits = GENERAL,
    ) -> AsrPipeline:
        """A pipeline over a model that is loaded already.

        Args:
            recognizer, model, backend, traits: its attributes.
        """
        pipeline = cls.__new__(cls)
        pipeline._set(recognizer, model, backend, traits)
        return pipeline

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
        audio: Sources[SourceT],
        language: str | None = None,
        context: str = "",
        **options: Unpack[CallOptions],
    ) -> list[Transcript]: ...

    def transcribe(
        self,
        audio: Source | Sources[SourceT],
        language: str | None = None,
        context: str = "",
        **options: Unpack[CallOptions],
    ) -> Transcript | list[Transcript]:
        """Transcribe one recording, or a list of them.

        Args:
            audio: a path, an http or https address, a data URI, "-" (standard input), bytes, a
                binary file or (array, rate); or a list of these, or a tuple of
                paths, addresses or bytes.
            language: code or English name to force; None or "auto" for the model's choice.
            context: words and names to expect; ignored, with a warning, by a model that was
                trained without contexts.
            options: see `CallOptions`.

        Returns:
            a transcript, or a list of them in the order of the recordings; when cancelled, what
            there is of each has the finish reason "cancelled".

        Raises:
            AurisError: of the first recording that failed; `results` goes on without it.
        """
        several = is_several(audio)
        sources: list[Any] = list(audio) if several else [audio]  # type: ignore[arg-type]
        transcripts: dict[int, Transcript] = {}
        for number, result in self.results(sources, language, context, **options):
            if isinstance(result, Failure):
                raise result.error
            transcripts[number] = result
        ordered = [transcripts.get(number, NOT_BEGUN) for number in range(len(sources))]
        return ordered if several else ordered[0]

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

    def updates(
        self,
        sources: Iterable[Source],
        language: str | None = None,
        context: str = "",
        *,
        kept: KeptSegments = no_kept_segments,
        **options: Unpack[CallOptions],
    ) -> Iterator[Update]:
        """Transcribe recordings and give every piece and every recording as soon as it is done.

        Arguments as in `transcribe`; wrong ones are refused at once. Chunks whose segments are
        `kept` are not recognized again.
        """
        return self._updates(sources, language, context, options, kept)

    def detect_language(
        self,
        audio: Source,
        *,
        start: float = 0.0,
        duration: float | None = DETECT_SECONDS,
    ) -> list[tuple[str | None, float]]:
        """How likely each language is spoken in a recording, by a model with a decoder.

        Args:
            audio: see `transcribe`.
            start, duration: the span to listen to, in seconds; by default the first 30.

        Returns:
            English names, None for no speech, and their probabilities, the likeliest first; they
            add up to 1.

        Raises:
            UnsupportedOption: the model has a CTC head only.
            AudioError: the recording cannot be read.
        """
        return language_chances(self.recognizer, audio, start, duration)

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
        session, call = stream_options(options)
        text = honoured(text_options(language, context, call), self.traits)
        recognizer = self._recognizer(call, options.get("provisional_words", False))
        pool = self.streams(1) if pool is None else pool
        if pool.recognizer is not self.recognizer:
            raise UsageError(
                "A pool serves the pipeline that made it",
                "this is another's",
                "use its own streams()",
            )
        return pool.open(text, recognizer, **session)

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
        self,
        sources: Iterable[Source],
        language: str | None,
        context: str,
        given: CallOptions,
        kept: KeptSegments = no_kept_segments,
    ) -> Iterator[Update]:
        check_call(sources, given)
        options = honoured(text_options(language, context, given), self.traits)
        recognizer = self._recognizer(given)
        recognizer.check(options)
        rows = given.get("batch_size", 1)
        check_count("batch_size", rows)
        cancel = given.get("cancel")
        cancelled = cancel.is_set if cancel else lambda: False
        reading, workers = reading_of(given, self.traits), given.get("workers", 0)
        if workers:
            check_count("workers", workers, least=0)
            updates = _read_ahead(
                recognizer, ReadAhead(reading, workers), sources, options, kept, rows, cancelled
            )
        else:
            batch = Batch(recognizer, reading.pieces, sources, options, kept)
            updates = batch.run(rows, cancelled)
        report = given.get("progress")
        return _watched(updates, report) if report else updates

    def _recognizer(self, given: CallOptions, while_heard: bool = False) -> Recognizer:
        """The recognizer, with an aligner behind it where times of words are asked for."""
        if not given.get("word_timestamps", False):
            return self.recognizer
        aligner = given.get("aligner") or self._own_aligner
        return AligningRecognizer(self.recognizer, aligner, while_heard)

    @cached_property
    def _own_aligner(self) -> ForcedAligner:
        """The model's CTC head as an aligner."""
        config, tokenizer = self.recognizer.config, self.recognizer.tokenizer
        directory = self.model.directory
        return ForcedAligner(
            ctc_alignment(self.backend, config, tokenizer, directory, transcribes=True)
        )


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


def _read_ahead(
    recognizer: Recognizer,
    ahead: ReadAhead,
    sources: Iterable[Source],
    options: Options,
    kept: KeptSegments,
    rows: int,
    cancelled: Callable[[], bool],
) -> Iterator[Update]:
    with ahead:
        batch = Batch(recognizer, ahead.pieces, ahead.sources(sources), options, kept)
        yield from batch.run(rows, cancelled)


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
