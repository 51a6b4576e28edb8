"""Rows of a corpus that are left out, as files in the folder of a run."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from auris.training.corpus.reader import ReaderPosition
from auris.training.reports import SKIPPED, ProgressReporter, appending


class SkippedRows:
    """Writes skipped/READER.csv: a line for each row left out, with its block and the reason."""

    def __init__(self, out: Path) -> None:
        self.folder = out / SKIPPED

    def add(
        self,
        positions: Mapping[int, ReaderPosition],
        skipped: Mapping[int, Mapping[str, list[str]]],
        reporter: ProgressReporter,
    ) -> None:
        """Write what readers have left out of the blocks that they are in, once for each block."""
        for number, reasons in skipped.items():
            block, path = positions[number].block, self.folder / f"{number}.csv"
            if self._last(path) >= block:
                continue  # The run was resumed in this block.
            counts = ", ".join(f"{len(names)} ({reason})" for reason, names in reasons.items())
            reporter.message(f"reader {number} left out rows, see {path}: {counts}")
            self.folder.mkdir(exist_ok=True)
            with appending(path) as file:
                rows = csv.writer(file)
                for reason, names in reasons.items():
                    rows.writerows((block, reason, name) for name in names)

    def _last(self, path: Path) -> int:
        """The last block that was written; -1 for none."""
        try:
            with open(path, newline="", encoding="utf-8") as file:
                return max((int(row[0]) for row in csv.reader(file) if row), default=-1)
        except (OSError, ValueError):
            return -1
