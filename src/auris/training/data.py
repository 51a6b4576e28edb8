"""Training data: manifests to clips in memory, with an account of every row left out or cut."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from auris.audio import io
from auris.audio.features import mel_frames
from auris.config import audio_tokens
from auris.decoding.ctc import frames_needed
from auris.errors import AudioError, LanguageError, TrainingError
from auris.evaluation.sets import recording_path
from auris.text.languages import language_name
from auris.text.normalize import spoken
from auris.text.prompt import TEXT_TAG
from auris.training.recipes import TextForm
from auris.types import SAMPLE_RATE

QUIETEST_PEAK = 0.01
"""A recording that never exceeds this (-40 dB of full scale) holds no usable speech."""

MISSING = "the file is missing"
UNREADABLE = "the audio cannot be read"
SILENT = f"the peak is under {QUIETEST_PEAK}"
EMPTY_TEXT = "the text has no words"
UNSPOKEN = "the text does not say how it is spoken (digits or symbols)"
TOO_LONG = "the clip is longer than a batch"
NO_LANGUAGE = "the language is none that Qwen3-ASR names"
UNALIGNABLE = "the text has more units than the clip has frames"


UNNAMED = "None"
"""Language of a text whose manifest does not name it, as in the official format."""


@dataclass(frozen=True)
class ManifestRow:
    """A line of a manifest, before anything is checked.

    Attributes:
        wav: the recording; None where the line has a text alone.
        speaker: set and speaker, "" where not known.
        language: as the manifest has it, or `UNNAMED`.
        prompt: context that the model is given.
        speechless: whether the recording has no speech: language None and no text.
    """

    wav: Path | None
    text: str
    speaker: str = ""
    language: str = UNNAMED
    prompt: str = ""
    speechless: bool = False

    @property
    def name(self) -> str:
        """The row in a report."""
        return f"{self.text[:40]!r} without audio" if self.wav is None else str(self.wav)


@dataclass(frozen=True)
class TrainingClip:
    """A recording in memory, or a text without one.

    Attributes:
        name: path of the recording.
        samples: int16 [S] at 16 kHz, which is half of float32's memory; none of a text without
            a recording.
        text: in the run's form.
        language: English name, or `UNNAMED`.
        ids: units of the text; empty until `with_units`.
    """

    name: str
    samples: NDArray[np.int16]
    text: str
    speaker: str = ""
    ids: tuple[int, ...] = ()
    language: str = UNNAMED
    prompt: str = ""

    @property
    def has_audio(self) -> bool:
        """Whether there is a recording of the text."""
        return len(self.samples) > 0

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
        skipped: names of the rows left out, by reason.
        cut: names of the clips whose end was cut off.
        names_language: whether the model learns to name the language.
    """

    clips: list[TrainingClip] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    names_language: bool = False

    @property
    def speakers(self) -> set[str]:
        """Distinct known speakers."""
        return {clip.speaker for clip in self.clips} - {""}

    @property
    def units(self) -> int:
        """Units of all texts, 0 before `with_units`."""
        return sum(len(clip.ids) for clip in self.clips)

    def skip(self, reason: str, name: str) -> None:
        """Record a row that is left out."""
        self.skipped.setdefault(reason, []).append(name)

    def describe(self, names: int | None = 5) -> str:
        """The report as text; each reason with the first `names` of its rows, or all."""
        recorded = [clip for clip in self.clips if clip.has_audio]
        lengths = sorted(clip.seconds for clip in recorded) or [0.0]
        lines = [
            f"{len(recorded)} clips, {sum(lengths) / 3600:.2f} hours, "
            f"{len(self.speakers)} known speakers, lengths {lengths[0]:.2f} / "
            f"{lengths[len(lengths) // 2]:.2f} / {lengths[-1]:.2f} s "
            f"(shortest / median / longest), {self.units} units"
        ]
        if texts := len(self.clips) - len(recorded):
            lines.append(f"{texts} texts without audio, which train the decoder alone")
        for reason, skipped in sorted(self.skipped.items()):
            lines.append(f"skipped {len(skipped)}: {reason}: {_listed(skipped, names)}")
        if self.cut:
            lines.append(f"cut {len(self.cut)} to max_mel_length: {_listed(self.cut, names)}")
        unnamed = sum(bool(clip.text) and clip.language == UNNAMED for clip in recorded)
        if unnamed and self.names_language:
            lines.append(
                f"{unnamed} clips name no language, and teach the model to name none: add a "
                "column language, or name theirs with --language"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class TrainedOn:
    """What a model has seen in training.

    Attributes:
        languages: English names; empty where a clip did not name its own.
        contexts: whether some clips had a prompt; None where that is not known.
    """

    languages: tuple[str, ...] = ()
    contexts: bool | None = None

    @classmethod
    def of(cls, clips: Iterable[TrainingClip], contexts: bool = False) -> TrainedOn:
        """The languages of clips with words; `contexts` whether they get contexts anyway."""
        spoken_clips = [clip for clip in clips if clip.text and clip.has_audio]
        kinds = {(clip.language, bool(clip.prompt)) for clip in spoken_clips}
        languages = {language for language, _ in kinds}
        named = () if UNNAMED in languages else tuple(sorted(languages))
        return cls(named, contexts or any(prompted for _, prompted in kinds))

    def after(self, before: TrainedOn) -> TrainedOn:
        """What a model has seen that was trained on `before` first."""
        known = before.languages and self.languages
        languages = tuple(sorted({*before.languages, *self.languages})) if known else ()
        return TrainedOn(languages, self.contexts or before.contexts)


def _listed(names: Sequence[str], most: int | None) -> str:
    return ", ".join(names[:most]) + (", ..." if most is not None and len(names) > most else "")


def read_manifest(path: Path, language: str = UNNAMED) -> list[ManifestRow]:
    """Rows of a manifest, in CSV or JSONL as docs/training.md describes them.

    Args:
        path: the manifest.
        language: of the rows that name none.

    Raises:
        TrainingError: the file is missing or cannot be read, or lacks a column.
    """
    read = _jsonl if path.suffix == ".jsonl" else _csv
    try:
        return [_row(path, line, language) for line in read(path)]
    except (OSError, UnicodeError, csv.Error) as error:
        raise TrainingError(
            "A manifest has to be a readable file in UTF-8", f"{path}: {error}", "check the path"
        ) from error


def _csv(path: Path) -> Iterator[Mapping[str, str | None]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        # Strict, since an open quote would otherwise swallow the lines after it.
        reader = csv.DictReader(file, strict=True)
        columns = reader.fieldnames or []
        absent = [column for column in ("wav", "text") if column not in columns]
        if absent:
            raise TrainingError(
                "A manifest has to have the columns wav and text",
                f"{path} lacks {' and '.join(absent)}",
                "add the columns, with paths relative to the CSV's folder",
            )
        for line in reader:
            if None in line:
                raise TrainingError(
                    "A line of a manifest has to have as many fields as there are columns",
                    f"line {reader.line_num} of {path} has more",
                    "put quotes around texts that hold commas",
                )
            yield line


@checked(config=ConfigDict(strict=True))
class _JsonLine:
    """A line of a JSONL manifest; other keys are ignored."""

    wav: Annotated[str | None, Field(alias="audio")]
    text: str | None
    speaker: str | None = None
    language: str | None = None
    prompt: str | None = None


_JSON_LINE = TypeAdapter(_JsonLine)


def _jsonl(path: Path) -> Iterator[Mapping[str, str | None]]:
    # Not splitlines, which also cuts at separators that JSON strings may hold.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield vars(_JSON_LINE.validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            key = "".join(f"{name}: " for name in first["loc"])
            raise TrainingError(
                "A line of a JSONL manifest has to be an object with the texts audio and text",
                f"line {number} of {path} is not ({key}{first['msg']})",
                "correct the line",
            ) from error


def _row(manifest: Path, line: Mapping[str, str | None], language: str) -> ManifestRow:
    speaker, text = line.get("speaker") or "", line.get("text") or ""
    language = line.get("language") or language
    speechless = False
    if TEXT_TAG in text:
        prefix, _, text = text.partition(TEXT_TAG)
        language = prefix.strip().removeprefix("language").strip() or language
        speechless = language == UNNAMED and not text.strip()
    wav = line.get("wav")
    return ManifestRow(
        wav=recording_path(manifest, wav) if wav else None,
        text=text,
        speaker=f"{manifest.stem}/{speaker}" if speaker not in ("", "unknown") else "",
        language=language,
        prompt=line.get("prompt") or "",
        speechless=speechless,
    )


def _load(row: ManifestRow, form: TextForm, replies: bool, texts: bool) -> TrainingClip | str:
    """The row's clip, or why there is none."""
    language = _language(row.language) if replies else UNNAMED
    if language is None:
        return NO_LANGUAGE
    text = row.text.strip() if form == "written" else spoken(row.text)
    if text is None:
        return UNSPOKEN
    speechless = replies and not text and row.speechless
    if not text and not speechless:
        return EMPTY_TEXT
    if row.wav is None and texts and text:
        return TrainingClip(row.name, np.zeros(0, np.int16), text, language=language)
    if row.wav is None or not os.path.isfile(row.wav):
        return MISSING
    try:
        samples = io.load(row.wav).samples
    except AudioError:
        return UNREADABLE
    if np.abs(samples).max() < QUIETEST_PEAK and not speechless:
        return SILENT
    scaled = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    return TrainingClip(
        str(row.wav), scaled, text, row.speaker, language=language, prompt=row.prompt
    )


def _language(name: str) -> str | None:
    """English name of a language, `UNNAMED` where none is given, None for an unknown one."""
    try:
        return UNNAMED if name == UNNAMED else language_name(name) or UNNAMED
    except LanguageError:
        return None


def load_clips(
    rows: Sequence[ManifestRow],
    longest: float,
    form: TextForm = "spoken",
    cut_seconds: float = math.inf,
    replies: bool = True,
    texts: bool = False,
) -> DataReport:
    """Read every row's recording; the report has the usable clips in the order of the rows.

    Args:
        longest: clips over this many seconds are left out.
        form: what texts are brought to.
        cut_seconds: clips are cut to this length.
        replies: whether the model writes the language, or that there is no speech.
        texts: whether texts without audio are used.
    """
    report = DataReport(names_language=replies)
    load = functools.partial(_load, form=form, replies=replies, texts=texts)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loaded = pool.map(load, rows)
        for row, clip in zip(rows, loaded, strict=True):
            if isinstance(clip, TrainingClip) and clip.seconds > cut_seconds:
                report.cut.append(clip.name)
                samples = clip.samples[: int(cut_seconds * SAMPLE_RATE)]
                clip = dataclasses.replace(clip, samples=samples)
            if isinstance(clip, TrainingClip) and clip.seconds > longest:
                clip = TOO_LONG
            if isinstance(clip, str):
                report.skip(clip, row.name)
            else:
                report.clips.append(clip)
    return report


def with_units(
    report: DataReport, spell: Callable[[str], Sequence[int]], aligned: bool = True
) -> DataReport:
    """The clips of a report with their units, `aligned` without those whose text CTC cannot align
    to their frames."""
    skipped = {reason: list(names) for reason, names in report.skipped.items()}
    result = dataclasses.replace(report, clips=[], skipped=skipped)
    for clip in report.clips:
        ids = tuple(spell(clip.text))
        if aligned and clip.has_audio and frames_needed(ids) > clip.tokens:
            result.skip(UNALIGNABLE, clip.name)
        else:
            result.clips.append(dataclasses.replace(clip, ids=ids))
    return result


def split_clips(
    clips: Sequence[TrainingClip], share: float, seed: int
) -> tuple[list[TrainingClip], list[TrainingClip]]:
    """Clips to train on, and clips of other recordings to score: about `share` of them, in [0, 1).

    The samples of a recording and the seed decide, so that a recording that is listed twice, or
    under two names, is on one side. Of two recordings or more, one at least is on each side. Texts
    without audio are trained on.
    """
    if share == 0:
        return list(clips), []
    salt = str(seed).encode()[:16]
    draws = [hashlib.blake2b(clip.samples.tobytes(), salt=salt).digest() for clip in clips]
    order = sorted({draw for clip, draw in zip(clips, draws, strict=True) if clip.has_audio})
    count = sum(int.from_bytes(draw[:4], "big") < share * 2**32 for draw in order)
    most = max(len(order) - 1, 0)
    excluded = set(order[: min(max(count, 1), most)])
    trained = [clip for clip, draw in zip(clips, draws, strict=True) if draw not in excluded]
    scored = {draw: clip for clip, draw in zip(clips, draws, strict=True) if draw in excluded}
    return trained, list(scored.values())
