"""Where the time goes, stage by stage, beside what the machine could do and what peers take.

Every run goes the whole way from the bytes of a file to tokens; runs of all models, peers and
lengths are interleaved, so that a machine whose speed wanders slows all of them alike, and figures
are medians. Decoding goes on for a fixed number of tokens whatever they are, so that a model with
random weights of a published size measures as well as a trained one.
"""

from __future__ import annotations

import io
import statistics
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auris.audio.features import log_mel, mel_frames
from auris.backends.quant import Packed
from auris.backends.torch import TorchBackend
from auris.config import audio_tokens
from auris.diagnostics.parity import noise_clip
from auris.errors import UnsupportedOption
from auris.evaluation.limits import Machine, stage_work, step_work
from auris.evaluation.peers import Peer, load_peer
from auris.pipeline import AsrPipeline
from auris.recognition.chunker import AudioChunker
from auris.recognition.qwen import QwenRecognizer
from auris.text.prompt import prompt_ids
from auris.types import SAMPLE_RATE, Samples

__all__ = ["MeasuredEngine", "Stage", "compare", "wav_bytes"]

STAGES = ("audio", "mel", "stem", "layers", "encode", "prefill", "token", "total")
"""In the order of a run; "encode" is stem, layers and projector together."""


PEER_DTYPE = "bfloat16"

LONGEST = 1200.0
"""Seconds of the longest clip."""


@dataclass(frozen=True)
class Stage:
    """Median time of one stage.

    Attributes:
        model: whose it is, with its dtype.
        clip: seconds of audio.
        stage: one of `STAGES`.
        seconds: median over the runs; for "token" over all tokens of all runs.
        limit: least seconds by the machine's measured rates, or None where no rate bounds it.
    """

    model: str
    clip: float
    stage: str
    seconds: float
    limit: float | None

    @property
    def multiple(self) -> float | None:
        """Of the limit."""
        return None if self.limit is None else self.seconds / self.limit


