"""Training data: CSV manifests to clips in memory, with an account of every row left out."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from auris.audio import io
from auris.audio.mel import mel_frames
from auris.config import audio_tokens
from auris.errors import AudioError, TrainingError
from auris.text.normalize import spoken
from auris.training.units import frames_needed, unit_ids
from auris.types import SAMPLE_RATE

__all__ = ["Clip", "DataReport", "Row", "load_clips", "read_manifest", "with_units"]

QUIETEST_PEAK = 0.01
"""A recording that never exceeds this (-40 dB of full scale) holds no usable speech."""

MISSING = "the file is missing"
UNREADABLE = "the audio cannot be read"
SILENT = f"the peak is under {QUIETEST_PEAK}"
EMPTY_TEXT = "the text has no words"
UNSPOKEN = "the text does not say how it is spoken (digits or symbols)"
TOO_LONG = "the clip is longer than a batch"
UNALIGNABLE = "the text has more units than the clip has frames"


@dataclass(frozen=True)
class Row:
    """A line of a manifest, before anything is checked."""

    wav: Path
    text: str
    speaker: str


@dataclass(frozen=True)
class Clip:
    """A recording in memory.

    Attributes:
        name: path of the recording as it will appear in reports.
        samples: int16 [S] at 16 kHz, which is half of float32's memory.
        text: spoken text.
        speaker: set and speaker, "" where not known.
        ids: units of the text; empty until `with_units`.
    """

    name: str
    samples: NDArray[np.int16]
    text: str
    speaker: str = ""
    ids: tuple[int, ...] = ()

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE

    @property
    def tokens(self) -> int:
        """Encoder frames that the clip yields."""
        return audio_tokens(mel_frames(len(self.samples)))


@dataclass
class DataReport:
    """What was loaded and what was not.

    Attributes:
        lengths: seconds of every clip that is used.
        speakers: distinct known speakers.
        units: total units of the texts, 0 before `with_units`.
        skipped: names of the rows left out, by reason.
    """

    lengths: list[float] = field(default_factory=list)
    speakers: set[str] = field(default_factory=set)
    units: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, reason: str, name: str) -> None:
        """Account for one row that is left out."""
        self.skipped.setdefault(reason, []).append(name)

    def describe(self, names: int = 5) -> str:
        """Some lines for people; of each reason's rows the first `names` by name."""
        lengths = sorted(self.lengths) or [0.0]
        lines = [
            f"{len(self.lengths)} clips, {sum(lengths) / 3600:.2f} hours, "
            f"{len(self.speakers)} known speakers, lengths {lengths[0]:.2f} / "
            f"{lengths[len(lengths) // 2]:.2f} / {lengths[-1]:.2f} s "
            f"(shortest / median / longest), {self.units} units"
        ]
        for reason, skipped in sorted(self.skipped.items()):
            shown = ", ".join(skipped[:names]) + (", ..." if len(skipped) > names else "")
            lines.append(f"skipped {len(skipped)}: {reason}: {shown}")
        return "\n".join(lines)


def read_manifest(path: Path) -> list[Row]:
    """Rows of a CSV with the columns `wav` (relative to its folder) and `text`.

    A column `speaker` is used where there is one; others are ignored.

    Raises:
        TrainingError: the file is missing, or lacks a column.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            absent = [column for column in ("wav", "text") if column not in columns]
            if absent:
                raise TrainingError(
                    "a manifest has to have the columns wav and text",
                    f"{path} lacks {' and '.join(absent)}",
                    "add the columns, with paths relative to the CSV's folder",
                )
            return [_row(path, line) for line in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        raise TrainingError(
            "a manifest has to be a readable CSV file in UTF-8",
            f"{path}: {error}",
            "check the path",
        ) from error


def _row(manifest: Path, line: Mapping[str, str | None]) -> Row:
    speaker = line.get("speaker") or ""
    known = speaker not in ("", "unknown")
    return Row(
        wav=manifest.parent / (line["wav"] or ""),
        text=line["text"] or "",
        speaker=f"{manifest.stem}/{speaker}" if known else "",
    )


def _load(row: Row) -> Clip | str:
    """The row's clip, or why there is none."""
    text = spoken(row.text)
    if text is None:
        return UNSPOKEN
    if not text:
        return EMPTY_TEXT
    if not os.path.isfile(row.wav):  # Unlike a path's own question, never an error.
        return MISSING
    try:
        samples = io.load(row.wav).samples
    except AudioError:
        return UNREADABLE
    if np.abs(samples).max() < QUIETEST_PEAK:
        return SILENT
    scaled = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    return Clip(str(row.wav), scaled, text, row.speaker)


def load_clips(rows: Sequence[Row], longest: float) -> tuple[list[Clip], DataReport]:
    """Read every row's recording.

    Args:
        longest: clips over this many seconds are left out.

    Returns:
        The usable clips in the order of the rows, and the account of the others.
    """
    report = DataReport()
    clips = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row, clip in zip(rows, pool.map(_load, rows), strict=True):
            if isinstance(clip, Clip) and clip.seconds > longest:
                clip = TOO_LONG
            if isinstance(clip, str):
                report.skip(clip, str(row.wav))
            else:
                clips.append(clip)
    _count(clips, report)
    return clips, report


def with_units(
    clips: Iterable[Clip], tokenizer: Tokenizer, report: DataReport
) -> tuple[list[Clip], DataReport]:
    """Clips with their units, without those whose text cannot be aligned to their frames.

    The report is a new one that also counts what `report` already left out.
    """
    result = DataReport(skipped={reason: list(names) for reason, names in report.skipped.items()})
    kept = []
    for clip in clips:
        ids = tuple(unit_ids(tokenizer, clip.text))
        if frames_needed(ids) > clip.tokens:
            result.skip(UNALIGNABLE, clip.name)
        else:
            kept.append(Clip(clip.name, clip.samples, clip.text, clip.speaker, ids))
    _count(kept, result)
    return kept, result


def _count(clips: Sequence[Clip], report: DataReport) -> None:
    report.lengths = [clip.seconds for clip in clips]
    report.speakers = {clip.speaker for clip in clips if clip.speaker}
    report.units = sum(len(clip.ids) for clip in clips)
