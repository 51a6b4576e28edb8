"""The progress of a run: one line on standard error, when that is a terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auris.recognition.scheduler import Progress

MOST_HEADERS = 200
"""If there are more recordings, their headers are not read before the work begins."""

LOGGER = "auris"
"""The logger of the package, whose messages are shown."""

BAR_COLUMNS, USUAL_COLUMNS = 24, 80
CLEAR, UP = "\r\x1b[2K", "\x1b[A"


class ProgressLine:
    """Shows how far a run has come, and writes results on the same terminal.

    If both streams are one terminal, the progress is always shown below the text, also below an
    unfinished line of it. Messages that the package logs are written to standard error, each once.

    Args:
        files: number of recordings of the run.
        seconds: of audio in all of them; None if that is not known.
        done: number of recordings that an earlier run has done.
    """

    def __init__(self, files: int, seconds: float | None = None, done: int = 0) -> None:
        self._files, self._seconds, self._before = files, seconds, done
        self._shown = sys.stderr is not None and sys.stderr.isatty()
        self._shared = self._shown and sys.stdout is not None and sys.stdout.isatty()
        self._began = time.monotonic()
        self._line = ""
        self._column = 0
        self._drawn = False
        self._log = _LogLines(self)
        self.noted: set[str] = set()

    def __enter__(self) -> ProgressLine:
        logging.getLogger(LOGGER).addHandler(self._log)
        self._draw(self._text(0.0, 0))
        return self

    def __exit__(self, *error: object) -> None:
        self._clear()
        logging.getLogger(LOGGER).removeHandler(self._log)

    def show(self, progress: Progress) -> None:
        """Show how far the run has come."""
        if self._shown:
            self._clear()
            self._draw(self._text(progress.seconds, progress.recordings))

    def write(self, text: str) -> None:
        """Write to standard output at once; raises OSError if it cannot be written."""
        if not text:
            return
        with self._aside(self._shared):
            sys.stdout.write(text)
            sys.stdout.flush()
            if self._shared:
                self._column = self._column_after(text)

    def note(self, text: str) -> None:
        """Write a line to standard error."""
        self.noted.add(text)
        with self._aside(self._shown):
            sys.stderr.write(f"auris: {text}\n")

    def warn(self, name: str, warning: str) -> None:
        """Write a warning about a recording, unless it was logged."""
        if warning not in self.noted:
            self.note(f"{name}: {warning}")

    @contextmanager
    def _aside(self, shared: bool) -> Iterator[None]:
        if not shared:
            yield
            return
        self._clear()
        try:
            yield
        finally:
            self._draw(self._line)

    def _column_after(self, text: str) -> int:
        from rich.cells import cell_len

        _, newline, last = text.rpartition("\n")
        return cell_len(last) + (0 if newline else self._column)

    def _draw(self, line: str) -> None:
        if not self._shown:
            return
        self._line = line
        sys.stderr.write(("\n" if self._column else "") + line[: _columns() - 1])
        sys.stderr.flush()
        self._drawn = True

    def _clear(self) -> None:
        """Remove the line, and go back to where the text ended."""
        if not self._drawn:
            return
        column = self._column % _columns()
        # Text that fills its line continues in the next one, where the progress was shown.
        back = f"{UP}\x1b[{column + 1}G" if column else ""
        if not column:
            self._column = 0
        sys.stderr.write(CLEAR + back)
        sys.stderr.flush()
        self._drawn = False

    def _text(self, seconds: float, recordings: int) -> str:
        spent = time.monotonic() - self._began
        done = self._before + recordings
        new = self._files - self._before
        share = recordings / new if new else 1.0
        if self._seconds:
            share = min(1.0, seconds / self._seconds)
        full = round(BAR_COLUMNS * (share if self._seconds else done / self._files))
        parts = [f"[{'#' * full}{'.' * (BAR_COLUMNS - full)}] "]
        if self._files > 1:
            parts.append(f"{done} of {self._files} files, ")
        parts.append(clock(seconds))
        if self._seconds:
            parts.append(f" of {clock(self._seconds)}")
        if seconds:
            parts.append(f", {seconds / max(spent, 1e-3):.1f} x real time")
        if 0 < share < 1:
            parts.append(f", {clock(spent * (1 - share) / share)} left")
        return "".join(parts)


class _LogLines(logging.Handler):
    """Writes messages of the package as lines of standard error."""

    def __init__(self, line: ProgressLine) -> None:
        super().__init__(logging.WARNING)
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text not in self._line.noted:
            self._line.note(text)


def _columns() -> int:
    """Width of the terminal of standard error."""
    if os.environ.get("COLUMNS", "").isdigit():
        return max(int(os.environ["COLUMNS"]), 1)
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):
        return USUAL_COLUMNS


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def header_seconds(
    sources: Sequence[str], start: float, duration: float | None, each_channel: bool
) -> float | None:
    """Seconds of audio to transcribe, by the headers of recordings; None if one does not say.

    Every channel that is transcribed counts.
    """
    if len(sources) > MOST_HEADERS or sys.stderr is None or not sys.stderr.isatty():
        return None
    total = 0.0
    for source in sources:
        header = _header(source)
        if header is None:
            return None
        seconds, channels = header
        seconds = max(0.0, min(seconds - start, seconds if duration is None else duration))
        total += seconds * (channels if each_channel else 1)
    return total


def _header(source: str) -> tuple[float, int] | None:
    """Seconds and channels of a file by its header."""
    from auris.audio.io import look
    from auris.errors import AudioError

    try:
        if not Path(source).is_file():
            return None
        with open(source, "rb") as file:
            header = look(file)
    except (OSError, ValueError, AudioError):
        return None  # The error is reported when the recording is read.
    seconds = header.guess if header.seconds is None else header.seconds
    return None if seconds is None else (seconds, header.channels)
