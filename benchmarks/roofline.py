#!/usr/bin/env python3
"""The time of every stage, as a multiple of the least time that this machine allows.

The limit of a stage is the longer of two times: its multiplications at the machine's matrix rate,
and its bytes at the machine's memory bandwidth. Both rates are measured between the runs of the
stages, and the best counts, so a slow moment of the machine makes a stage look slow, never fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

import torch
import typer

from auris.audio.features import mel_frames
from auris.cli.benchmark import SpeedOptions
from auris.cli.table import Table, write_json
from auris.config import CONV_BLOCK_FRAMES, AutConfig, DecoderConfig, QwenAsrConfig, audio_tokens
from auris.errors import UsageError
from auris.evaluation.speed import (
    MeasuredModel,
    MemoryRead,
    layer_weights,
    speed_ratios,
    stages_of,
)
from auris.models.stems import CHANNELS_1D
from auris.recognition.load import use_threads
from auris.text.prompt import prompt_ids
from auris.types import SAMPLE_RATE
from command_line import run_command

__all__ = ["CLOCKS", "Clock", "Machine", "Work", "stage_limits", "stage_work", "step_work"]

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""What times are taken by. The processor time of one thread is the time that it would take if
nothing else ran, except for caches and memory that other programs share."""

SIDES = (256, 1024, 2048)
"""Rows and columns of the matrices that are multiplied: the largest that takes `PRODUCT_SECONDS` at
most, since a product without a kernel for this processor takes minutes at the largest size."""

PRODUCT_SECONDS = 0.5
"""Time of one product at most, by the rate of the next smaller size."""

WEIGHT_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "int4": 0.5}
"""Bytes of one weight; the scales of quantized ones are left out, which makes limits stricter."""

Clock = Annotated[
    str,
    typer.Option(
        help="wall; or processor, with --threads 1, where other programs use the machine."
    ),
]


@dataclass(frozen=True)
class Work:
    """What a stage has to do: additions and multiplications, and bytes of weights and cache."""

    flops: float
    bytes: float


class Machine:
    """Rates of this machine with the threads that torch has now: the best that were measured.

    Args:
        clock: one of `CLOCKS`.
        threads: of the processor, or None for torch's own choice.

    Attributes:
        now: that clock.
        threads: torch's.
        gb_per_second: memory read, 1e9 bytes a second.
        gflops: by dtype, 1e9 additions and multiplications of a matrix product a second; dtypes
            that torch cannot multiply here are missing.

    Raises:
        UsageError: there is no such clock, or the processor's is given with several threads.
    """

    def __init__(self, clock: str = "wall", threads: int | None = None) -> None:
        if clock not in CLOCKS or (clock == "processor" and threads != 1):
            raise UsageError(
                f"The clock has to be {' or '.join(CLOCKS)}, the processor's with one thread only",
                f"it is {clock!r} with {threads or 'no given number of'} threads",
                "choose wall, or add --threads 1",
            )
        use_threads(threads)
        self.now = CLOCKS[clock]
        self.threads = torch.get_num_threads()
        self.gb_per_second = 0.0
        self.gflops: dict[str, float] = {}
        self._memory = MemoryRead(self.now)
        self.measure()

    def measure(self, tries: int = 3) -> None:
        """Measure again; better rates replace earlier ones."""
        self.gb_per_second = max(self.gb_per_second, self._memory.measure(tries))
        for dtype in (torch.float32, torch.bfloat16, torch.int8):
            name = str(dtype).removeprefix("torch.")
            try:
                rate = self._product_rate(dtype, tries)
            except (RuntimeError, NotImplementedError):  # This build has no such product.
                continue
            self.gflops[name] = max(self.gflops.get(name, 0.0), rate)

    def _product_rate(self, dtype: torch.dtype, tries: int) -> float:
        """1e9 additions and multiplications a second of a product of two square matrices."""
        multiply = torch._int_mm if dtype == torch.int8 else torch.mm
        rate = 0.0
        for side in SIDES:
            if rate and 2 * side**3 / rate / 1e9 > PRODUCT_SECONDS:
                break
            square = torch.ones(side, side, dtype=dtype)
            seconds = self._fastest(partial(multiply, square, square), tries)
            rate = 2 * side**3 / seconds / 1e9
        return rate

    def _fastest(self, run: Callable[[], object], tries: int) -> float:
        """Seconds of the fastest of some tries, after one that does not count."""
        run()
        fastest = float("inf")
        for _ in range(tries):
            began = self.now()
            run()
            fastest = min(fastest, self.now() - began)
        return fastest

    def seconds(self, work: Work, dtype: str) -> float:
        """Least time of some work in a compute dtype; a dtype without products of its own here is
        compared with the best rate there is, one whose products torch emulates with float32."""
        best = max(self.gflops.values())
        rate = self.gflops.get("int8" if dtype == "int4" else dtype, best)
        rate = max(rate, self.gflops.get("float32", best))
        return max(work.flops / rate, work.bytes / self.gb_per_second) / 1e9

    def to_dict(self) -> dict[str, Any]:
        """The rates as plain JSON values."""
        names = ("threads", "gb_per_second", "gflops")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate:.0f}" for name, rate in self.gflops.items())
        return f"{self.threads} threads, {self.gb_per_second:.1f} GB/s, GFLOP/s: {rates}"


