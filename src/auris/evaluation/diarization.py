"""Diarization error rate: who speaks when, compared with a reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auris.diarization.diarizer import Diarizer
from auris.errors import UsageError
from auris.evaluation.sets import read_columns, recording_path

COLLAR = 0.25
"""Seconds around each border of the reference that are not counted."""


@dataclass(frozen=True)
class Stretch:
    """Seconds from `start` to `end` in which a speaker speaks."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True)
class DiarizationErrors:
    """Seconds of speech of the reference (overlaps count for each speaker) and of errors.

    Attributes:
        missed: speech of the reference without a speaker.
        false_alarm: speakers where the reference has none, or fewer.
        confused: speech of another speaker than the one of the reference.
        speakers, expected: number of speakers, and that of the reference.
    """

    total: float
    missed: float
    false_alarm: float
    confused: float
    speakers: int
    expected: int

    @property
    def rate(self) -> float:
        """The diarization error rate; of a reference without speech 0 or infinite."""
        errors = self.missed + self.false_alarm + self.confused
        return errors / self.total if self.total else (float("inf") if errors else 0.0)


def read_rttm(path: Path) -> dict[str, list[Stretch]]:
    """Stretches of each recording of an RTTM file.

    Raises:
        UsageError: it cannot be read, or a line is no line of RTTM.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "A reference has to be a readable RTTM file",
            f"reading {str(path)!r} failed ({error})",
            "check the path",
        ) from None
    recordings: dict[str, list[Stretch]] = {}
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start, length, speaker = float(fields[3]), float(fields[4]), fields[7]
        except (IndexError, ValueError):
            raise UsageError(
                "A line of RTTM has at least 8 fields, with a start and a length in seconds",
                f"line {number} of {str(path)!r} is {line!r}",
                "correct it",
            ) from None
        recordings.setdefault(fields[1], []).append(Stretch(start, start + length, speaker))
    return recordings


def diarization_errors(
    reference: Iterable[Stretch], hypothesis: Iterable[Stretch], collar: float = COLLAR
) -> DiarizationErrors:
    """Errors of the best mapping from the speakers of the hypothesis to those of the reference."""
    expected, actual = _by_speaker(reference), _by_speaker(hypothesis)
    borders = _borders(expected, actual, collar)
    lengths = np.diff(borders)
    middles = (borders[:-1] + borders[1:]) / 2
    counted = _counted(expected, middles, collar)
    lengths = np.where(counted, lengths, 0.0)
    truth, guess = _states(expected, middles), _states(actual, middles)
    shared = (truth * lengths) @ guess.T
    correct = sum(shared[pair] for pair in assignment(shared))
    there, given = truth.sum(0), guess.sum(0)
    return DiarizationErrors(
        total=float(there @ lengths),
        missed=float(np.maximum(there - given, 0) @ lengths),
        false_alarm=float(np.maximum(given - there, 0) @ lengths),
        confused=max(float(np.minimum(there, given) @ lengths - correct), 0.0),
        speakers=len(actual),
        expected=len(expected),
    )


def _by_speaker(stretches: Iterable[Stretch]) -> dict[str, list[tuple[float, float]]]:
    """Spans of each speaker, in order, those that touch or overlap joined."""
    speakers: dict[str, list[tuple[float, float]]] = {}
    for one in sorted(stretches, key=lambda stretch: stretch.start):
        spans = speakers.setdefault(one.speaker, [])
        if spans and one.start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], one.end))
        elif one.end > one.start:
            spans.append((one.start, one.end))
    return {speaker: spans for speaker, spans in speakers.items() if spans}


_Spans = Mapping[str, Sequence[tuple[float, float]]]


def _borders(expected: _Spans, actual: _Spans, collar: float) -> NDArray[np.float64]:
    own = [time for spans in expected.values() for span in spans for time in span]
    others = [time for spans in actual.values() for span in spans for time in span]
    around = [time + side for time in own for side in (-collar, collar)]
    return np.unique(np.array([*own, *others, *around, 0.0]))


def _counted(expected: _Spans, middles: NDArray[np.float64], collar: float) -> NDArray[np.bool_]:
    times = np.sort([time for spans in expected.values() for span in spans for time in span])
    if not len(times) or not collar:
        return np.ones(len(middles), bool)
    nearest = np.searchsorted(times, middles)
    before = middles - times[np.maximum(nearest - 1, 0)]
    after = times[np.minimum(nearest, len(times) - 1)] - middles
    return np.asarray((np.abs(before) > collar) & (np.abs(after) > collar))


def _states(speakers: _Spans, middles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whether each speaker speaks at each time, [speakers, times]."""
    states = np.zeros((len(speakers), len(middles)))
    for row, spans in zip(states, speakers.values(), strict=True):
        for start, end in spans:
            first, last = np.searchsorted(middles, (start, end))
            row[first:last] = 1.0
    return states


