#!/usr/bin/env python3
"""What voice activity detection leaves out of clips in a row, with pauses and noise between them.

What counts as speech is decided on the clips before noise is added: frames of 10 ms within 30 dB of
the loudest ones of a clip, and what lies between two of these that are less than 0.3 s apart.
Breath and noise of a recording itself may be that loud; then they count as speech, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from auris.cli.options import Limit, TestSets, VadModel
from auris.cli.table import Table, write_json
from auris.errors import UsageError
from auris.evaluation.sets import read_set
from auris.evaluation.voice_activity import (
    FRAME,
    LEVEL_DB,
    NOISES,
    joined,
    speech_frames,
    with_noise,
)
from auris.recognition.chunker import AudioChunker
from auris.types import SAMPLE_RATE, Samples
from command_line import run_command

__all__ = ["NOISES", "VadScore", "joined", "score_vad", "speech_frames", "with_noise"]


@dataclass(frozen=True)
class VadScore:
    """What was left out of one recording.

    Attributes:
        level: of the speech, in dB of full scale, at most 0.
        noise, snr: kind of the noise, and by how many dB speech is louder; None without noise.
        seconds, speech, pauses: length of all, of speech and of the rest.
        missed: share of the seconds of speech that was left out.
        skipped: share of the other seconds that was left out.
        cuts, cuts_in_speech: cuts between two chunks, and how many of them lie in speech.
    """

    level: float
    noise: str | None
    snr: float | None
    seconds: float
    speech: float
    pauses: float
    missed: float
    skipped: float
    cuts: int
    cuts_in_speech: int


def score_vad(
    files: Sequence[Path],
    noises: Iterable[str],
    snrs: Iterable[float],
    levels: Iterable[float] = (LEVEL_DB,),
    seed: int = 1,
    chunk_seconds: float = 30.0,
    vad_model: str = "auto",
) -> Iterator[VadScore]:
    """Measure one recording at each level, without noise and with each noise in each strength.

    Args:
        files: the clips.
        noises: of `NOISES`.
        snrs: dB of the speech over the noise.
        levels: of the speech, in dB of full scale, at most 0; it is stored in 16 bits.
        seed: of pauses, loudness and noise.
        chunk_seconds, vad_model: as of `auris transcribe`.

    Raises:
        UsageError: there is no such noise, or no clip.
    """
    kinds, strengths = list(noises), list(snrs)
    for kind in kinds:
        if kind not in NOISES:
            raise UsageError(
                f"The noise has to be {', '.join(NOISES)}", f"it is {kind!r}", "choose these"
            )
    chunker = AudioChunker(chunk_seconds, vad=True, vad_model=vad_model)
    samples, speech = joined(files, seed)
    for level in levels:
        gain = np.float32(10 ** ((level - LEVEL_DB) / 20))
        yield _score(chunker, _rounded(gain * samples), speech, level)
        for snr, kind in product(strengths, kinds):
            noisy = _rounded(gain * with_noise(samples, speech, kind, snr, seed))
            yield _score(chunker, noisy, speech, level, kind, snr)


def _rounded(samples: Samples) -> Samples:
    """Samples rounded to 16 bits: what is very quiet is lost."""
    return (np.round(samples * 32768.0) / 32768.0).astype(np.float32)


def _score(
    chunker: AudioChunker,
    samples: Samples,
    speech: NDArray[np.bool_],
    level: float,
    noise: str | None = None,
    snr: float | None = None,
) -> VadScore:
    left_out = np.zeros(len(speech), bool)
    cuts = inside = 0
    before = False
    for chunk in chunker.chunks((samples, SAMPLE_RATE)):
        first = chunk.start // FRAME
        if chunk.skipped:
            left_out[first : (chunk.start + chunk.skipped) // FRAME] = True
        elif before:
            cuts += 1
            inside += bool(speech[first])
        before = not chunk.skipped
    seconds = len(speech) * FRAME / SAMPLE_RATE
    spoken = float(speech.mean()) * seconds
    return VadScore(
        level=level,
        noise=noise,
        snr=snr,
        seconds=seconds,
        speech=spoken,
        pauses=seconds - spoken,
        missed=float(left_out[speech].mean()) if speech.any() else 0.0,
        skipped=float(left_out[~speech].mean()) if not speech.all() else 0.0,
        cuts=cuts,
        cuts_in_speech=inside,
    )


def voice_activity(
    test_set: TestSets,
    noise: Annotated[
        list[str] | None,
        typer.Option(help="Kind of noise. Repeatable.", show_default="white, pink and brown"),
    ] = None,
    snr: Annotated[
        list[float] | None,
        typer.Option(
            help="Speech relative to noise in dB. Repeatable.", show_default="20, 10, 5 and 0"
        ),
    ] = None,
    level: Annotated[
        list[float] | None,
        typer.Option(
            min=-120.0,
            max=0.0,
            help="Level of speech in dB relative to full scale. Repeatable.",
            show_default="-26",
        ),
    ] = None,
    chunk_seconds: Annotated[float, typer.Option(help="As of auris transcribe.")] = 30.0,
    vad_model: VadModel = "auto",
    seed: Annotated[int, typer.Option(help="Random seed of pauses, levels and noise.")] = 1,
    limit: Limit = None,
) -> None:
    """Measure the shares of speech and of pauses that --vad leaves out; no model is needed.

    Clips are joined with pauses, at every level, without noise and with every noise. The last line
    is JSON.
    """
    noises, snrs, levels = noise or NOISES, snr or [20.0, 10.0, 5.0, 0.0], level or [LEVEL_DB]
    formats = {"missed %": ">9.2f", "skipped %": ">10.1f", "cuts": ">5", "in speech": ">10"}
    sets = []
    for name in test_set:
        table = Table(name, formats)
        scores = []
        clips = list(read_set(name))[:limit]
        for score in score_vad(clips, noises, snrs, levels, seed, chunk_seconds, vad_model):
            scores.append(score)
            kind = "no noise" if score.noise is None else f"{score.noise}, {score.snr:g} dB"
            shares = (100 * score.missed, 100 * score.skipped)
            title = f"{score.level:g} dB, {kind}" if level else kind
            table.row(title, *shares, score.cuts, score.cuts_in_speech)
        sets.append({"name": name, "scores": scores})
    write_json({"sets": sets})


if __name__ == "__main__":
    run_command(voice_activity)
