"""What the machine could do: its measured rates, and the work that each stage cannot avoid.

A stage's limit is the longer of two times: its multiplications at the machine's matrix rate, and
its bytes at the machine's memory bandwidth. Both rates are measured between the runs of the stages,
and the best counts, so a slow moment of the machine makes a stage look slow, never fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from auris.config import CHUNK_FRAMES, AutConfig, DecoderConfig, QwenAsrConfig, audio_tokens
from auris.models.stems import CHANNELS_1D

__all__ = ["CLOCKS", "Machine", "Work", "stage_work", "step_work"]

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""What times are taken by. The processor's time of one thread is what it would take were nothing
else running, but for caches and memory that other programs share."""

SIDE = 2048
"""Rows and columns of the matrices that are multiplied."""

READ_BYTES = 1 << 28
"""Read to measure bandwidth; several times any processor's cache."""

WEIGHT_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "int4": 0.5}
"""Of one weight; scales of quantized ones are left out, which makes limits stricter."""


@dataclass(frozen=True)
class Work:
    """What a stage has to do: additions and multiplications, and bytes of weights and cache."""

    flops: float
    bytes: float


def _best(run: Callable[[], object], tries: int, now: Callable[[], float]) -> float:
    """Seconds of the fastest of some tries, after one that does not count."""
    run()
    best = float("inf")
    for _ in range(tries):
        began = now()
        run()
        best = min(best, now() - began)
    return best


class Machine:
    """Rates of this machine with the threads that torch has now: the best that was seen so far.

    Args:
        clock: one of `CLOCKS`.

    Attributes:
        now: that clock.
        threads: torch's.
        gb_per_second: memory read, 1e9 bytes a second.
        gflops: by dtype, 1e9 additions and multiplications of a matrix product a second; those
            that torch cannot multiply here are missing.
    """

    def __init__(self, clock: str = "wall") -> None:
        self.now = CLOCKS[clock]
        self.threads = torch.get_num_threads()
        self.gb_per_second = 0.0
        self.gflops: dict[str, float] = {}
        self._matrix = torch.ones(READ_BYTES // 4 // SIDE, SIDE)
        self._squares = {
            "float32": torch.ones(SIDE, SIDE),
            "bfloat16": torch.ones(SIDE, SIDE, dtype=torch.bfloat16),
            "int8": torch.ones(SIDE, SIDE, dtype=torch.int8),
        }
        self.measure()

    def measure(self, tries: int = 3) -> None:
        """Measure again and keep what is better. A machine whose speed wanders is measured
        between the runs that it is compared with: its best moments set the limits."""
        vector = torch.ones(SIDE)
        reads = (lambda: torch.mv(self._matrix, vector), lambda: self._matrix.sum())
        read = min(_best(read, tries, self.now) for read in reads)
        self.gb_per_second = max(self.gb_per_second, READ_BYTES / read / 1e9)
        for name, square in self._squares.items():
            multiply = torch._int_mm if name == "int8" else torch.mm
            try:
                rate = 2 * SIDE**3 / _best(partial(multiply, square, square), tries, self.now) / 1e9
            except (RuntimeError, NotImplementedError):  # This build has no such product.
                continue
            self.gflops[name] = max(self.gflops.get(name, 0.0), rate)

    def to_dict(self) -> dict[str, Any]:
        """The rates as plain JSON values."""
        return {
            "threads": self.threads,
            "gb_per_second": self.gb_per_second,
            "gflops": self.gflops,
        }

    def seconds(self, work: Work, dtype: str) -> float:
        """Least time of some work in a compute dtype; one without products of its own here is
        held to the best rate there is."""
        rate = self.gflops.get("int8" if dtype == "int4" else dtype, max(self.gflops.values()))
        return max(work.flops / rate, work.bytes / self.gb_per_second) / 1e9


def _stem_flops(config: AutConfig, frames: int) -> float:
    """Of the convolutions over all frames, as if they were not cut into chunks."""
    chunks = frames / CHUNK_FRAMES
    if config.stem == "conv1d":
        widths = (config.mel_bins, *CHANNELS_1D, config.d_model)
        places = (50, 25, 13)
        pairs = zip(pairwise(widths), places, strict=True)
        return chunks * sum(2.0 * 5 * before * after * n for (before, after), n in pairs)
    height, width, channels, flops = config.mel_bins, CHUNK_FRAMES, 1, 0.0
    for _ in range(3):
        height, width = (height + 1) // 2, (width + 1) // 2
        flops += 2.0 * 9 * channels * config.conv_channels * height * width
        channels = config.conv_channels
    return chunks * (flops + 2.0 * width * channels * height * config.d_model)


def _layer_weights(config: DecoderConfig) -> int:
    """Weights in the matrices of all decoder layers."""
    attention = (2 * config.heads + 2 * config.kv_heads) * config.head_dim * config.hidden
    return config.layers * (attention + 3 * config.hidden * config.ffn)


def stage_work(config: QwenAsrConfig, frames: int, prompt: int, dtype: str) -> dict[str, Work]:
    """Work of the stages before the first token.

    Args:
        config: shapes.
        frames: of the clip's log-mel.
        prompt: tokens of its prompt.
        dtype: the weights', by name.

    Returns:
        work by stage: "stem", "layers" (of the encoder) and "prefill".
    """
    encoder, decoder, size = config.encoder, config.decoder, WEIGHT_BYTES[dtype]
    tokens = audio_tokens(frames)
    matrices = encoder.layers * (4 * encoder.d_model**2 + 2 * encoder.d_model * encoder.ffn)
    window = min(encoder.window_tokens, tokens)
    looked = 4.0 * encoder.layers * encoder.d_model * tokens * window
    # A prompt's queries look at half of its keys, on average.
    seen = 2.0 * decoder.layers * decoder.heads * decoder.head_dim * prompt * prompt
    weights, head = _layer_weights(decoder), decoder.vocab * decoder.hidden
    return {
        "stem": Work(_stem_flops(encoder, frames), 0.0),
        "layers": Work(2.0 * matrices * tokens + looked, matrices * size),
        "prefill": Work(2.0 * (weights * prompt + head) + seen, (weights + head) * size),
    }


def step_work(config: DecoderConfig, rows: int, position: int, dtype: str) -> Work:
    """Work of one token for each of some rows at a position; the cache is held in two bytes a
    number, or four in float32."""
    weights = _layer_weights(config) + config.vocab * config.hidden
    cached = 2 * config.layers * config.kv_heads * config.head_dim * position
    wide = 4.0 if dtype == "float32" else 2.0
    looked = 4.0 * config.layers * config.heads * config.head_dim * position
    return Work(
        rows * (2.0 * weights + looked), weights * WEIGHT_BYTES[dtype] + rows * cached * wide
    )
