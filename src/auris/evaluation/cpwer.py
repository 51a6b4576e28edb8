"""Words given to the wrong speakers: cpWER, the concatenated minimum-permutation word error rate.

The texts of each speaker are joined in the order of time, and the speakers of the transcript are
mapped to those of the reference so that the errors are fewest (Watanabe et al., "CHiME-6
challenge", 2020). A speaker without a partner counts with all words. The difference to the word
error rate of the same texts without speakers is what wrong speakers cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from auris.errors import UsageError
from auris.evaluation.diarization import assignment
from auris.evaluation.sets import read_columns, recording_path
from auris.evaluation.wer import normalizer_named, word_edits
from auris.pipeline import AsrPipeline
from auris.types import Transcript

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from auris.recognition.options import CallOptions


@dataclass(frozen=True)
class Utterance:
    """What a speaker says at once; the start is in seconds."""

    speaker: str
    start: float
    text: str


@dataclass(frozen=True)
class SpeakerWordErrors:
    """Errors of the words of a transcript with speakers.

    Attributes:
        words: number of words of the reference.
        errors: substitutions, insertions and deletions with speakers.
        plain_errors: those of the same texts without speakers.
        speakers, expected: number of speakers of the transcript and of the reference.
    """

    words: int
    errors: int
    plain_errors: int
    speakers: int
    expected: int

    @property
    def cpwer(self) -> float:
        """Errors with speakers for each word of the reference."""
        return self.errors / max(self.words, 1)

    @property
    def wer(self) -> float:
        """Errors without speakers for each word of the reference."""
        return self.plain_errors / max(self.words, 1)

    def __add__(self, other: SpeakerWordErrors) -> SpeakerWordErrors:
        return SpeakerWordErrors(
            *(getattr(self, name) + getattr(other, name) for name in self.__annotations__)
        )


def speaker_word_errors(
    reference: Iterable[Utterance], transcript: Iterable[Utterance]
) -> SpeakerWordErrors:
    """Errors of texts whose words are separated by spaces.

    Raises:
        MissingExtra: jiwer is not installed.
    """
    expected, actual = _in_time(reference), _in_time(transcript)
    truth, guess = _by_speaker(expected), _by_speaker(actual)
    count = max(len(truth), len(guess))
    rows = [*truth.values(), *[""] * (count - len(truth))]
    columns = [*guess.values(), *[""] * (count - len(guess))]
    costs = np.array([[word_edits(row, column).total() for column in columns] for row in rows])
    pairs = assignment(-costs) if count else []
    return SpeakerWordErrors(
        words=sum(len(text.split()) for text in truth.values()),
        errors=int(sum(costs[pair] for pair in pairs)),
        plain_errors=word_edits(_joined(expected), _joined(actual)).total(),
        speakers=len(guess),
        expected=len(truth),
    )


def _in_time(utterances: Iterable[Utterance]) -> list[Utterance]:
    return sorted((one for one in utterances if one.text.strip()), key=lambda one: one.start)


def _by_speaker(utterances: Sequence[Utterance]) -> dict[str, str]:
    names = dict.fromkeys(one.speaker for one in utterances)
    return {name: _joined(one for one in utterances if one.speaker == name) for name in names}


def _joined(utterances: Iterable[Utterance]) -> str:
    return " ".join(one.text for one in utterances)


def read_stm(path: Path) -> list[Utterance]:
    """The utterances of an STM file of one recording: name, channel, speaker, start, end, perhaps a
    label as <...>, and words on each line.

    Raises:
        UsageError: it cannot be read, or a line is no line of STM.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "A reference of words has to be a readable STM file",
            f"reading {str(path)!r} failed ({error})",
            "check the path",
        ) from None
    utterances = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split(maxsplit=5)
        try:
            speaker, start, _ = fields[2], float(fields[3]), float(fields[4])
        except (IndexError, ValueError):
            raise UsageError(
                "A line of STM has a name, a channel, a speaker, a start and an end in seconds, "
                "and words",
                f"line {number} of {str(path)!r} is {line!r}",
                "correct it",
            ) from None
        text = fields[5] if len(fields) > 5 else ""
        if text.startswith("<"):
            text = text.partition(">")[2]
        utterances.append(Utterance(speaker, start, text.strip()))
    return utterances


def read_references(path: Path) -> dict[Path, list[Utterance]]:
    """Recordings of a CSV with the columns wav and stm (see `recording_path`), with utterances.

    Raises:
        UsageError: it cannot be read, or holds none.
    """
    references = {
        recording_path(path, audio): read_stm(recording_path(path, stm))
        for audio, stm in read_columns(path, "wav", "stm")
    }
    if not references:
        raise UsageError(
            f"The set {str(path)!r} holds no recordings", "", "name a CSV with wav and stm"
        )
    return references


def utterances_of(transcript: Transcript) -> list[Utterance]:
    """The segments of a transcript with their speakers."""
    return [Utterance(one.speaker or "", one.start, one.text) for one in transcript.segments]


def scored(
    pipeline: AsrPipeline,
    references: dict[Path, list[Utterance]],
    normalizer: str,
    *,
    known_count: bool = False,
    **options: Unpack[CallOptions],
) -> Iterator[tuple[str, SpeakerWordErrors]]:
    """Names and errors of recordings.

    Args:
        normalizer: see `auris.evaluation.wer`.
        known_count: whether the number of speakers of the reference is given.

    Raises:
        AurisError: a recording cannot be read, or an option is impossible.
    """
    normalize = normalizer_named(normalizer)
    for audio, utterances in references.items():
        if known_count:
            options["speakers"] = len({one.speaker for one in utterances})
        transcript = pipeline.transcribe(audio, **options)
        yield (
            audio.stem,
            speaker_word_errors(
                _normalized(utterances, normalize),
                _normalized(utterances_of(transcript), normalize),
            ),
        )


def _normalized(
    utterances: Iterable[Utterance], normalize: Callable[[str], str]
) -> list[Utterance]:
    return [Utterance(one.speaker, one.start, normalize(one.text)) for one in utterances]