def wav_bytes(samples: Samples) -> bytes:
    """A 16-bit WAV file of mono samples at 16 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


class MeasuredEngine:
    """A Qwen3-ASR model of ours, its stages apart.

    Raises:
        UnsupportedOption: the model has no decoder.
        AurisError: it cannot be loaded.
    """

    def __init__(self, model: str, dtype: str, **load: Any) -> None:
        pipeline = AsrPipeline.from_pretrained(model, dtype=dtype, **load)
        recognizer = pipeline.recognizer
        if not isinstance(recognizer, QwenRecognizer):
            raise UnsupportedOption(
                "The benchmark of speed takes stages of Qwen3-ASR models apart",
                "this model has a CTC head only",
                "choose a Qwen3-ASR model",
            )
        self.pipeline = pipeline
        self.directory = pipeline.model.directory
        self.recognizer = recognizer
        self.backend: TorchBackend = pipeline.backend
        self.config = recognizer.config
        packed = {m.packing.dtype for m in self.backend.model.modules() if isinstance(m, Packed)}
        computed = str(self.backend.dtype).removeprefix("torch.")
        self.dtype = min(packed, default=computed)  # Some matrices are in int8 beside int4.
        self.name = f"{Path(pipeline.model.name).name} {self.dtype}"

    def prompt(self, states: torch.Tensor) -> torch.Tensor:
        """Embeddings [L, hidden] of the prompt."""
        return self.backend.embed(prompt_ids(self.recognizer.tokenizer, len(states)), states)

    def heard(self, samples: Samples) -> torch.Tensor:
        """Embeddings [L, hidden] of the prompt of a clip."""
        mel = log_mel(samples, self.config.frontend, self.config.encoder.mel_bins)
        (states,) = self.backend.encode([mel])
        return self.prompt(states)

    def run(
        self, samples: Samples, tokens: int, now: Callable[[], float]
    ) -> dict[str, list[float]]:
        """See `Peer.run`; besides "audio", "stem" and "layers"."""
        file, frontend = wav_bytes(samples), self.config.frontend
        bins = self.config.encoder.mel_bins
        clock = [now()]

        def tick() -> float:
            clock.append(now())
            return clock[-1] - clock[-2]

        # One piece whatever the length: its stages are measured, not the cutting into pieces.
        (piece,) = AudioChunker(chunk_seconds=LONGEST).chunks(file)
        audio = tick()
        mel = log_mel(piece.samples, frontend, bins)
        mel_at = tick()
        (states,) = self.backend.encode([mel])
        prompt = self.prompt(states)
        _settle(prompt)
        encode = tick()
        cache = self.backend.new_cache(1, len(prompt) + tokens)
        self.backend.admit(cache)
        best = int(self.backend.extend(cache, [prompt])[0, -1].argmax())
        prefill = tick()
        steps = []
        for _ in range(tokens - 1):
            (choice,) = self.backend.best(cache, [[best]])
            best = choice.token
            steps.append(tick())
        total = clock[-1] - clock[0]
        stem = self._stem(mel, now)
        return {
            "audio": [audio],
            "mel": [mel_at],
            "stem": [stem],
            "layers": [encode - stem],
            "encode": [encode],
            "prefill": [prefill],
            "token": steps,
            "total": [total],
        }

    @torch.inference_mode()
    def _stem(self, mel: torch.Tensor, now: Callable[[], float]) -> float:
        """Seconds of the stem alone, once more: it has no end of its own inside the encoder."""
        mel = mel.to(self.backend.device)
        began = now()
        _settle(self.backend.encode_stem([mel])[0])
        return now() - began

    def limits(
        self, samples: int, tokens: int, machine: Machine, dtype: str | None = None
    ) -> dict[str, float]:
        """Least seconds by stage, where a rate bounds it; in another dtype if one is given."""
        dtype = dtype or self.dtype
        frames = mel_frames(samples)
        prompt = len(prompt_ids(self.recognizer.tokenizer, audio_tokens(frames)))
        work = stage_work(self.config, frames, prompt, dtype)
        limits = {stage: machine.seconds(one, dtype) for stage, one in work.items()}
        limits["encode"] = limits["stem"] + limits["layers"]
        step = step_work(self.config.decoder, 1, prompt + tokens // 2, dtype)
        limits["token"] = machine.seconds(step, dtype)
        limits["total"] = limits["encode"] + limits["prefill"] + (tokens - 1) * limits["token"]
        return limits


def _settle(tensor: torch.Tensor) -> None:
    """Wait for the device: a number of the result is asked for."""
    tensor.flatten()[:1].tolist()


def compare(
    models: Sequence[str],
    seconds: Sequence[float],
    tokens: int,
    runs: int,
    machine: Machine,
    dtypes: Sequence[str] = ("auto",),
    peers: Sequence[str] = (),
    **load: Any,
) -> Iterator[Stage]:
    """Measure models in some dtypes, and peers on the first one's weights, interleaved.

    Args:
        models: directories, names or hub ids of Qwen3-ASR models.
        seconds: lengths of the clips of noise.
        tokens: to decode, at least 2.
        runs: counted runs of each, after one that warms up.
        machine: measured between the runs.
        dtypes: of ours, as for `AsrPipeline.from_pretrained`.
        peers: names of `auris.evaluation.peers.PEERS`; they compute in bfloat16.
        load: for `AsrPipeline.from_pretrained`.

    Yields:
        the stages of each model and clip.
    """
    engines = [MeasuredEngine(model, dtype, **load) for model in models for dtype in dtypes]
    runners: list[MeasuredEngine | Peer] = [*engines]
    runners += [load_peer(peer, engines[0].directory, PEER_DTYPE) for peer in peers]
    for clip in seconds:
        samples = noise_clip(clip)
        taken: dict[str, dict[str, list[float]]] = {runner.name: {} for runner in runners}
        for turn in range(runs + 1):
            machine.measure()
            for runner in runners:
                measured = runner.run(samples, tokens, machine.now)
                if turn:
                    for stage, times in measured.items():
                        taken[runner.name].setdefault(stage, []).extend(times)
        for runner in runners:
            if isinstance(runner, MeasuredEngine):
                limits = runner.limits(len(samples), tokens, machine)
            else:
                limits = engines[0].limits(len(samples), tokens, machine, PEER_DTYPE)
            for stage in STAGES:
                if stage in taken[runner.name]:
                    median = statistics.median(taken[runner.name][stage])
                    yield Stage(runner.name, clip, stage, median, limits.get(stage))
