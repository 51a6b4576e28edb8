"""Whole test sets in both implementations: our texts beside those of transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from auris.diagnostics.parity import Agreement, Parity, Verdict
from auris.errors import AudioError

__all__ = ["SetAgreement", "compare_set"]


@dataclass(frozen=True)
class SetAgreement:
    """One test set.

    Attributes:
        name: the set's.
        clips, seconds, tokens: what was compared.
        identical, ties, different: how many clips have each verdict.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare_set(both: Parity, name: str, files: Iterable[Path]) -> SetAgreement:
    """Transcribe the clips of a set with both implementations and compare the texts."""
    found: dict[str, Agreement] = {}
    failed: dict[str, str] = {}
    for file in files:
        try:
            found[str(file)] = both.agree(file)
        except AudioError as error:
            failed[str(file)] = str(error)

    def count(verdict: Verdict) -> int:
        return sum(one.verdict == verdict for one in found.values())

    return SetAgreement(
        name=name,
        clips=len(found),
        seconds=sum(one.seconds for one in found.values()),
        tokens=sum(one.tokens for one in found.values()),
        identical=count("identical"),
        ties=count("tie"),
        different=count("different"),
        differences={file: one for file, one in found.items() if one.verdict != "identical"},
        failed=failed,
    )
