"""Headers of GGUF files: values and where the tensors lie.

Source of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The package gguf
reads the same, but takes seconds for a vocabulary, since it makes several arrays of every string.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auris.errors import CheckpointError

SUFFIX = ".gguf"
MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""Types of values that are numbers, by their codes, as `struct` spells them."""

MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a file.

    Attributes:
        kind: number of its type.
        shape: the slowest dimension first.
        offset: where its bytes begin in the file.
    """

    kind: int
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """The header of a file.

    Attributes:
        path: of the file.
        values: by key.
        tensors: by name.
        content: all bytes of the file, mapped.
    """

    path: Path
    values: dict[str, Any]
    tensors: dict[str, GgufTensor]
    content: mmap.mmap = field(repr=False)

    def value(self, key: str, kind: type) -> Any:
        """A value of a type.

        Raises:
            CheckpointError: it is missing or of another type.
        """
        given = self.values.get(key)
        if kind is float and type(given) is int:
            given = float(given)
        if type(given) is not kind:
            raise damaged(self.path, f"{key} is {'missing' if given is None else repr(given)[:60]}")
        return given


def damaged(path: Path, why: str) -> CheckpointError:
    """The error for a file that cannot be used."""
    return CheckpointError(
        f"The GGUF file {str(path)!r} cannot be used: {why}", "", "fetch it anew"
    )


def read_header(path: Path) -> GgufHeader:
    """Read the header of a file, and map the file.

    Raises:
        CheckpointError: it is no GGUF file, or is damaged.
    """
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from None
    reader = _HeaderReader(content)
    try:
        if content[:4] != MAGIC:
            raise damaged(path, "it does not begin with GGUF")
        reader.position = 4
        version = reader.number("I")
        if version not in VERSIONS:
            raise damaged(path, f"its version is {version}, and {VERSIONS} can be read")
        tensors, values = reader.number("Q"), reader.number("Q")
        known = dict(reader.entry() for _ in range(values))
        infos = [reader.tensor() for _ in range(tensors)]
        alignment = known.get("general.alignment", 32)
        begin = -(-reader.position // alignment) * alignment
        placed = {
            name: GgufTensor(kind, shape, begin + offset) for name, kind, shape, offset in infos
        }
    except (struct.error, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise damaged(path, f"its header is damaged ({error})") from None
    return GgufHeader(path, known, placed, content)


class _HeaderReader:
    """Reads values one after the other; ValueError or struct.error where they are impossible."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.position = 0

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.content, self.position)
        self.position += struct.calcsize(f"<{code}")
        return value

    def string(self) -> str:
        return self._bytes(self.number("Q")).decode("utf-8", "replace")

    def entry(self) -> tuple[str, Any]:
        return self.string(), self.value(self.number("I"))

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.number(self._code(kind))
        of, count = self.number("I"), self.number("Q")
        if count > len(self.content):
            raise ValueError(f"an array of {count} values")
        if of in (STRING, ARRAY):
            return [self.value(of) for _ in range(count)]
        layout = struct.Struct(f"<{count}{self._code(of)}")
        return list(layout.unpack(self._bytes(layout.size)))

    def tensor(self) -> tuple[str, int, tuple[int, ...], int]:
        name, dimensions = self.string(), self.number("I")
        if dimensions > MOST_DIMENSIONS:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]
        return name, self.number("I"), shape, self.number("Q")

    def _bytes(self, count: int) -> bytes:
        if count > len(self.content) - self.position:
            raise ValueError("it breaks off")
        begin, self.position = self.position, self.position + count
        return self.content[begin : self.position]

    def _code(self, kind: int) -> str:
        if kind not in NUMBERS:
            raise ValueError(f"a value of the unknown type {kind}")
        return NUMBERS[kind]
