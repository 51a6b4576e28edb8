#!/usr/bin/env python3
"""Word errors of a long recording, compared with those of its clips, and memory."""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from auris.cli.options import Limit, ModelOptions, TestSets
from auris.cli.table import Table, write_json
from auris.evaluation.loading import resident_gb
from auris.evaluation.sets import read_set
from auris.evaluation.wer import normalizer_named, require_jiwer, word_edits
from auris.pipeline import AsrPipeline
from auris.recognition.chunker import AudioChunker
from auris.recognition.options import chunker_for
from auris.types import SAMPLE_RATE, Samples, Transcript
from command_line import run_command
from cuts import CutScore, score_cuts

__all__ = ["LongScore", "score_long"]

PAUSE_SECONDS = 0.5
"""Silence after every clip of a long recording."""


@dataclass(frozen=True)
class LongScore:
    """One long recording, compared with its clips.

    Attributes:
        chunk_seconds, vad: how it was cut.
        seconds: its length.
        chunks: the number of chunks, without skipped silence.
        skipped: seconds left out.
        words: of the references.
        wer, clips_wer: error rates of the long recording, and of its clips one by one.
        cuts: the words next to cuts.
        resident_gb: memory after each tenth of the recording, and at its end.
    """

    chunk_seconds: float
    vad: bool
    seconds: float
    chunks: int
    skipped: float
    words: int
    wer: float
    clips_wer: float
    cuts: CutScore
    resident_gb: tuple[float, ...]


def score_long(
    pipeline: AsrPipeline,
    clips: Mapping[Path, str],
    seconds: float,
    cuts: Sequence[tuple[float, bool]],
    normalizer: str = "spoken",
    path: Path | None = None,
) -> Iterator[LongScore]:
    """Decode clips one by one, and all of them joined, cut in several ways.

    Args:
        pipeline: the model.
        clips: recordings and their texts; repeated until the length is reached.
        seconds: about the length of the joined recording.
        cuts: chunk_seconds and vad of every way.
        normalizer: as for word error rates. "english" makes one number of the digits of
            neighbouring clips, which are joined in one text but not in texts of clips.
        path: where the joined recording is written, as 16-bit wav; by default a temporary file.

    Raises:
        AurisError: a clip cannot be read.
        MissingExtra: jiwer or whisper-normalizer is not installed.
    """
    require_jiwer()
    normalize = normalizer_named(normalizer)
    texts = {file: pipeline.transcribe(str(file)).text for file in clips}
    with tempfile.TemporaryDirectory() as folder:
        path = path or Path(folder) / "long.wav"
        order = _write_joined(path, list(clips), seconds)
        reference = _words(normalize, [clips[file] for file in order])
        clips_wer = _error_rate(reference, _words(normalize, [texts[f] for f in order]))
        for chunk_seconds, vad in cuts:
            transcript, levels = _transcribe(pipeline, path, chunk_seconds, vad)
            decoded = [segment for segment in transcript.segments if not segment.skipped]
            chunks = [_words(normalize, [segment.text]) for segment in decoded]
            yield LongScore(
                chunk_seconds=chunk_seconds,
                vad=vad,
                seconds=transcript.seconds,
                chunks=len(decoded),
                skipped=transcript.skipped,
                words=len(reference),
                wer=_error_rate(reference, [word for chunk in chunks for word in chunk]),
                clips_wer=clips_wer,
                cuts=score_cuts(reference, chunks),
                resident_gb=levels,
            )


def _words(normalize: Callable[[str], str], texts: Sequence[str]) -> list[str]:
    """Words of texts in a row. Each text is normalized alone, since a text without a spoken form is
    compared as it is written."""
    return [word for text in texts for word in normalize(text).split()]


def _error_rate(reference: Sequence[str], text: Sequence[str]) -> float:
    return word_edits(" ".join(reference), " ".join(text)).total() / len(reference)


