"""Test sets in both implementations: the texts of Auris compared with those of transformers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from auris.diagnostics.parity import Agreement, Parity
from auris.errors import AudioError


@dataclass(frozen=True)
class SetAgreement:
    """One test set.

    Attributes:
        clips, seconds, tokens: what was compared.
        identical, ties, different: numbers of clips with these verdicts.
        differences: the clips with ties and differences, by file.
        failed: files that could not be read, with the reason; they are not compared.
    """

    name: str
    clips: int
    seconds: float
    tokens: int
    identical: int
    ties: int
    different: int
    differences: Mapping[str, Agreement]
    failed: Mapping[str, str]


def compare_set(both: Parity, name: str, files: Iterable[Path]) -> SetAgreement:
    """Transcribe the clips of a set with both implementations and compare the texts."""
    clips: dict[str, Agreement] = {}
    failed: dict[str, str] = {}
    for file in files:
        try:
            clips[str(file)] = both.agree(file)
        except AudioError as error:
            failed[str(file)] = str(error)
    verdicts = Counter(clip.verdict for clip in clips.values())
    return SetAgreement(
        name=name,
        clips=len(clips),
        seconds=sum(clip.seconds for clip in clips.values()),
        tokens=sum(clip.tokens for clip in clips.values()),
        identical=verdicts["identical"],
        ties=verdicts["tie"],
        different=verdicts["different"],
        differences={file: clip for file, clip in clips.items() if clip.verdict != "identical"},
        failed=failed,
    )
