"""Diarization error rate: who speaks when, compared with a reference."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from auris.audio.io import stream
from auris.diarization.diarizer import Diarizer, SpeakerCount
from auris.errors import UsageError
from auris.evaluation.sets import read_columns, recording_path
from auris.types import SAMPLE_RATE

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


@dataclass(frozen=True)
class NameErrors:
    """How well known speakers are named, in seconds of speech (overlaps count for each speaker).

    Attributes:
        total: speech of speakers who are known.
        right: of it with the speaker's own name.
        wrong: speech with the name of a known speaker who does not speak then.
        speakers: number of known speakers who speak.
        named: of these, how many have their own name for most of their speech.
        misnamed: how many names belong to somebody else for most of the time.
    """

    total: float
    right: float
    wrong: float
    speakers: int
    named: int
    misnamed: int


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


def name_errors(
    reference: Iterable[Stretch],
    hypothesis: Iterable[Stretch],
    known: Collection[str],
    collar: float = COLLAR,
) -> NameErrors:
    """Errors of the names of known speakers, who have the same names in the reference."""
    expected, actual = _by_speaker(reference), _by_speaker(hypothesis)
    borders = _borders(expected, actual, collar)
    lengths, middles = np.diff(borders), (borders[:-1] + borders[1:]) / 2
    lengths = np.where(_counted(expected, middles, collar), lengths, 0.0)
    truth, guess = _states(expected, middles), _states(actual, middles)
    shared = (truth * lengths) @ guess.T
    rows, columns = list(expected), list(actual)
    present = [name for name in rows if name in known]
    right = {
        name: float(shared[rows.index(name), columns.index(name)]) if name in columns else 0.0
        for name in present
    }
    spoken = dict(zip(rows, (truth @ lengths).tolist(), strict=True))
    given = dict(zip(columns, (guess @ lengths).tolist(), strict=True))
    used = [name for name in columns if name in known]
    owners = {
        name: rows[int(shared[:, columns.index(name)].argmax())] if rows else None for name in used
    }
    return NameErrors(
        total=sum(spoken[name] for name in present),
        right=sum(right.values()),
        wrong=sum(given[name] - right.get(name, 0.0) for name in used),
        speakers=len(present),
        named=sum(2 * right[name] > spoken[name] for name in present),
        misnamed=sum(owner != name for name, owner in owners.items()),
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
    """A recording and its reference, and recordings of known speakers by name."""

    audio: Path
    reference: tuple[Stretch, ...]
    known: Mapping[str, Path] = field(default_factory=dict)

    @property
    def speakers(self) -> int:
        """Number of speakers of the reference."""
        return len({one.speaker for one in self.reference})


def read_conversations(path: Path, known_speakers: bool = False) -> list[Conversation]:
    """The conversations of a CSV with the columns wav and rttm (see `recording_path`).

    Args:
        known_speakers: whether it also has the column known: a folder with a recording of each
            known speaker, with the speaker's name.

    Raises:
        UsageError: it cannot be read, or holds none.
    """
    columns = ("wav", "rttm", "known") if known_speakers else ("wav", "rttm")
    conversations = []
    for audio, rttm, *folder in read_columns(path, *columns):
        recordings = read_rttm(recording_path(path, rttm))
        stretches = recordings.get(Path(audio).stem, [])
        if not stretches and len(recordings) == 1:
            (stretches,) = recordings.values()
        known = _known_speakers(recording_path(path, folder[0])) if folder else {}
        conversations.append(Conversation(recording_path(path, audio), tuple(stretches), known))
    if not conversations:
        raise UsageError(
            f"The set {str(path)!r} holds no recordings", "", "name a CSV with wav and rttm"
        )
    return conversations


def _known_speakers(folder: Path) -> dict[str, Path]:
    """Recordings of known speakers by name."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    if not files:
        raise UsageError(
            "The column known has to name a folder with recordings of speakers",
            f"{str(folder)!r} has none",
            "correct the name, or leave --known-speakers out",
        )
    return {file.stem: file for file in files}


@dataclass(frozen=True)
class DiarizedConversation:
    """Who speaks when in a conversation, by a program.

    Attributes:
        seconds: length of the recording; 0 if it was not read.
        work: seconds of processor time, on all cores together, with decoding.
    """

    conversation: Conversation
    turns: tuple[Stretch, ...]
    seconds: float = 0.0
    work: float = 0.0


def diarized(
    conversations: Iterable[Conversation],
    rttm_folder: Path | None,
    speaker_model: str | None = None,
    *,
    known_count: bool,
) -> Iterator[DiarizedConversation]:
    """Who speaks when in conversations.

    Args:
        rttm_folder: folder with an RTTM file for each recording; None to diarize the recordings.
        known_count: whether the number of speakers of the reference is given.
    """
    diarizer = Diarizer.from_pretrained(speaker_model) if rttm_folder is None else None
    for one in conversations:
        if diarizer is None:
            path = (rttm_folder or Path()) / f"{one.audio.stem}.rttm"
            stretches = [stretch for group in read_rttm(path).values() for stretch in group]
            yield DiarizedConversation(one, tuple(stretches))
            continue
        known = diarizer.with_known(one.known) if one.known else diarizer
        begun, samples = time.process_time(), 0
        session = known.session(SpeakerCount.of(one.speakers if known_count else None))
        for block in stream(one.audio):
            session.feed(samples, block[0])
            samples += len(block[0])
        turns = tuple(Stretch(turn.start, turn.end, turn.speaker) for turn in session.finish())
        work = time.process_time() - begun
        yield DiarizedConversation(one, turns, samples / SAMPLE_RATE, work)


Errors = TypeVar("Errors", DiarizationErrors, NameErrors)


def total_errors(errors: Iterable[Errors]) -> Errors:
    """The sums over several recordings."""
    every = list(errors)
    columns = zip(*(astuple(one) for one in every), strict=True)
    return type(every[0])(*map(sum, columns))
