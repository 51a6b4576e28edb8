"""Times of words beside known ones."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from auris.alignment.aligner import ForcedAligner
from auris.errors import UsageError

__all__ = ["TimedClip", "WordErrors", "errors_of", "fit_offset", "read_timed"]


@dataclass(frozen=True)
class TimedClip:
    """A recording, its text, and the start and end of every word, in seconds."""

    audio: Path
    text: str
    words: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class WordErrors:
    """How far a set's words lie from where they are, in seconds.

    Attributes:
        clips, words: what was compared.
        missing: words without times, or of other texts than the set's; they are not compared.
        start, end: mean absolute errors once the offset is added.
        start_95, end_95: what 95 % of them stay under.
        start_bias, end_bias: means of the errors, late is positive.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def read_timed(path: Path) -> list[TimedClip]:
    """The recordings of a JSONL file: audio (relative to it), text, and words with text, start and
    end.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _no_set(f"reading {str(path)!r} failed ({error})") from error
    return [_clip(path, number, line) for number, line in enumerate(lines, 1)]


def _clip(path: Path, number: int, line: str) -> TimedClip:
    where = f"line {number} of {str(path)!r}"
    try:
        row = json.loads(line)
        words = tuple((w["text"], float(w["start"]), float(w["end"])) for w in row["words"])
        return TimedClip(path.parent / row["audio"], row["text"], words)
    except KeyError as error:
        raise _no_set(f"{where} has no {error.args[0]!r}") from error
    except (ValueError, TypeError) as error:
        raise _no_set(f"{where} is none such: {line[:60]!r}") from error


def _no_set(found: str) -> UsageError:
    return UsageError(
        "A set of timed words is JSONL, each line an object with audio, text and words that have "
        "text, start and end",
        found,
        "make one with scripts/make_timed_set.py",
    )


Pairs = list[tuple[float, float, float, float]]
"""Start and end as they are, and as they were found, of every word."""


def _pairs(aligner: ForcedAligner, clips: Sequence[TimedClip]) -> tuple[Pairs, int]:
    pairs: Pairs = []
    missing = 0
    for clip in clips:
        found = aligner.align(clip.audio, clip.text, "English")
        if [word.text for word in found] != [text for text, _, _ in clip.words]:
            missing += len(clip.words)
            continue
        for (_, start, end), word in zip(clip.words, found, strict=True):
            if word.start is None or word.end is None:
                missing += 1
            else:
                pairs.append((start, end, word.start, word.end))
    return pairs, missing


def fit_offset(aligner: ForcedAligner, clips: Sequence[TimedClip]) -> float:
    """Seconds to add to every time of an aligner: the median of how early its starts are."""
    pairs, _ = _pairs(aligner, clips)
    return statistics.median(start - found for start, _, found, _ in pairs) if pairs else 0.0


def errors_of(aligner: ForcedAligner, clips: Sequence[TimedClip], offset: float) -> WordErrors:
    """Mean absolute errors of starts and ends."""
    pairs, missing = _pairs(aligner, clips)
    starts = [found + offset - start for start, _, found, _ in pairs]
    ends = [found + offset - end for _, end, _, found in pairs]
    return WordErrors(
        clips=len(clips),
        words=len(pairs),
        missing=missing,
        start=_mean([abs(error) for error in starts]),
        end=_mean([abs(error) for error in ends]),
        start_95=_most(starts),
        end_95=_most(ends),
        start_bias=_mean(starts),
        end_bias=_mean(ends),
        offset=offset,
    )


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def _most(errors: Sequence[float]) -> float:
    """The 95th of every hundred."""
    ordered = sorted(map(abs, errors))
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else 0.0
