"""How long each stage takes, from the bytes of a file to tokens, in Auris and in other programs.

Runs of all models, peers and lengths are interleaved, so that a machine whose speed varies slows
all of them alike; figures are medians. Decoding goes on for a fixed number of tokens whatever they
are, so that a model with random weights measures as well as a trained one.
"""

from __future__ import annotations

import io
import statistics
import time
import wave
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from auris.audio.features import log_mel
from auris.backends import native
from auris.backends.base import TextRules, TextStart
from auris.backends.devices import multiplies_integers, pick_dtypes
from auris.backends.torch import TorchBackend
from auris.checkpoints.quantization_config import PACKED_DTYPES
from auris.config import DecoderConfig
from auris.diagnostics.parity import noise_clip
from auris.diagnostics.reference import Reference
from auris.errors import UnsupportedOption, UsageError
from auris.models.qwen_asr import QwenAsr
from auris.pipeline import AsrPipeline
from auris.recognition.chunker import AudioChunker
from auris.recognition.load import LoadOptions
from auris.recognition.qwen import QwenRecognizer
from auris.text.prompt import prompt_ids
from auris.types import SAMPLE_RATE, Samples

if TYPE_CHECKING:
    from typing_extensions import Unpack


STAGES = ("audio", "mel", "stem", "layers", "encode", "prefill", "token", "total")
"""In the order of a run; "encode" is stem, layers and projector together."""

LONGEST = 1200.0
"""Seconds of the longest clip."""

READ_BYTES = 1 << 28
"""Read to measure the memory's bandwidth; several times the cache of most processors."""

PRODUCT_SIDE = 2048
"""Rows and columns of the matrices whose product is measured."""

Clock = Callable[[], float]
"""Returns the time in seconds."""

StageTimes = dict[str, list[float]]
"""Seconds by stage."""

PEER_DTYPE = "bfloat16"
"""What peers compute in that are compared with packed weights; float32 on a CPU that would emulate
it."""

COMPARED = ("encode", "prefill", "total")
"""Stages whose times are compared with those of a peer."""


class Peer(Protocol):
    """A program that transcribes a clip with the weights of a directory, in a dtype."""

    name: str
    dtype: str

    def run(self, samples: Samples, tokens: int, now: Clock) -> StageTimes:
        """Decode exactly so many tokens of one clip, and time the stages "mel", "encode",
        "prefill", "token" (one time for each) and "total"."""


class TransformersPeer:
    """transformers on the CPU, with a Qwen3-ASR model in any layout.

    Raises:
        MissingExtra: transformers is not installed, or too old to know the model.
    """

    def __init__(self, directory: Path, dtype: str) -> None:
        self.name, self.dtype = f"transformers {dtype}", dtype
        self._reference = Reference(directory, dtype)
        self._now: Clock = time.perf_counter
        self._encoder_times: list[float] = []
        encoder = self._reference.model.model.audio_tower
        for register in (encoder.register_forward_pre_hook, encoder.register_forward_hook):
            register(lambda *_: self._encoder_times.append(self._now()))

    @torch.inference_mode()
    def run(self, samples: Samples, tokens: int, now: Clock) -> StageTimes:
        self._encoder_times.clear()
        self._now = now
        token_times: list[float] = []

        def after_token(ids: Any, scores: Any, **_: Any) -> Any:
            token_times.append(now())
            return torch.zeros(len(ids), dtype=torch.bool)

        began = now()
        inputs = self._reference.inputs(samples)
        inputs["input_features"] = inputs["input_features"].to(self._reference.model.dtype)
        ready = now()
        self._reference.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            stopping_criteria=[after_token],
        )
        encode = self._encoder_times[1] - self._encoder_times[0]
        return {
            "mel": [ready - began],
            "encode": [encode],
            "prefill": [token_times[0] - ready - encode],
            "token": [after - before for before, after in pairwise(token_times)],
            "total": [now() - began],
        }


PEERS = {"transformers": TransformersPeer}


def load_peer(name: str, directory: Path, dtype: str) -> Peer:
    """A peer by name, with the weights of a directory; UsageError where there is none."""
    if name not in PEERS:
        raise UsageError(
            f"The peers that can be measured are {', '.join(PEERS)}",
            f"{name!r} was given",
            "choose one of these",
        )
    return PEERS[name](directory, dtype)


def load_peers(names: Iterable[str], models: Sequence[MeasuredModel]) -> list[Peer]:
    """Peers with the weights of the first model, in every dtype that a model is compared in."""
    dtypes = dict.fromkeys(model.peer_dtype for model in models)
    return [load_peer(name, models[0].directory, dtype) for name in names for dtype in dtypes]


@dataclass(frozen=True)
class Stage:
    """Median seconds of one of `STAGES` over the runs, for "token" over all tokens of all runs; a
    clip is named by its seconds."""

    model: str
    clip: float
    stage: str
    seconds: float


