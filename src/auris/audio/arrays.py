"""Sound that is already an array: its axes, its scale, and pieces of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.audio.resample import Piece, check_rate
from auris.errors import InvalidSamples
from auris.types import Samples

__all__ = ["MAX_CHANNELS", "array_pieces", "as_float"]

MAX_CHANNELS = 64
"""Most channels that an array may have; more is a mistaken axis."""


def array_pieces(array: object, rate: object) -> Generator[Piece, None, None]:
    """Pieces of one second of an array as `auris.audio.io.Source` describes it.

    Raises:
        InvalidSamples: its type, shape or rate is impossible.
    """
    hertz = check_rate(rate)
    rows = _rows(array)
    for at in range(0, rows.shape[1], hertz):
        yield Piece(as_float(rows[:, at : at + hertz]), hertz)


def _rows(array: object) -> NDArray[Any]:
    """The array as [C, S], not copied."""
    kinds = ("float16", "float32", "float64", "int16", "int32", "uint8")
    if not isinstance(array, np.ndarray) or array.dtype.name not in kinds:
        found = f"a {type(array).__name__}"
        if isinstance(array, np.ndarray):
            found = f"of {array.dtype}"
        raise InvalidSamples(
            f"An audio array has to be a numpy array of {', '.join(kinds[:-1])} or {kinds[-1]}",
            f"it is {found}",
            "convert it, floats with full scale at -1..1",
        )
    if array.ndim == 1:
        return array[np.newaxis]
    if array.ndim == 2 and array.size == 0:
        return array.reshape(1, 0)
    if array.ndim == 2 and (array.shape[0] != array.shape[1] or array.size == 1):
        rows = array if array.shape[0] <= array.shape[1] else array.T
        if len(rows) <= MAX_CHANNELS:
            return rows
    raise InvalidSamples(
        f"An audio array has to be [S], [S, C] or [C, S] with C < S and C at most {MAX_CHANNELS}",
        f"its shape is {list(array.shape)}",
        "pass samples and channels in such a shape",
    )


def as_float(samples: NDArray[Any]) -> Samples:
    """Any format to float32 with full scale at -1..1; always a copy."""
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):  # Refused later on.
            return samples.astype(np.float32, order="C")
    middle = 128 if samples.dtype.kind == "u" else 0
    scale = np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
    scaled: Samples = (samples.astype(np.float32) - np.float32(middle)) * scale
    return scaled
