"""Times of words compared with known ones."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from auris.alignment.aligner import ForcedAligner
from auris.errors import UsageError
from auris.evaluation.sets import recording_path


@dataclass(frozen=True)
class TimedClip:
    """A recording, its text, and the start and end of every word, in seconds."""

    audio: Path
    text: str
    words: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class WordErrors:
    """Errors of the times of a set's words, in seconds.

    Attributes:
        missing: words without times, or of other texts than the set's; they are not compared.
        start, end: mean absolute errors after the offset was added.
        start_95, end_95: the 95th percentiles of the absolute errors.
        start_bias, end_bias: means of the errors; late is positive.
        offset: seconds that were added to every time.
    """

    clips: int
    words: int
    missing: int
    start: float
    end: float
    start_95: float
    end_95: float
    start_bias: float
    end_bias: float
    offset: float


def read_timed(path: Path) -> list[TimedClip]:
    """The recordings of a JSONL file: audio (see `recording_path`), text, and words with text,
    start and end.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong_set(f"reading {str(path)!r} failed ({error})") from error
    return [_clip(path, number, line) for number, line in enumerate(lines, 1)]


def _clip(path: Path, number: int, line: str) -> TimedClip:
    where = f"line {number} of {str(path)!r}"
    try:
        row = json.loads(line)
        words = tuple((w["text"], float(w["start"]), float(w["end"])) for w in row["words"])
        return TimedClip(recording_path(path, row["audio"]), row["text"], words)
    except KeyError as error:
        raise _wrong_set(f"{where} has no {error.args[0]!r}") from error
    except (ValueError, TypeError) as error:
        raise _wrong_set(f"{where} is no such object: {line[:60]!r}") from error


def _wrong_set(problem: str) -> UsageError:
    return UsageError(
        "A set of timed words is JSONL, each line an object with audio, text and words that have "
        "text, start and end",
        problem,
        "make one with scripts/make_timed_set.py",
    )


WordTimes = list[tuple[float, float, float, float]]
"""Known start and end, and aligned start and end, of every word."""


def _aligned(aligner: ForcedAligner, clips: Sequence[TimedClip]) -> tuple[WordTimes, int]:
    times: WordTimes = []
    missing = 0
    for clip in clips:
        words = aligner.align(clip.audio, clip.text, "English")
        if [word.text for word in words] != [text for text, _, _ in clip.words]:
            missing += len(clip.words)
            continue
        for (_, start, end), word in zip(clip.words, words, strict=True):
            if word.start is None or word.end is None:
                missing += 1
            else:
                times.append((start, end, word.start, word.end))
    return times, missing


def fit_offset(aligner: ForcedAligner, clips: Sequence[TimedClip]) -> float:
    """Seconds to add to every time of an aligner: the median error of its starts, negated."""
    times, _ = _aligned(aligner, clips)
    return statistics.median(known - start for known, _, start, _ in times) if times else 0.0


def errors_of(aligner: ForcedAligner, clips: Sequence[TimedClip], offset: float) -> WordErrors:
    """Errors of starts and ends after an offset was added to all times."""
    times, missing = _aligned(aligner, clips)
    starts = [start + offset - known for known, _, start, _ in times]
    ends = [end + offset - known for _, known, _, end in times]
    return WordErrors(
        clips=len(clips),
        words=len(times),
        missing=missing,
        start=_mean(map(abs, starts)),
        end=_mean(map(abs, ends)),
        start_95=_percentile_95(starts),
        end_95=_percentile_95(ends),
        start_bias=_mean(starts),
        end_bias=_mean(ends),
        offset=offset,
    )


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return statistics.fmean(numbers) if numbers else 0.0


def _percentile_95(errors: Sequence[float]) -> float:
    ordered = sorted(map(abs, errors))
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else 0.0
