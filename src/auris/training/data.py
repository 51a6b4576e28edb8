"""Training data: manifests to clips in memory, with an account of every row left out or cut."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auris.audio import io
from auris.audio.features import mel_frames
from auris.config import audio_tokens
from auris.decoding.ctc import frames_needed
from auris.errors import AudioError, LanguageError
from auris.text.languages import language_name
from auris.text.normalize import spoken
from auris.training.manifests import UNNAMED, ManifestRow
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
NO_UNICODE = "the text is not valid Unicode"
UNALIGNABLE = "the text has more units than the clip has frames"


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

    def add(
        self,
        name: str,
        clip: TrainingClip | str,
        longest: float = math.inf,
        cut_seconds: float = math.inf,
    ) -> None:
        """Add the clip of a row, or why there is none; as of `load_clips`."""
        if isinstance(clip, TrainingClip) and clip.seconds > cut_seconds:
            self.cut.append(clip.name)
            samples = clip.samples[: int(cut_seconds * SAMPLE_RATE)]
            clip = dataclasses.replace(clip, samples=samples)
        if isinstance(clip, TrainingClip) and clip.seconds > longest:
            clip = TOO_LONG
        if isinstance(clip, str):
            self.skip(clip, name)
        else:
            self.clips.append(clip)

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
class ClipForm:
    """How clips are made of rows: arguments of `load_clips`, and the language of rows that name
    none."""

    form: TextForm = "spoken"
    replies: bool = True
    texts: bool = False
    language: str = UNNAMED


@dataclass(frozen=True)
class TrainedOn:
    """What a model has seen in training.

    Attributes:
        languages: English names; empty where a clip did not name its own.
        contexts: whether some clips had a prompt; None where that is not known.
        lower_case: whether it is known that no text has a capital letter, and those of English
            alone have their spoken form.
    """

    languages: tuple[str, ...] = ()
    contexts: bool | None = None
    lower_case: bool = False

    @classmethod
    def of(cls, clips: Sequence[TrainingClip], contexts: bool = False) -> TrainedOn:
        """The languages of clips with words; `contexts` whether they get contexts anyway."""
        spoken_clips = [clip for clip in clips if clip.text and clip.has_audio]
        kinds = {(clip.language, bool(clip.prompt)) for clip in spoken_clips}
        languages = {language for language, _ in kinds}
        named = () if UNNAMED in languages else tuple(sorted(languages))
        english = named == ("English",)
        lower_case = all(is_lower_case(clip.text, english) for clip in clips)
        return cls(named, contexts or any(prompted for _, prompted in kinds), lower_case)

    def after(self, before: TrainedOn) -> TrainedOn:
        """What a model has seen that was trained on `before` first."""
        known = before.languages and self.languages
        languages = tuple(sorted({*before.languages, *self.languages})) if known else ()
        return TrainedOn(
            languages, self.contexts or before.contexts, before.lower_case and self.lower_case
        )


def _listed(names: Sequence[str], most: int | None) -> str:
    return ", ".join(names[:most]) + (", ..." if most is not None and len(names) > most else "")


def load_clip(
    row: ManifestRow, form: TextForm, replies: bool, texts: bool, most_seconds: float = math.inf
) -> TrainingClip | str:
    """The row's clip, or why there is none; arguments as of `load_clips`.

    Args:
        most_seconds: so much of the recording is read.
    """
    language = known_language(row.language) if replies else UNNAMED
    if language is None:
        return NO_LANGUAGE
    text = form_text(row.text, form)
    if not (_is_unicode(row.text) and _is_unicode(row.prompt)):
        return NO_UNICODE
    if text is None:
        return UNSPOKEN
    speechless = replies and not text and row.speechless
    if not text and not speechless:
        return EMPTY_TEXT
    if row.wav is None and texts and text:
        return TrainingClip(row.name, np.zeros(0, np.int16), text, language=language)
    if row.wav is None or (isinstance(row.wav, Path) and not os.path.isfile(row.wav)):
        return MISSING
    duration = None if math.isinf(most_seconds) else most_seconds
    try:
        samples = io.load(row.wav, duration=duration).samples
    except AudioError:
        return UNREADABLE
    if np.abs(samples).max() < QUIETEST_PEAK and not speechless:
        return SILENT
    scaled = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    return TrainingClip(row.name, scaled, text, row.speaker, language=language, prompt=row.prompt)


def _is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which stands for a byte that is no UTF-8."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def form_text(text: str, form: TextForm) -> str | None:
    """A text in a form; None where it does not say how it is spoken, or is not valid Unicode."""
    if not _is_unicode(text):
        return None
    return text.strip() if form == "written" else spoken(text)


def is_lower_case(text: str, english: bool = False) -> bool:
    """Whether a text has no capital letter; and in English the letters and marks of its spoken form
    only."""
    return text == text.lower() and (not english or not text or text == spoken(text))


def known_language(name: str) -> str | None:
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
    load = functools.partial(load_clip, form=form, replies=replies, texts=texts)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loaded = pool.map(load, rows)
        for row, clip in zip(rows, loaded, strict=True):
            report.add(row.name, clip, longest, cut_seconds)
    return report


def with_units(
    report: DataReport, spell: Callable[[str], Sequence[int]], aligned: bool = True
) -> DataReport:
    """The clips of a report with their units, `aligned` without those whose text CTC cannot align
    to their frames."""
    skipped = {reason: list(names) for reason, names in report.skipped.items()}
    result = dataclasses.replace(report, clips=[], skipped=skipped)
    for clip in report.clips:
        result.add(clip.name, spelled(clip, spell, aligned))
    return result


def spelled(
    clip: TrainingClip, spell: Callable[[str], Sequence[int]], aligned: bool
) -> TrainingClip | str:
    """A clip with its units, or why it is left out; as of `with_units`."""
    ids = tuple(spell(clip.text))
    if aligned and clip.has_audio and frames_needed(ids) > clip.tokens:
        return UNALIGNABLE
    return dataclasses.replace(clip, ids=ids)


def fingerprint(clips: Iterable[TrainingClip]) -> str:
    """A hash of clips in their order."""
    digest = hashlib.blake2b()
    for clip in clips:
        facts = (clip.ids, clip.speaker, clip.language, clip.prompt, len(clip.samples))
        digest.update(repr(facts).encode("utf-8", "backslashreplace"))
        digest.update(clip.samples.tobytes())
    return digest.hexdigest()


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