def _write_joined(path: Path, files: Sequence[Path], seconds: float) -> list[Path]:
    """Write clips in a row; returns which."""
    order: list[Path] = []
    pause = np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    written = 0
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        for file in cycle(files):
            if written >= seconds * SAMPLE_RATE:
                return order
            chunks = AudioChunker().chunks(str(file))
            for samples in (*(chunk.samples for chunk in chunks), pause):
                out.writeframes(_integers(samples))
                written += len(samples)
            order.append(file)
    return order


def _integers(samples: Samples) -> bytes:
    return np.clip(np.round(samples * 32767.0), -32768, 32767).astype("<i2").tobytes()


def _transcribe(
    pipeline: AsrPipeline, path: Path, chunk_seconds: float, vad: bool
) -> tuple[Transcript, tuple[float, ...]]:
    """A transcript, and the memory after each tenth of the recording and at its end."""
    levels: list[float] = []
    with wave.open(str(path), "rb") as file:
        tenth = file.getnframes() / file.getframerate() / 10

    def on_progress(progress: Any) -> None:
        if progress.seconds >= (len(levels) + 1) * tenth:
            levels.append(resident_gb())

    transcript = pipeline.transcribe(
        str(path), chunk_seconds=chunk_seconds, vad=vad, progress=on_progress
    )
    return transcript, (*levels, resident_gb())


def long_recordings(
    test_set: TestSets,
    model: ModelOptions,
    hours: Annotated[float, typer.Option(help="Length of the joined recording.")] = 2.0,
    chunk_seconds: Annotated[
        list[float] | None,
        typer.Option(
            help="Target length of chunks. Repeatable.",
            show_default="the model's default, with its default of vad",
        ),
    ] = None,
    with_vad: Annotated[
        bool, typer.Option("--vad", help="Measure each length also with voice activity detection.")
    ] = False,
    normalizer: Annotated[
        str,
        typer.Option(
            help="As of auris benchmark wer; english joins the digits of neighbouring clips."
        ),
    ] = "spoken",
    keep: Annotated[
        Path | None, typer.Option(help="Write the joined recording to this wav file.")
    ] = None,
    limit: Limit = None,
) -> None:
    """Measure the word errors of clips one by one and of all of them joined, errors next to cuts,
    and memory.

    The last line is JSON.
    """
    pipeline = model.pipeline()
    clips = {file: text for name in test_set for file, text in list(read_set(name).items())[:limit]}
    defaults = chunker_for({}, pipeline.defaults)
    cuts = [(defaults.chunk_seconds, defaults.vad)]
    if chunk_seconds or with_vad:
        kinds = [False, True] if with_vad else [False]
        lengths = chunk_seconds or [defaults.chunk_seconds]
        cuts = [(length, vad) for length in lengths for vad in kinds]
    formats = {"WER %": ">7.2f", "clips %": ">8.2f", "chunks": ">7", "skipped s": ">10.1f"}
    formats |= {"cuts": ">6", "lost": ">5", "doubled": ">7", "broken": ">6", "glued": ">5"}
    formats |= {"at cuts %": ">9.2f", "else %": ">7.2f", "first GB": ">9.3f", "last GB": ">8.3f"}
    table = Table("cut", formats)
    scores = []
    for score in score_long(pipeline, clips, hours * 3600, cuts, normalizer, keep):
        scores.append(score)
        words = score.cuts
        table.row(
            f"{score.chunk_seconds:g} s{', vad' * score.vad}",
            *(100 * score.wer, 100 * score.clips_wer, score.chunks, score.skipped),
            *(words.cuts, words.lost, words.doubled, words.broken, words.glued),
            *(100 * words.next_to_cuts, 100 * words.elsewhere),
            *(score.resident_gb[0], score.resident_gb[-1]),
        )
    write_json({"model": pipeline.model.name, "scores": scores})


if __name__ == "__main__":
    run_command(long_recordings)
