"""`Qwen3ASRModel`, as the package qwen-asr has it (0.0.6).

from auris.compat.qwen_asr import Qwen3ASRModel

model = Qwen3ASRModel.from_pretrained("Qwen/Qwen3-ASR-0.6B", dtype="bfloat16")
print(model.transcribe(audio="talk.mp3", language="English")[0].text)

`Qwen3ForcedAligner` finds the times of the words of known texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auris.alignment.aligner import ForcedAligner
from auris.audio.encoded import from_base64, is_data_uri
from auris.audio.io import Source
from auris.audio.remote import is_url
from auris.compat.refusal import check_options, refuse, warn
from auris.errors import UsageError
from auris.pipeline import AsrPipeline
from auris.recognition.language_model import DEFAULT_LM
from auris.recognition.load import LoadOptions
from auris.streaming.pool import LIVE_CHUNK_SECONDS
from auris.streaming.session import StreamSession, StreamUpdate
from auris.text.languages import LANGUAGES
from auris.text.reply import parse_reply
from auris.text.words import join_texts
from auris.types import Transcript, Word

__all__ = [
    "ASRStreamingState",
    "ASRTranscription",
    "ForcedAlignItem",
    "ForcedAlignResult",
    "Qwen3ASRModel",
    "Qwen3ForcedAligner",
    "parse_asr_output",
]

NEUTRAL: dict[str, tuple[object, ...]] = {
    "attn_implementation": (None, "sdpa"),
    "trust_remote_code": (None, False),
    "low_cpu_mem_usage": (None, True, False),
    "use_safetensors": (None, True),
    "revision": (None,),
    "cache_dir": (None,),
    "token": (None,),
    "quantization_config": (None,),
}
"""Options of `from_pretrained` that change nothing with these values."""

TUNING = {"attn_implementation", "low_cpu_mem_usage", "use_safetensors"}
"""Those that only tune speed or loading: other values have no effect, and a warning says so."""

VLLM = {
    *("gpu_memory_utilization", "max_model_len", "max_num_seqs", "max_num_batched_tokens"),
    *("tensor_parallel_size", "pipeline_parallel_size", "enforce_eager", "swap_space"),
    *("cpu_offload_gb", "disable_log_stats", "enable_prefix_caching", "limit_mm_per_prompt"),
}
"""Options of vLLM that only tune speed and memory."""

LONGEST_NAME = 256
"""A longer string without a point, which names of files have, is base64."""


@dataclass(frozen=True)
class ForcedAlignItem:
    """A word with its times in seconds; both None where they are not known."""

    text: str
    start_time: float | None
    end_time: float | None


@dataclass(frozen=True)
class ForcedAlignResult:
    """The words of a text; also a sequence of them."""

    items: list[ForcedAlignItem]

    def __iter__(self) -> Iterator[ForcedAlignItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> ForcedAlignItem:
        return self.items[index]


@dataclass(frozen=True)
class ASRTranscription:
    """A result: `language` is "" where it is not known; `time_stamps` holds the words where they
    were requested, else None."""

    language: str
    text: str
    time_stamps: ForcedAlignResult | None = None


@dataclass
class ASRStreamingState:
    """A live stream: language and text so far; the end of the text may still change.

    Attributes:
        session: what recognizes it.
        chunk_id: steps that were done.
    """

    session: StreamSession
    language: str = ""
    text: str = ""
    chunk_id: int = 0
    chunks: dict[int, StreamUpdate] = field(default_factory=dict, repr=False)

    def add(self, updates: list[StreamUpdate]) -> None:
        """Take the results of steps into the text."""
        for update in updates:
            self.chunks[update.chunk] = update
            self.chunk_id += 1
            self.language = update.segment.language or self.language
        self.text = join_texts(update.segment.text for update in self.chunks.values())


class Qwen3ASRModel:
    """A loaded model; build one with `from_pretrained`.

    Args:
        pipeline: what transcribes.
        max_inference_batch_size: chunks in a batch; below 0, as many as there are recordings.
        max_new_tokens: token budget of a chunk, or None for one that follows its length.
        aligner: what places words; None leaves it to the model's own CTC head.
    """

    def __init__(
        self,
        pipeline: AsrPipeline,
        max_inference_batch_size: int = 32,
        max_new_tokens: int | None = None,
        aligner: ForcedAligner | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.aligner = aligner
        self.max_inference_batch_size = max_inference_batch_size
        self.max_new_tokens = max_new_tokens

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        forced_aligner: str | Path | None = None,
        forced_aligner_kwargs: Mapping[str, Any] | None = None,
        max_inference_batch_size: int = 32,
        max_new_tokens: int | None = None,
        lm: str | Path | None = DEFAULT_LM,
        **options: Any,
    ) -> Qwen3ASRModel:
        """Load a model.

        Args:
            pretrained_model_name_or_path: directory, bundled model or hub id.
            forced_aligner: a model that places words, named like the other; without one, the
                model's own CTC head does, if it has one.
            forced_aligner_kwargs: its `dtype`, `device_map` and so on.
            max_inference_batch_size: see the class.
            max_new_tokens: see the class. The other package's budget is 512 tokens by default.
            lm: language model that scores texts in the search, see `AsrPipeline`; "none" for none.
            options: `dtype` (or `torch_dtype`), `device_map` (one device) and `local_files_only`;
                others only where they change nothing.

        Raises:
            UnsupportedOption: an option is not supported.
            CheckpointError, DeviceError: see `AsrPipeline.from_pretrained`.
        """
        pipeline = AsrPipeline.from_pretrained(
            pretrained_model_name_or_path, lm=lm, **_loading(options)
        )
        aligner = None
        if forced_aligner is not None:
            given = _loading(dict(forced_aligner_kwargs or {}))
            aligner = ForcedAligner.from_pretrained(forced_aligner, **given)
        elif forced_aligner_kwargs:
            raise refuse("forced_aligner_kwargs", forced_aligner_kwargs, "name a forced_aligner")
        return cls(pipeline, max_inference_batch_size, max_new_tokens, aligner)

    @classmethod
    def LLM(  # noqa: N802
        cls, model: str | Path, max_inference_batch_size: int = -1, **options: Any
    ) -> Qwen3ASRModel:
        """Load a model as `from_pretrained` does. vLLM is not used, and a warning says so.

        Args:
            model: directory, bundled model or hub id.
            max_inference_batch_size: see the class.
            options: of `from_pretrained`; those of vLLM that tune speed and memory have no effect.
        """
        given = {name: value for name, value in options.items() if name not in VLLM}
        warn(f"Auris runs {str(model)!r} itself; the options of vLLM have no effect")
        return cls.from_pretrained(
            model, max_inference_batch_size=max_inference_batch_size, **given
        )

    def get_supported_languages(self) -> list[str]:
        """English names of the languages."""
        return list(LANGUAGES.values())

    def transcribe(
        self,
        audio: Any,
        context: str | list[str] = "",
        language: str | list[str | None] | None = None,
        return_time_stamps: bool = False,
    ) -> list[ASRTranscription]:
        """Transcribe one recording or a list of them.

        Args:
            audio: a path, an address, a data URI, base64 or (array, rate); or a list of these.
            context: words and names to expect, one for all or one for each.
            language: code or English name to force, one for all or one for each.
            return_time_stamps: give every result its words with their times.

        Returns:
            one result for each recording, in their order.

        Raises:
            UnsupportedOption: time stamps were requested, and there is no aligner.
            UsageError: there are not as many contexts or languages as recordings.
            AurisError: of the first recording that failed.
        """
        sources = [_source(one) for one in (audio if isinstance(audio, list) else [audio])]
        contexts = _for_each("context", context, len(sources))
        languages = _for_each("language", language, len(sources))
        most = self.max_inference_batch_size
        # A call of the pipeline has one language and one context, so alike recordings go together.
        alike: dict[tuple[str | None, str], list[int]] = {}
        for number, pair in enumerate(zip(languages, contexts, strict=True)):
            alike.setdefault((pair[0], pair[1] or ""), []).append(number)
        results: dict[int, ASRTranscription] = {}
        for (name, words), numbers in alike.items():
            transcripts = self.pipeline.transcribe(
                [sources[number] for number in numbers],
                name,
                words,
                batch_size=len(numbers) if most < 0 else most,
                max_new_tokens=self.max_new_tokens,
                word_timestamps=return_time_stamps,
                aligner=self.aligner,
            )
            for number, transcript in zip(numbers, transcripts, strict=True):
                results[number] = _result(transcript)
        return [results[number] for number in range(len(sources))]

    def init_streaming_state(
        self,
        context: str = "",
        language: str | None = None,
        unfixed_chunk_num: int = 2,
        unfixed_token_num: int = 5,
        chunk_size_sec: float = 2.0,
    ) -> ASRStreamingState:
        """Begin a live stream of samples at 16 kHz.

        Args:
            context: as of `transcribe`.
            language: as of `transcribe`.
            unfixed_chunk_num: has no effect; the text of a chunk is final when the chunk ends.
            unfixed_token_num: has no effect.
            chunk_size_sec: seconds between steps.
        """
        given = {"unfixed_chunk_num": unfixed_chunk_num, "unfixed_token_num": unfixed_token_num}
        defaults = {"unfixed_chunk_num": (2,), "unfixed_token_num": (5,)}
        check_options(given, defaults, tuple(defaults))
        session = self.pipeline.stream(
            language or None,
            context,
            step_seconds=chunk_size_sec,
            chunk_seconds=max(chunk_size_sec, LIVE_CHUNK_SECONDS),
        )
        return ASRStreamingState(session)

    def streaming_transcribe(self, pcm16k: Any, state: ASRStreamingState) -> ASRStreamingState:
        """Add samples to a stream, and do the steps that are due; returns the same state."""
        state.add(state.session.feed(pcm16k))
        return state

    def finish_streaming_transcribe(self, state: ASRStreamingState) -> ASRStreamingState:
        """Recognize the rest of a stream and end it; returns the same state."""
        state.add(state.session.finish())
        return state


class Qwen3ForcedAligner:
    """A model that finds the times of the words of known texts; build one with `from_pretrained`.

    Args:
        aligner: what finds them.
    """

    def __init__(self, aligner: ForcedAligner) -> None:
        self.aligner = aligner

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **options: Any
    ) -> Qwen3ForcedAligner:
        """Load a forced aligner, or a model with a CTC head.

        Args:
            pretrained_model_name_or_path: directory, bundled model or hub id.
            options: as of `Qwen3ASRModel.from_pretrained`.

        Raises:
            UnsupportedOption: an option is not supported, or the model cannot align.
            CheckpointError, DeviceError: the model or the machine is not usable.
        """
        aligner = ForcedAligner.from_pretrained(pretrained_model_name_or_path, **_loading(options))
        return cls(aligner)

    def align(
        self,
        audio: Any,
        text: str | list[str],
        language: str | list[str | None] | None = None,
    ) -> list[ForcedAlignResult]:
        """Find the times of words in a recording, or in each of a list.

        Args:
            audio: as of `Qwen3ASRModel.transcribe`.
            text: what is spoken, one for each recording.
            language: code or English name, one for all or one for each.

        Raises:
            UsageError: there are not as many texts or languages as recordings.
            AurisError: see `ForcedAligner.align`.
        """
        sources = [_source(one) for one in (audio if isinstance(audio, list) else [audio])]
        texts = _for_each("text", text, len(sources))
        languages = _for_each("language", language, len(sources))
        rows = zip(sources, texts, languages, strict=True)
        return [_stamps(self.aligner.align(one, spoken, name)) for one, spoken, name in rows]


def parse_asr_output(raw: str | None, user_language: str | None = None) -> tuple[str, str]:
    """Language ("" where it is not known) and text of a reply as the decoder writes it.

    Args:
        user_language: the language that the reply was forced to.
    """
    reply = parse_reply(raw or "", user_language)
    return reply.language or "", reply.text


def _loading(options: dict[str, Any]) -> LoadOptions:
    """Options of transformers as ours."""
    device = options.pop("device_map", None)
    if isinstance(device, dict):
        raise refuse("device_map", device, "name one device")
    dtype = options.pop("dtype", options.pop("torch_dtype", None))
    local = options.pop("local_files_only", False)
    check_options(options, NEUTRAL, TUNING)
    return LoadOptions(
        device=None if device is None else str(device),
        dtype="auto" if dtype is None else str(dtype).removeprefix("torch."),
        local_files_only=local,
    )


def _result(transcript: Transcript) -> ASRTranscription:
    words = transcript.words
    stamps = None if words is None else _stamps(words)
    return ASRTranscription(transcript.language or "", transcript.text, stamps)


def _stamps(words: Sequence[Word]) -> ForcedAlignResult:
    return ForcedAlignResult([ForcedAlignItem(word.text, word.start, word.end) for word in words])


def _source(audio: Any) -> Source:
    plain = isinstance(audio, str) and not is_data_uri(audio) and not is_url(audio)
    if plain and len(audio) > LONGEST_NAME and "." not in audio:
        return from_base64(audio)
    source: Source = audio
    return source


def _for_each(name: str, given: Any, recordings: int) -> list[Any]:
    values = given if isinstance(given, list) else [given]
    if len(values) == 1:
        return values * recordings
    if len(values) != recordings:
        raise UsageError(
            f"{name} has to be one for all recordings, or one for each",
            f"there are {len(values)} for {recordings}",
            "correct the list",
        )
    return values
