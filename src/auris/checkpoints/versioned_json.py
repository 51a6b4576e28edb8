"""JSON files of Auris next to a model's weights, which say their version and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auris.checkpoints.configs import is_number, read_json
from auris.errors import CheckpointError


@dataclass(frozen=True)
class VersionedJson:
    """The content of such a file.

    Attributes:
        path: the file.
        values: what it holds.
        writer: the program that writes such files.
        remedy: what to do about a damaged one.
    """

    path: Path
    values: Mapping[str, Any]
    writer: str
    remedy: str

    @property
    def measured(self) -> Mapping[str, Any]:
        """How the numbers were fitted and what came of it, for readers."""
        measured = self.values.get("measured", {})
        if not isinstance(measured, dict):
            raise self.damaged(f"measured is {measured!r}")
        return measured

    def number(self, value: object, name: str, largest: float) -> float:
        """A value that has to be a number, at most as large as `largest`, with either sign."""
        if not is_number(value) or not abs(value) <= largest:  # type: ignore[arg-type]
            raise self.damaged(f"the {name} is {value!r}, no number up to {largest:g}")
        return float(value)  # type: ignore[arg-type]

    def damaged(self, fault: str) -> CheckpointError:
        """The error for a fault of the file."""
        return CheckpointError(
            f"{self.path.name} has to hold what {self.writer} writes",
            f"in {str(self.path)!r} {fault}",
            self.remedy,
        )


def read_versioned(path: Path, version: int, writer: str, remedy: str) -> VersionedJson | None:
    """Read a file; None where there is none.

    Args:
        version: the `format_version` that it has to have.
        writer, remedy: see `VersionedJson`.

    Raises:
        CheckpointError: the file is damaged, or of another version.
    """
    if not path.exists():
        return None
    file = VersionedJson(path, read_json(path), writer, remedy)
    if file.values.get("format_version") != version:
        raise file.damaged(f"its format_version is {file.values.get('format_version')!r}")
    return file
