"""`AsrPipeline`: recordings in, transcripts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from auris.alignment.aligner import ForcedAligner, ctc_alignment
from auris.audio.io import Source, Sources, SourceT, is_several
from auris.audio.pauses import FIRST_PAUSE_SECONDS
from auris.backends.torch import TorchBackend
from auris.checkpoints.hub import ResolvedModel
from auris.checkpoints.inference_defaults import InferenceDefaults
from auris.config import QwenAsrConfig
from auris.decoding.requests import never
from auris.diarization.diarizer import Diarizer, SpeakerCount
from auris.diarization.live import LiveDiarization
from auris.diarization.transcripts import UNDIVIDED, SpeakerLabels
from auris.errors import UnsupportedOption, UsageError
from auris.recognition.hotwords import supported_options
from auris.recognition.language_id import DETECT_SECONDS, language_probabilities
from auris.recognition.language_model import DEFAULT_LM
from auris.recognition.load import (
    LoadOptions,
    OtherLoadOptions,
    check_count,
    load_model,
    make_recognizer,
    with_window,
)
from auris.recognition.options import (
    CallOptions,
    StreamOptions,
    check_call,
    chunker_for,
    decode_options,
    stream_options,
    with_default_search,
)
from auris.recognition.prefetch import Prefetcher
from auris.recognition.recognizer import ChunkBatch, Recognizer
from auris.recognition.requests import DecodeOptions, WordAligner
from auris.recognition.scheduler import (
    Failure,
    KnownSegments,
    RecordingDone,
    Scheduler,
    Update,
    reporting,
    segments_of,
)
from auris.streaming.async_session import AsyncStreamSession
from auris.streaming.pool import LIVE_CHUNK_SECONDS, StreamPool
from auris.streaming.session import StreamSession
from auris.streaming.speakers import StreamSpeakers
from auris.types import Segment, Transcript

if TYPE_CHECKING:
    from typing_extensions import Unpack

NOT_BEGUN = Transcript("", None, (), None, "cancelled", 0.0)
"""The transcript of a recording that was not begun when the call was cancelled."""

NO_DEFAULTS = InferenceDefaults()


class AsrPipeline:
    """A loaded model that transcribes recordings.

    Args:
        model: a directory, a bundled model's name or a hub id; by default AURIS_MODEL from the
            environment, or the bundled default.
        device: what it runs on, see `LoadOptions`.
        speculate: "ctc" uses texts of the CTC head next to the weights as drafts, which the decoder
            verifies several tokens at a time; texts stay those of `beam_size` 1.
        lm: language model that scores texts in the search: "auto" for that of the model's default
            search, which the bundled models have; None or "none" for none; the name of a bundled
            one ("english"), a file that `auris train lm` writes, or an ARPA file.
        options: see `LoadOptions`.

    Attributes:
        recognizer: the model with its tokenizer.
        model: its name and directory.
        backend: what runs it.
        defaults: its inference defaults.

    Raises:
        CheckpointError, TokenizerError: the model cannot be loaded.
        DeviceError: this machine does not have the device or the dtype.
        UnsupportedOption: `speculate` needs a model with a decoder and a CTC head.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        device: str | None = None,
        *,
        speculate: str = "none",
        lm: str | Path | None = DEFAULT_LM,
        **options: Unpack[OtherLoadOptions],
    ) -> None:
        loaded = load_model(model, device=device, **options)
        self.recognizer = make_recognizer(
            loaded.backend, loaded.checkpoint, loaded.tokenizer, speculate=speculate, lm=lm
        )
        self.model = loaded.model
        self.backend = loaded.backend
        self.defaults = loaded.defaults
        self._open_batch: Callable[[int], ChunkBatch] = self.recognizer.batch

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        speculate: str = "none",
        lm: str | Path | None = DEFAULT_LM,
        **options: Unpack[LoadOptions],
    ) -> AsrPipeline:
        """Load a model; arguments and errors are those of the class."""
        return cls(model, speculate=speculate, lm=lm, **options)

    @classmethod
    def over(
        cls,
        recognizer: Recognizer,
        model: ResolvedModel,
        backend: TorchBackend,
        defaults: InferenceDefaults = NO_DEFAULTS,
        open_batch: Callable[[int], ChunkBatch] | None = None,
    ) -> AsrPipeline:
        """A pipeline over a model that is loaded already.

        Args:
            open_batch: makes a batch of up to that many chunks; by default the recognizer's own.
        """
        pipeline = cls.__new__(cls)
        pipeline.recognizer, pipeline.model = recognizer, model
        pipeline.backend, pipeline.defaults = backend, defaults
        pipeline._open_batch = open_batch or recognizer.batch
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
            context: words and names to expect; hotwords, with a warning, of a model that reads
                no context.
            options: see `CallOptions`.

        Returns:
            a transcript, or a list of them in the order of the recordings; when cancelled,
            unfinished transcripts have the finish reason "cancelled".

        Raises:
            AurisError: the error of the first recording that failed; `results` continues after it.
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

        Arguments as in `transcribe`; wrong ones are refused at once. Recordings are read one
        after the other; when cancelled, recordings that were not begun have no result.

        Yields:
            number of the recording, and its transcript or failure.
        """
        updates = self.updates(sources, language, context, **options)
        return ((u.recording, u.result) for u in updates if isinstance(u, RecordingDone))

    def segments(
        self,
        audio: Source,
        language: str | None = None,
        context: str = "",
        **options: Unpack[CallOptions],
    ) -> Iterator[Segment]:
        """Transcribe one recording and give each segment, in the order of time.

        Arguments as in `transcribe`; the work ends with the iteration.

        Raises:
            AurisError: the recording cannot be read further; raised after the segments before.
        """
        return segments_of(self.updates([audio], language, context, **options))

    def updates(
        self,
        sources: Iterable[Source],
        language: str | None = None,
        context: str = "",
        *,
        known: KnownSegments | None = None,
        recognized: Callable[[Segment], None] | None = None,
        **options: Unpack[CallOptions],
    ) -> Iterator[Update]:
        """Transcribe recordings and give every segment and every recording as soon as it is done.

        Arguments as in `transcribe`; wrong ones are refused at once. The segments of a recording
        come in the order of time. Chunks whose segments `known` finds are not recognized again;
        `recognized` is called with the segment of each chunk before it has a speaker by voice.
        """
        check_call(sources, options)
        window = options.get("attention_window")
        if window is not None:
            options["attention_window"] = None
            pipeline = self._with_window(window)
            return pipeline.updates(
                sources, language, context, known=known, recognized=recognized, **options
            )
        decoding = self._decode_options(language, context, options)
        self.recognizer.check(decoding)
        rows, workers = options.get("batch_size", 1), options.get("workers", 0)
        check_count("batch_size", rows)
        check_count("workers", workers, least=0)
        chunker = chunker_for(options, self.defaults)
        cancel, report = options.get("cancel"), options.get("progress")
        run = partial(
            Scheduler, self._open_batch(rows), options=decoding, known=known, report=report
        )
        cancelled = cancel.is_set if cancel else never
        labels = self._speaker_labels(options)
        if workers:
            updates = _prefetched(run, Prefetcher(chunker, workers), sources, cancelled, labels)
        else:
            read = chunker.chunks if labels is None else labels.reading(chunker.chunks)
            updates = run(read, sources).run(cancelled)
        if recognized is not None:
            updates = reporting(updates, recognized)
        return updates if labels is None else labels.labelled(updates)

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
            start: beginning of the span to use, in seconds.
            duration: its length in seconds; None for the rest.

        Returns:
            English names, None for no speech, and their probabilities, the likeliest first; they
            add up to 1.

        Raises:
            UnsupportedOption: the model has a CTC head only.
            AudioError: the recording cannot be read.
        """
        return language_probabilities(self.recognizer, audio, start, duration)

    def streams(self, streams: int = 8) -> StreamPool:
        """A pool of live streams that share the model; steps due together run as one batch."""
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
            language: as of `transcribe`.
            context: as of `transcribe`.
            pool: from `streams`, for several at once; a stream by itself needs none.
            options: see `StreamOptions`.

        Raises:
            UsageError, LanguageError, UnsupportedOption, InvalidSamples: an option is wrong.
        """
        session, call = stream_options(options)
        decoding = self._decode_options(language, context, call)
        decoding = replace(decoding, align_partial=options.get("partial_words", False))
        if session.get("chunk_seconds") is None:
            session["chunk_seconds"] = self.live_chunk_seconds
        pool = self.streams(1) if pool is None else pool
        if pool.recognizer is not self.recognizer:
            raise UsageError("The pool is one of another pipeline", "", "use the own streams()")
        pause = self.defaults.pause_seconds or FIRST_PAUSE_SECONDS
        speakers = self._stream_speakers(call)
        return pool.open(decoding, speakers=speakers, pause_seconds=pause, **session)

    @property
    def reads_contexts(self) -> bool:
        """Whether the model has contexts in its prompt; otherwise their words are hotwords."""
        has_prompt = isinstance(self.recognizer.config, QwenAsrConfig)
        return has_prompt and self.defaults.contexts is not False

    @property
    def live_chunk_seconds(self) -> float:
        """Target length of the chunks of a stream that names none: that of files, if it is not
        too long for live text."""
        return min(self.defaults.chunk_seconds or LIVE_CHUNK_SECONDS, LIVE_CHUNK_SECONDS)

    def astream(
        self,
        language: str | None = None,
        context: str = "",
        pool: StreamPool | None = None,
        **options: Unpack[StreamOptions],
    ) -> AsyncStreamSession:
        """As `stream`, for asyncio: the work is done in a thread."""
        return AsyncStreamSession(self.stream(language, context, pool, **options))

    def _with_window(self, seconds: int) -> AsrPipeline:
        """A pipeline of the same model, whose encoder's attention sees so many seconds.

        Raises:
            UsageError: there is no such window.
            UnsupportedOption: chunks of this call share a batch with those of others.
        """
        encoder = with_window(self.recognizer.config.encoder, seconds)
        if self._open_batch != self.recognizer.batch:
            raise UnsupportedOption(
                "attention_window of a call needs a pipeline with batches of its own",
                "this one shares them with other calls",
                "choose the window where the model is loaded",
            )
        backend = self.backend.with_window(encoder)
        recognizer = self.recognizer.with_window(backend, encoder)
        return AsrPipeline.over(recognizer, self.model, backend, self.defaults)

    def _decode_options(
        self, language: str | None, context: str, given: CallOptions
    ) -> DecodeOptions:
        given = with_default_search(given, self.recognizer.scorers.lm)
        options = supported_options(
            decode_options(language, context, given), self.defaults, self.reads_contexts
        )
        if given.get("word_timestamps", False):
            options = replace(options, aligner=given.get("aligner") or self._own_aligner)
        elif given.get("diarize", False):
            options = self._aligned_for_speakers(options, given.get("aligner"))
        return options

    def _aligned_for_speakers(
        self, options: DecodeOptions, aligner: WordAligner | None
    ) -> DecodeOptions:
        """The options with an aligner, or with a warning where the model has no times of words."""
        try:
            return replace(options, aligner=aligner or self._own_aligner)
        except UnsupportedOption:
            return replace(options, warnings=(*options.warnings, UNDIVIDED))

    def _speaker_labels(self, given: CallOptions) -> SpeakerLabels | None:
        """What labels the segments of a call with their speakers; None where it does not ask."""
        if not given.get("diarize", False):
            return None
        words = given.get("word_timestamps", False)
        return SpeakerLabels(*self._diarizer(given), self.recognizer.tokenizer, words)

    def _stream_speakers(self, given: CallOptions) -> StreamSpeakers | None:
        """What tells the speakers of a stream apart; None where it does not ask."""
        live = given.get("diarize", False)
        if not live:
            return None
        if not isinstance(live, LiveDiarization):
            live = LiveDiarization(*self._diarizer(given))
        words = given.get("word_timestamps", False)
        return StreamSpeakers(live, self.recognizer.tokenizer, words)

    def _diarizer(self, given: CallOptions) -> tuple[Diarizer, SpeakerCount]:
        """The diarizer of a call or stream, and how many speakers there are."""
        diarize = given.get("diarize")
        limits = given.get("min_speakers"), given.get("max_speakers")
        count = SpeakerCount.of(given.get("speakers"), *limits)
        return diarize if isinstance(diarize, Diarizer) else self._own_diarizer, count

    @cached_property
    def _own_diarizer(self) -> Diarizer:
        """The default networks that tell speakers apart."""
        return Diarizer.from_pretrained()

    @cached_property
    def _own_aligner(self) -> ForcedAligner:
        """The model's CTC head as an aligner."""
        config, tokenizer = self.recognizer.config, self.recognizer.tokenizer
        directory = self.model.directory
        return ForcedAligner(
            ctc_alignment(self.backend, config, tokenizer, directory, transcribes=True)
        )


def _prefetched(
    run: Callable[..., Scheduler],
    prefetcher: Prefetcher,
    sources: Iterable[Source],
    cancelled: Callable[[], bool],
    labels: SpeakerLabels | None,
) -> Iterator[Update]:
    read = prefetcher.chunks if labels is None else labels.reading(prefetcher.chunks)
    with prefetcher:
        yield from run(read, prefetcher.sources(sources)).run(cancelled)
