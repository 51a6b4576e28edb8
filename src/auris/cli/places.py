"""Where texts go: standard output, or a file that appears when it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from auris.cli.progress import ProgressLine
from auris.errors import OutputError

if TYPE_CHECKING:
    from auris.checkpoints.atomic import NewFile

__all__ = ["FileInDirectory", "Place", "StandardOutput", "unwritable"]


class Place(Protocol):
    """Where the text of one format goes."""

    def write(self, text: str) -> None:
        """Add text.

        Raises:
            OutputError: it cannot be written, and nothing of it stays in a file.
        """

    def commit(self) -> None:
        """The text is complete.

        Raises:
            OutputError: it cannot have its name.
        """

    def keep(self) -> str | None:
        """The text stays incomplete; says where it is, unless the user has seen it."""


class StandardOutput:
    """Standard output, as it comes."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line

    def write(self, text: str) -> None:
        """Add text, at once."""
        try:
            self._line.write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                "Standard output has to be written",
                f"that failed ({error.strerror or error})",
                "make room where it goes, or name an --output-dir",
            ) from None

    def commit(self) -> None:
        """Nothing is left to be done."""

    def keep(self) -> str | None:
        """Nothing: the user has seen the text."""
        return None


class FileInDirectory:
    """A file that takes the place of an older one when it is complete."""

    def __init__(self, target: Path) -> None:
        from auris.checkpoints.atomic import NewFile

        self._target = target
        try:
            self._file: NewFile = NewFile(target)
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, text: str) -> None:
        """Add text; where that fails, nothing of the file stays."""
        try:
            self._file.write(text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            self._file.discard()
            raise self._unwritable(error) from None

    def commit(self) -> None:
        """Give the file its name."""
        try:
            self._file.commit()
        except OSError as error:
            self._file.discard()
            raise self._unwritable(error) from None

    def keep(self) -> str | None:
        """Where the incomplete file is."""
        try:
            return repr(str(self._file.keep()))
        except OSError:
            return None

    def _unwritable(self, error: OSError) -> OutputError:
        return unwritable(f"{str(self._target)!r} cannot be ({error.strerror or error})")


def unwritable(found: str) -> OutputError:
    """The error of a file in --output-dir."""
    return OutputError(
        "--output-dir has to be a directory that can be written", found, "name another"
    )
