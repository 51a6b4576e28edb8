"""The versions of everything in the package."""

from __future__ import annotations

from collections.abc import Iterator

from auris import __version__
from auris.backends import native
from auris.checkpoints.configs import FORMAT_VERSION
from auris.checkpoints.hub import bundled_models
from auris.recognition.fingerprint import model_digest

DIGITS = 12
"""Of a digest: enough to tell models apart."""


def version_lines() -> Iterator[str]:
    """The version of the package alone, then the parts with their versions, a line each."""
    yield __version__
    if native.available():
        yield f"native code: interface {native.ABI}, {native.instructions()}"
    else:
        yield f"native code: none ({native.missing()})"
    yield f"format of model directories: {FORMAT_VERSION}"
    for name, directory in bundled_models().items():
        yield f"model {name}: {model_digest(directory)[:DIGITS]}"
