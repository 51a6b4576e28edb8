"""What a target of fuzzing is."""

from __future__ import annotations

import contextlib
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from auris.errors import AurisError
from tests.fuzzing.mutation import mutated


@contextlib.contextmanager
def refusable() -> Iterator[None]:
    """What is documented to be raised for wrong input passes."""
    with contextlib.suppress(AurisError):
        yield


class Target(ABC):
    """A part of the package that reads what others wrote.

    Args:
        folder: for the files of this target.

    Attributes:
        corpus: valid inputs, made by the code of the repository.
        binary: whether inputs are no text.
        in_process: whether the code that reads them runs in this process, so that coverage guides.
    """

    corpus: list[bytes]
    binary = False
    in_process = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Make the corpus."""

    @abstractmethod
    def run(self, data: bytes) -> None:
        """Read an input; whatever is raised is a finding."""

    def generate(self, rng: random.Random) -> bytes:
        """An input that is probably wrong."""
        return mutated(rng, self.corpus, self.binary)

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """End what was started."""


class FileTarget(Target):
    """Readers of files. An input is the name of a file, a line break and the content."""

    readers: Mapping[str, Callable[[Path], object]]

    def run(self, data: bytes) -> None:
        name, _, content = data.partition(b"\n")
        path = self.folder / name.decode("latin-1")
        reader = self.readers.get(path.name)
        if reader is None or path.parent != self.folder:
            return
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        try:
            with refusable():
                reader(path)
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_bytes(before)


def named(name: str, content: bytes | str) -> bytes:
    """An input of a `FileTarget`."""
    return name.encode() + b"\n" + (content if isinstance(content, bytes) else content.encode())
