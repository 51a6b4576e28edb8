"""Findings: inputs that raise what they should not, as files that can be run again."""

from __future__ import annotations

import faulthandler
import hashlib
import traceback
from pathlib import Path
from types import TracebackType

from tests.fuzzing.target import Target

HANG_SECONDS = 120
"""Longest time that one input may take."""

EXAMINING = "input-in-progress"
"""File of the input that is being read, for findings that end the process."""


class Findings:
    """Runs inputs and writes one file for each place at which something is raised.

    Args:
        folder: for the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs = 0
        self.places: dict[str, Path] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, target: Target, data: bytes) -> None:
        """Run an input; what it raises is written down."""
        self.inputs += 1
        try:
            target.run(data)
        except Exception as error:
            place = f"{type(error).__name__} at {_place(error.__traceback__)}"
            if place not in self.places:
                self.places[place] = self._write(data, error, place)

    def _write(self, data: bytes, error: Exception, place: str) -> Path:
        path = self.folder / f"{type(error).__name__}-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        details = "".join(traceback.format_exception(error))
        path.with_suffix(".txt").write_text(f"{place}\n\n{details}", encoding="utf-8")
        print(f"finding: {place}: {path}", flush=True)
        return path

    def run_alone(self, target: Target, data: bytes) -> None:
        """Run an input that is in a file while it runs, and for a limited time."""
        examined = self.folder / EXAMINING
        examined.write_bytes(data)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        self.run(target, data)
        faulthandler.cancel_dump_traceback_later()
        examined.unlink()


def _place(trace: TracebackType | None) -> str:
    """The last line of the package that was active."""
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if "/auris/" in frame.filename.replace("\\", "/")]
    last = (ours or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