def _stem_flops(config: AutConfig, frames: int) -> float:
    """Of the convolutions over all frames, as if they were not cut into conv blocks."""
    blocks = frames / CONV_BLOCK_FRAMES
    if config.stem == "conv1d":
        widths = (config.mel_bins, *CHANNELS_1D, config.d_model)
        pairs = zip(pairwise(widths), (50, 25, 13), strict=True)
        return blocks * sum(2.0 * 5 * before * after * n for (before, after), n in pairs)
    height, width, channels, flops = config.mel_bins, CONV_BLOCK_FRAMES, 1, 0.0
    for _ in range(3):
        height, width = (height + 1) // 2, (width + 1) // 2
        flops += 2.0 * 9 * channels * config.conv_channels * height * width
        channels = config.conv_channels
    return blocks * (flops + 2.0 * width * channels * height * config.d_model)


def stage_work(config: QwenAsrConfig, frames: int, prompt: int, dtype: str) -> dict[str, Work]:
    """Work of the stages before the first token.

    Args:
        config: shapes.
        frames: of the clip's log-mel.
        prompt: tokens of its prompt.
        dtype: of the weights, by name.

    Returns:
        work by stage: "stem", "layers" (of the encoder) and "prefill".
    """
    encoder, decoder, size = config.encoder, config.decoder, WEIGHT_BYTES[dtype]
    tokens = audio_tokens(frames)
    matrices = encoder.layers * (4 * encoder.d_model**2 + 2 * encoder.d_model * encoder.ffn)
    window = min(encoder.window_tokens, tokens)
    attention = 4.0 * encoder.layers * encoder.d_model * tokens * window
    # The queries of a prompt attend to half of its keys, on average.
    causal = 2.0 * decoder.layers * decoder.heads * decoder.head_dim * prompt * prompt
    weights, head = layer_weights(decoder), decoder.vocab * decoder.hidden
    return {
        "stem": Work(_stem_flops(encoder, frames), 0.0),
        "layers": Work(2.0 * matrices * tokens + attention, matrices * size),
        "prefill": Work(2.0 * (weights * prompt + head) + causal, (weights + head) * size),
    }


def step_work(config: DecoderConfig, rows: int, position: int, dtype: str) -> Work:
    """Work of one token for each of some rows at a position; a number in the cache takes two bytes,
    or four in float32."""
    weights = layer_weights(config) + config.vocab * config.hidden
    cached = 2 * config.layers * config.kv_heads * config.head_dim * position
    number_bytes = 4.0 if dtype == "float32" else 2.0
    attention = 4.0 * config.layers * config.heads * config.head_dim * position
    return Work(
        rows * (2.0 * weights + attention),
        weights * WEIGHT_BYTES[dtype] + rows * cached * number_bytes,
    )


def stage_limits(
    model: MeasuredModel, seconds: float, tokens: int, machine: Machine, dtype: str | None = None
) -> dict[str, float]:
    """Least seconds by stage, where a rate bounds it; of another dtype if one is given."""
    dtype = dtype or model.dtype
    frames = mel_frames(round(seconds * SAMPLE_RATE))
    prompt = len(prompt_ids(model.recognizer.tokenizer, audio_tokens(frames)))
    work = stage_work(model.config, frames, prompt, dtype)
    limits = {stage: machine.seconds(one, dtype) for stage, one in work.items()}
    limits["encode"] = limits["stem"] + limits["layers"]
    step = step_work(model.config.decoder, 1, prompt + tokens // 2, dtype)
    limits["token"] = machine.seconds(step, dtype)
    limits["total"] = limits["encode"] + limits["prefill"] + (tokens - 1) * limits["token"]
    return limits


def roofline(options: SpeedOptions, clock: Clock = "wall") -> None:
    """Measure the stages of Qwen3-ASR models on the CPU, as multiples of the limits of the machine.

    The limit of a stage is the longer of two times: its multiplications at the machine's matrix
    rate, and its bytes at the machine's memory bandwidth. Both rates are measured between the runs.
    Weights may be random. The last line is JSON.
    """
    clips, tokens = options.clips, options.tokens
    machine = Machine(clock, options.threads)
    models, peers = options.load()
    by_name = {one.name: (one, None) for one in models}
    by_name |= {peer.name: (models[0], peer.dtype) for peer in peers}  # type: ignore[misc]
    formats = {"clip s": ">7g", "stage": "<8", "ms": ">10.1f", "limit ms": ">10.1f"}
    table = Table("model", formats | {"multiple": ">9.2f"})
    stages, rows = [], []
    for stage in stages_of(
        [*models, *peers], clips, tokens, options.runs, machine.now, before_round=machine.measure
    ):
        stages.append(stage)
        measured, peer_dtype = by_name[stage.model]
        limits = stage_limits(measured, stage.clip, tokens, machine, peer_dtype)
        limit = limits.get(stage.stage)
        multiple = None if limit is None else stage.seconds / limit
        rows.append({**asdict(stage), "limit": limit, "multiple": multiple})
        limit_ms = None if limit is None else 1e3 * limit
        table.row(stage.model, stage.clip, stage.stage, 1e3 * stage.seconds, limit_ms, multiple)
    ratios = list(speed_ratios(stages, models, peers))
    for ratio in ratios:
        typer.echo(str(ratio))
    typer.echo(str(machine))
    summary = {**options.summary, "clock": clock, "stages": rows, "ratios": ratios}
    write_json({**summary, "machine": machine.to_dict()})


if __name__ == "__main__":
    run_command(roofline)