def assignment(gains: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of rows and columns, none used twice, with the largest sum (Hungarian method)."""
    if not gains.size:
        return []
    if gains.shape[0] > gains.shape[1]:
        return [(row, column) for column, row in assignment(gains.T)]
    rows, columns = gains.shape
    costs = gains.max() - gains
    prices, discounts = np.zeros(columns + 1), np.zeros(rows)
    owners = np.full(columns + 1, -1)
    for row in range(rows):
        owners[columns], column = row, columns
        slack, previous = np.full(columns, np.inf), np.full(columns, columns)
        visited = np.zeros(columns + 1, bool)
        while owners[column] >= 0:
            visited[column] = True
            owner = owners[column]
            free = ~visited[:columns]
            reduced = costs[owner] - discounts[owner] - prices[:columns]
            better = free & (reduced < slack)
            slack[better], previous[better] = reduced[better], column
            following = int(np.where(free, slack, np.inf).argmin())
            step = slack[following]
            discounts[owners[visited]] += step
            prices[visited] -= step
            slack[free] -= step
            column = following
        while column != columns:
            owners[column] = owners[previous[column]]
            column = int(previous[column])
    return [(int(owners[column]), column) for column in range(columns) if owners[column] >= 0]


@dataclass(frozen=True)
class Conversation:
    """A recording and its reference."""

    audio: Path
    reference: tuple[Stretch, ...]

    @property
    def speakers(self) -> int:
        """Number of speakers of the reference."""
        return len({one.speaker for one in self.reference})


def read_conversations(path: Path) -> list[Conversation]:
    """The conversations of a CSV with the columns wav and rttm (see `recording_path`).

    Raises:
        UsageError: it cannot be read, or holds none.
    """
    conversations = []
    for audio, rttm in read_columns(path, "wav", "rttm"):
        recordings = read_rttm(recording_path(path, rttm))
        stretches = recordings.get(Path(audio).stem, [])
        if not stretches and len(recordings) == 1:
            (stretches,) = recordings.values()
        conversations.append(Conversation(recording_path(path, audio), tuple(stretches)))
    if not conversations:
        raise UsageError(
            f"The set {str(path)!r} holds no recordings", "", "name a CSV with wav and rttm"
        )
    return conversations


def scored(
    conversations: Iterable[Conversation],
    rttm_folder: Path | None,
    speaker_model: str | None = None,
    *,
    known_count: bool,
    collar: float,
) -> Iterator[tuple[str, DiarizationErrors]]:
    """Names and errors of conversations.

    Args:
        rttm_folder: folder with an RTTM file for each recording; None to diarize the recordings.
        known_count: whether the number of speakers of the reference is given.
    """
    diarizer = Diarizer.from_pretrained(speaker_model) if rttm_folder is None else None
    for one in conversations:
        if diarizer is None:
            path = (rttm_folder or Path()) / f"{one.audio.stem}.rttm"
            hypothesis = [stretch for group in read_rttm(path).values() for stretch in group]
        else:
            turns = diarizer.diarize(one.audio, one.speakers if known_count else None)
            hypothesis = [Stretch(turn.start, turn.end, turn.speaker) for turn in turns]
        yield one.audio.stem, diarization_errors(one.reference, hypothesis, collar)


def total_errors(errors: Iterable[DiarizationErrors]) -> DiarizationErrors:
    """The sums over several recordings."""
    columns = zip(*(astuple(one) for one in errors), strict=True)
    return DiarizationErrors(*map(sum, columns))
