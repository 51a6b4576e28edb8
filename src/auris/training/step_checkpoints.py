"""Checkpoints that are kept in addition to the last one: the newest ones, each under its step."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from auris.checkpoints.atomic import current_directory, new_directory
from auris.errors import OutputError
from auris.training.state import LAST, PROGRESS, WEIGHTS

STEP = re.compile(r"step-(\d+)")
"""Names of kept checkpoints."""


def step_checkpoints(run: Path) -> list[Path]:
    """The kept checkpoints of a run, by their steps."""
    folders = [path for path in run.glob("step-*") if STEP.fullmatch(path.name)]
    return sorted(folders, key=lambda path: int(path.name.removeprefix("step-")))


def copy_checkpoint(run: Path, step: int, most: int) -> None:
    """Keep the weights of the last checkpoint, and remove the oldest ones beyond `most`.

    Raises:
        OutputError: they cannot be written.
    """
    folder = run / f"step-{step:06d}"
    try:
        if not folder.exists():
            last = current_directory(run / LAST)
            with new_directory(folder) as fresh:
                for name in (WEIGHTS, PROGRESS):
                    shutil.copy(last / name, fresh)
        for old in step_checkpoints(run)[:-most]:
            shutil.rmtree(old)
    except OSError as error:
        raise OutputError(
            f"Writing the checkpoint {str(folder)!r} failed ({error})",
            "",
            "make room, then resume the run",
        ) from error
