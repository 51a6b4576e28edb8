#!/usr/bin/env python3
"""Seconds of audio transcribed in a second, for several clips at once, on any device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import typer

from auris.audio.io import load
from auris.cli.benchmark import names
from auris.cli.options import Device, Dtype, Model, Peers
from auris.cli.table import Table, write_json
from auris.cli.values import numbers
from auris.diagnostics.parity import noise_clip
from auris.diagnostics.reference import Reference
from auris.errors import UsageError
from auris.evaluation.speed import MeasuredModel
from auris.types import SAMPLE_RATE, Samples
from command_line import run_command

__all__ = ["Throughput", "clips_of", "measure"]

LONGEST_CLIP = 600


@dataclass(frozen=True)
class Throughput:
    """Clips of one length, so many at once.

    Attributes:
        name: of the model or the peer, and its dtype.
        concurrency: clips at once.
        seconds: length of a clip.
        tokens: decoded in a round.
        audio_per_second: seconds of audio in a second, the median of the rounds.
    """

    name: str
    concurrency: int
    seconds: float
    tokens: int
    audio_per_second: float


Transcribe = Callable[[Sequence[Samples], int, int], int]
"""Transcribes clips, so many at once, of at most so many tokens each; returns the tokens."""


def clips_of(audio: Samples | None, seconds: float, count: int) -> list[Samples]:
    """Clips of one length, cut one after the other from a recording, again and again, or of noise.

    Raises:
        UsageError: the recording is shorter than a clip.
    """
    if audio is None:
        return [noise_clip(seconds, seed) for seed in range(count)]
    size = round(seconds * SAMPLE_RATE)
    whole = len(audio) // size
    if whole == 0:
        raise UsageError(
            "--audio has to be a recording that is as long as a clip",
            f"it has {len(audio) / SAMPLE_RATE:.1f} s, and --seconds has {seconds:g}",
            "choose a longer recording",
        )
    return [audio[index % whole * size :][:size] for index in range(count)]


def ours(model: MeasuredModel) -> Transcribe:
    """Transcribing by Auris."""

    def transcribe(clips: Sequence[Samples], concurrency: int, tokens: int) -> int:
        # Every clip is one chunk, and one that uses up its tokens is not decoded again.
        transcripts = model.pipeline.transcribe(
            [(clip, SAMPLE_RATE) for clip in clips],
            batch_size=concurrency,
            chunk_seconds=LONGEST_CLIP,
            max_new_tokens=tokens,
            vad=False,
        )
        segments = (segment for transcript in transcripts for segment in transcript.segments)
        return sum(len(segment.tokens) for segment in segments)

    return transcribe


def transformers_peer(model: MeasuredModel) -> Transcribe:
    """Transcribing by transformers on the same device, in the same dtype or in bfloat16.

    Clips that run at once are one batch of `generate`.
    """
    reference = Reference(model.directory, model.peer_dtype)
    device = model.backend.device
    reference.model.to(device)

    @torch.inference_mode()
    def transcribe(clips: Sequence[Samples], concurrency: int, tokens: int) -> int:
        decoded = 0
        for first in range(0, len(clips), concurrency):
            inputs = reference.inputs(list(clips[first : first + concurrency])).to(device)
            inputs["input_features"] = inputs["input_features"].to(reference.model.dtype)
            ids = reference.model.generate(**inputs, do_sample=False, max_new_tokens=tokens)
            decoded += ids[:, inputs["input_ids"].shape[1] :].numel()
        return decoded

    return transcribe


PEERS = {"transformers": transformers_peer}


def measure(
    runners: dict[str, Transcribe],
    clips: Sequence[Samples],
    concurrency: int,
    tokens: int,
    rounds: int,
) -> list[Throughput]:
    """Rounds of all runners in turn, after one each that warms up."""
    spent: dict[str, list[float]] = {name: [] for name in runners}
    decoded = {}
    for number in range(rounds + 1):
        for name, transcribe in runners.items():
            began = time.perf_counter()
            decoded[name] = transcribe(clips, concurrency, tokens)
            if number:
                spent[name].append(time.perf_counter() - began)
    seconds = len(clips[0]) / SAMPLE_RATE
    return [
        Throughput(
            name,
            concurrency,
            seconds,
            decoded[name],
            len(clips) * seconds / statistics.median(times),
        )
        for name, times in spent.items()
    ]


def concurrency(
    model: Model = None,
    at_once: Annotated[
        str,
        typer.Option("--concurrency", help="Numbers of clips at once, separated by commas."),
    ] = "1,8,32,128",
    seconds: Annotated[
        str, typer.Option(help="Lengths of the clips, separated by commas.")
    ] = "8,30",
    audio: Annotated[
        str | None, typer.Option(help="Recording that the clips are cut from; noise by default.")
    ] = None,
    token_rate: Annotated[
        float, typer.Option(min=0.1, max=50, help="Most tokens for a second of audio.")
    ] = 5.0,
    clips_per_row: Annotated[
        int, typer.Option(min=1, help="Clips of a round for each of those at once.")
    ] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Counted rounds.")] = 3,
    peers: Peers = "",
    dtype: Dtype = "auto",
    device: Device = None,
) -> None:
    """Measure how many seconds of audio a Qwen3-ASR model transcribes in a second: clips of one
    length, so many at once, from samples to text, on the device of the model.

    Rounds of peers, on the same device, are interleaved. The last line is JSON.
    """
    measured = MeasuredModel(model or "tiny", dtype=dtype, device=device)
    runners = {measured.name: ours(measured)}
    for name in names(peers):
        if name not in PEERS:
            raise UsageError(
                f"The peers that can be measured are {', '.join(PEERS)}",
                f"{name!r} was given",
                "choose one of these",
            )
        runners[name] = PEERS[name](measured)
    recording = None if audio is None else load(audio).samples
    formats = {"at once": ">8", "clip s": ">7g", "tokens": ">8", "audio s/s": ">10.1f"}
    table = Table("model", formats | {"times": ">6.2f"})
    rows = []
    for length in numbers("--seconds", seconds, most=LONGEST_CLIP):
        for count in map(int, numbers("--concurrency", at_once)):
            clips = clips_of(recording, length, count * clips_per_row)
            budget = max(1, round(token_rate * length))
            scores = measure(runners, clips, count, budget, rounds)
            for score in scores:
                own = scores[0].audio_per_second / score.audio_per_second
                figures = (score.tokens, score.audio_per_second, own)
                table.row(score.name, count, length, *figures)
            rows += scores
    typer.echo(f"{device_name(measured)}; {measured.kernels}")
    write_json(
        {"rows": rows, "device": device_name(measured), "kernels": measured.kernels}
        | {"token_rate": token_rate, "rounds": rounds}
    )


def device_name(model: MeasuredModel) -> str:
    """What the model runs on."""
    device = model.backend.device
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    run_command(concurrency)