@dataclass(frozen=True)
class SpeedRatio:
    """How many times as fast as a peer a model is in one of `COMPARED`; "total" is from the file to
    the last token."""

    clip: float
    stage: str
    model: str
    peer: str
    ratio: float

    def __str__(self) -> str:
        speed = f"{self.clip:>7g} {self.stage:<8} {self.ratio:.2f} times as fast"
        return f"{speed} as {self.peer}: {self.model}"


def speed_ratios(
    stages: Iterable[Stage], models: Sequence[MeasuredModel], peers: Sequence[Peer]
) -> Iterator[SpeedRatio]:
    """Every model compared with every peer that computes in the same dtype, or for a model with
    packed weights in `PEER_DTYPE`."""
    seconds = {(s.clip, s.stage, s.model): s.seconds for s in stages}
    clips = dict.fromkeys(clip for clip, _, _ in seconds)
    for clip, model, peer, stage in product(clips, models, peers, COMPARED):
        if peer.dtype == model.peer_dtype:
            ratio = seconds[clip, stage, peer.name] / seconds[clip, stage, model.name]
            yield SpeedRatio(clip, stage, model.name, peer.name, ratio)


class MemoryRead:
    """The bandwidth of memory: a plain read of a large array by all threads of torch.

    Attributes:
        gb_per_second: the best of all reads so far, 1e9 bytes a second.
    """

    def __init__(self, now: Clock = time.perf_counter) -> None:
        self._now = now
        self._threads = torch.get_num_threads()
        self._array = torch.ones(READ_BYTES // 4)
        self.gb_per_second = 0.0

    def __str__(self) -> str:
        return f"memory: {self.gb_per_second:.1f} GB/s, read by {self._threads} threads"

    def seconds(self, size: int) -> float:
        """Least time in which so many bytes can be read."""
        return size / self.gb_per_second / 1e9

    def measure(self, tries: int = 3) -> float:
        """Read it again, once without counting; returns the best bandwidth so far."""
        self._array.sum()
        for _ in range(tries):
            began = self._now()
            self._array.sum()
            seconds = self._now() - began
            self.gb_per_second = max(self.gb_per_second, READ_BYTES / seconds / 1e9)
        return self.gb_per_second


class IntegerProducts:
    """The rate of large products of 8-bit integers, by PyTorch (oneDNN) on all of its threads.

    It is measured where PyTorch has instructions for them: AVX-512 VNNI, or the tiles of AMX.
    Native code may be faster.

    Attributes:
        gops: the best rate of all measurements so far, 1e9 additions and multiplications a second.
    """

    def __init__(self, now: Clock = time.perf_counter) -> None:
        self._now = now
        self._square = torch.ones(PRODUCT_SIDE, PRODUCT_SIDE, dtype=torch.int8)
        self.gops = 0.0

    def __str__(self) -> str:
        return f"products of 8-bit integers by PyTorch: {self.gops:.0f} GOP/s"

    def seconds(self, products: int) -> float:
        """Time of so many multiplications, each with an addition, at that rate."""
        return 2 * products / self.gops / 1e9

    def measure(self, tries: int = 3) -> float:
        """Measure again, once without counting; returns the best rate so far."""
        if not multiplies_integers():
            return 0.0
        torch._int_mm(self._square, self._square)
        for _ in range(tries):
            began = self._now()
            torch._int_mm(self._square, self._square)
            seconds = self._now() - began
            self.gops = max(self.gops, 2 * PRODUCT_SIDE**3 / seconds / 1e9)
        return self.gops


def layer_weights(config: DecoderConfig) -> int:
    """Weights in the matrices of all layers of a decoder: multiplications for each token."""
    attention = (2 * config.heads + 2 * config.kv_heads) * config.head_dim * config.hidden
    return config.layers * (attention + 3 * config.hidden * config.ffn)


def wav_bytes(samples: Samples) -> bytes:
    """A 16-bit WAV file of mono samples at 16 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


class MeasuredModel:
    """A Qwen3-ASR model, run stage by stage; models without a decoder are refused."""

    def __init__(self, model: str, **options: Unpack[LoadOptions]) -> None:
        self.pipeline = AsrPipeline.from_pretrained(model, **options)
        recognizer = self.pipeline.recognizer
        if not isinstance(recognizer, QwenRecognizer):
            raise UnsupportedOption(
                "The benchmark of speed measures the stages of Qwen3-ASR models",
                "this model has a CTC head only",
                "choose a Qwen3-ASR model",
            )
        self.directory = self.pipeline.model.directory
        self.recognizer = recognizer
        self.backend: TorchBackend = self.pipeline.backend
        self.config = recognizer.config
        self.dtype = self.backend.weights
        self.name = f"{Path(self.pipeline.model.name).name} {self.dtype}"

    @property
    def peer_dtype(self) -> str:
        """The dtype of peers that it is compared with: that of its encoder's activations and of its
        prompts; `PEER_DTYPE` with packed weights, which peers do not have."""
        dtype = self.backend.dtype
        if self.dtype in PACKED_DTYPES:
            dtype = pick_dtypes(PEER_DTYPE, self.backend.device, dtype, False).computed
        return str(dtype).removeprefix("torch.")

    @property
    def kernels(self) -> str:
        """Which code runs each part of the model."""
        step = self.backend.native_decoder
        parts = {
            "stem": self.backend.native_stem is not None,
            "encoder": self.backend.native_encoder is not None,
            "prompt": step is not None and step.prompts,
        }
        texts = [f"{part} {'native' if ours else 'PyTorch'}" for part, ours in parts.items()]
        texts.append(f"tokens {self.backend.decode_step}")
        uses_native = step is not None or any(parts.values())
        return ", ".join(texts) + (
            f" (native code: {native.instructions()})" if uses_native else ""
        )

    @property
    def token_bytes(self) -> int:
        """Bytes of weights that a token has to read; what it reads of the cache comes on top."""
        model = self.backend.model
        assert isinstance(model, QwenAsr)
        decoder = model.decoder
        head = decoder.embed if self.config.decoder.tied else decoder.head
        weights = [*decoder.layers.parameters(), *head.parameters()]
        return sum(weight.numel() * weight.element_size() for weight in weights)

    def prompt(self, samples: Samples) -> torch.Tensor:
        """Embeddings [L, hidden] of the prompt of a clip."""
        mel = log_mel(samples, self.config.frontend, self.config.encoder.mel_bins)
        return self._prompt(self.backend.encode([mel])[0])

    def _prompt(self, states: torch.Tensor) -> torch.Tensor:
        return self.backend.embed(prompt_ids(self.recognizer.tokenizer, len(states)), states)

    def run(self, samples: Samples, tokens: int, now: Clock) -> StageTimes:
        """Times as of `Peer.run`, and those of "audio", "stem" and "layers"."""
        file, frontend = wav_bytes(samples), self.config.frontend
        times = [now()]

        def lap() -> float:
            times.append(now())
            return times[-1] - times[-2]

        # One chunk whatever the length: segmentation is not measured.
        (chunk,) = AudioChunker(chunk_seconds=LONGEST).chunks(file)
        audio = lap()
        features = log_mel(chunk.samples, frontend, self.config.encoder.mel_bins)
        mel = lap()
        prompt = self._prompt(self.backend.encode([features])[0])
        _wait_for(prompt)
        encode = lap()
        decoding = self._decode(prompt, tokens)
        next(decoding)
        prefill = lap()
        steps = [lap() for _ in decoding]
        total = times[-1] - times[0]
        stem = self._stem_seconds(features, now)
        return {
            "audio": [audio],
            "mel": [mel],
            "stem": [stem],
            "layers": [encode - stem],
            "encode": [encode],
            "prefill": [prefill],
            "token": steps,
            "total": [total],
        }

    def _decode(self, prompt: torch.Tensor, tokens: int) -> Iterator[None]:
        """Decode so many tokens of a prompt, whatever they are, and stop after each of them."""
        capacity = len(prompt) + tokens
        # A text never has as many equal tokens in a row as it has tokens.
        static = self.backend.static_step(1, 1, capacity, TextRules((), (tokens,)))
        cache = self.backend.new_cache(1, capacity) if static is None else static.cache
        self.backend.admit(cache)
        best = int(self.backend.extend(cache, [prompt])[0, -1].argmax())
        yield
        if static is not None:
            static.begin([(0, TextStart((best,), tokens))])
            started = static.launch()
            for _ in range(tokens - 1):
                following = static.launch()
                assert started is not None
                started.results()
                started = following
                yield
            static.release()
            return
        for _ in range(tokens - 1):
            (choice,) = self.backend.best(cache, [[best]])
            best = choice.token
            yield

    @torch.inference_mode()
    def _stem_seconds(self, features: torch.Tensor, now: Clock) -> float:
        """Seconds of the stem, run again by itself: inside the encoder its end is not visible."""
        features = features.to(self.backend.device)
        began = now()
        _wait_for(self.backend.encode_stem([features])[0])
        return now() - began


def _wait_for(tensor: torch.Tensor) -> None:
    """Wait for the device, by reading a number of the result."""
    tensor.flatten()[:1].tolist()


def stages_of(
    runners: Sequence[MeasuredModel | Peer],
    seconds: Sequence[float],
    tokens: int,
    runs: int,
    now: Clock = time.perf_counter,
    before_round: Callable[[], object] = lambda: None,
) -> Iterator[Stage]:
    """Measure models and peers, interleaved.

    Args:
        seconds: lengths of the clips of noise.
        tokens: to decode, at least 2.
        runs: counted runs of each, after one that warms up.
        before_round: called before every round of runs.
    """
    for clip in seconds:
        samples = noise_clip(clip)
        times: dict[str, dict[str, list[float]]] = {
            runner.name: defaultdict(list) for runner in runners
        }
        for number in range(runs + 1):
            before_round()
            for runner in runners:
                measured = runner.run(samples, tokens, now)
                if number:
                    for stage, values in measured.items():
                        times[runner.name][stage] += values
        for name, measured in times.items():
            for stage in STAGES:
                if stage in measured:
                    yield Stage(name, clip, stage, statistics.median(measured[stage]))
