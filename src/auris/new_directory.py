"""A directory that appears under its name only when everything in it has been written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError

from auris.errors import OutputError, UsageError

__all__ = ["new_directory"]


@contextmanager
def new_directory(out: str | Path) -> Iterator[Path]:
    """A draft beside the directory, which takes its place when all has gone well.

    Args:
        out: the directory to make; it must not exist or be empty.

    Raises:
        UsageError: it exists and is not empty.
        OutputError: it cannot be written; nothing is left of it.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(
            "The output has to be a new or empty directory",
            f"{str(target)!r} is not",
            "name another, or remove it first",
        )
    draft = target.parent / f".{target.name}.{uuid4().hex[:8]}"
    try:
        draft.mkdir(parents=True)
        yield draft
        if os.name == "nt" and target.exists():
            target.rmdir()  # Elsewhere an empty directory gives way by itself.
        draft.rename(target)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            "The output has to be a directory that can be written",
            f"writing {str(target)!r} failed ({error})",
            "name another, or make room there",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
