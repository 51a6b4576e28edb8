"""What lasts: memory over hours and over many files, and whether cuts cost words."""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from auris.evaluation.cuts import CutScore, score_cuts
from auris.evaluation.loading import resident_gb
from auris.evaluation.wer import normalizer_named, require_jiwer
from auris.pipeline import AsrPipeline
from auris.recognition.chunker import AudioChunker
from auris.recognition.options import chunker_for
from auris.types import SAMPLE_RATE, Samples, Transcript

__all__ = ["LongScore", "MemoryScore", "measure_files", "own_cut", "score_long"]

PAUSE_SECONDS = 0.5
"""Silence behind every clip of a long recording."""


@dataclass(frozen=True)
class LongScore:
    """One long recording, cut by us, beside its clips.

    Attributes:
        chunk_seconds, vad: how it was cut.
        seconds: its length.
        pieces: what it was cut into, without what was skipped.
        skipped: seconds left out.
        words: of the references.
        wer, clips_wer: error rates of the long recording, and of its clips one by one.
        beside: the words beside cuts.
        resident_gb: memory after each tenth of the recording, and at its end.
    """

    chunk_seconds: float
    vad: bool
    seconds: float
    pieces: int
    skipped: float
    words: int
    wer: float
    clips_wer: float
    beside: CutScore
    resident_gb: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class MemoryScore:
    """Memory of one process over many files, in GB, after every tenth of them."""

    files: int
    resident_gb: tuple[float, ...]

    @property
    def growth(self) -> float:
        """Share by which memory grew from the first tenth to the end."""
        return self.resident_gb[-1] / self.resident_gb[0] - 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "growth": self.growth}


def measure_files(pipeline: AsrPipeline, files: Sequence[Path], count: int) -> MemoryScore:
    """Transcribe `count` files, the given ones again and again, and look at the memory."""
    marks = {round(count * tenth / 10) for tenth in range(1, 11)}
    levels = []
    names = (str(file) for file in islice(cycle(files), count))
    for done, _ in enumerate(pipeline.results(names), 1):
        if done in marks:
            levels.append(resident_gb())
    return MemoryScore(count, tuple(levels))


def own_cut(pipeline: AsrPipeline) -> tuple[float, bool]:
    """chunk_seconds and vad with which a model hears recordings unless something else is asked."""
    reading = chunker_for({}, pipeline.defaults)
    return reading.chunk_seconds, reading.vad


def score_long(
    pipeline: AsrPipeline,
    clips: Mapping[Path, str],
    seconds: float,
    cuts: Sequence[tuple[float, bool]],
    normalizer: str = "spoken",
    keep: Path | None = None,
) -> Iterator[LongScore]:
    """Decode clips one by one, and all of them in a row, cut in several ways.

    Args:
        pipeline: the model.
        clips: recordings and what is said in them; repeated until the length is reached.
        seconds: about how long the row is.
        cuts: chunk_seconds and vad of every way.
        normalizer: as for word error rates. "english" makes one number of the digits of
            neighbouring clips, which one text in a row joins and clips by themselves do not.
        keep: where the row is written to stay, as 16-bit wav.

    Raises:
        AurisError: a clip cannot be read.
        MissingExtra: jiwer or whisper-normalizer is not installed.
    """
    jiwer, normalize = require_jiwer(), normalizer_named(normalizer)
    alone = {file: pipeline.transcribe(str(file)).text for file in clips}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.wav" if keep is None else keep
        order = _write_row(path, list(clips), seconds)
        said = _words(normalize, [clips[file] for file in order])
        apart = _error_rate(jiwer, said, _words(normalize, [alone[file] for file in order]))
        for chunk_seconds, vad in cuts:
            transcript, levels = _watched(pipeline, path, chunk_seconds, vad)
            heard = [segment for segment in transcript.segments if not segment.skipped]
            pieces = [_words(normalize, [segment.text]) for segment in heard]
            yield LongScore(
                chunk_seconds=chunk_seconds,
                vad=vad,
                seconds=transcript.seconds,
                pieces=len(heard),
                skipped=transcript.skipped,
                words=len(said),
                wer=_error_rate(jiwer, said, [word for piece in pieces for word in piece]),
                clips_wer=apart,
                beside=score_cuts(said, pieces),
                resident_gb=levels,
            )


def _words(normalize: Callable[[str], str], texts: Sequence[str]) -> list[str]:
    """Words of texts in a row. Each text is normalized by itself, for what cannot be spoken stays
    as it stands, and that concerns no other text."""
    return [word for text in texts for word in normalize(text).split()]


def _error_rate(jiwer: Any, said: Sequence[str], read: Sequence[str]) -> float:
    return float(jiwer.wer(" ".join(said), " ".join(read)))


def _write_row(path: Path, files: Sequence[Path], seconds: float) -> list[Path]:
    """Write clips in a row, and say which."""
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


def _watched(
    pipeline: AsrPipeline, path: Path, chunk_seconds: float, vad: bool
) -> tuple[Transcript, tuple[float, ...]]:
    levels: list[float] = []
    with wave.open(str(path), "rb") as file:
        tenth = file.getnframes() / file.getframerate() / 10

    def look(progress: Any) -> None:
        if progress.seconds >= (len(levels) + 1) * tenth:
            levels.append(resident_gb())

    transcript = pipeline.transcribe(str(path), chunk_seconds=chunk_seconds, vad=vad, progress=look)
    return transcript, (*levels, resident_gb())
