"""Arrays of samples: their axes and scale, and blocks of them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.audio.resample import LOUDEST, TimedSamples, check_rate
from auris.errors import InvalidSamples
from auris.types import Samples

MAX_CHANNELS = 64
"""Maximum number of channels of an array; more are a mistaken axis."""

KINDS = ("float16", "float32", "float64", "int16", "int32", "uint8")
"""Types of samples: floats with full scale at -1..1, integers with all their range."""


def array_blocks(array: object, rate: object) -> Generator[TimedSamples, None, None]:
    """Blocks of one second of an array as `auris.audio.io.Source` describes it.

    Raises:
        InvalidSamples: its type, shape or rate is impossible.
    """
    hertz = check_rate(rate)
    rows = _rows(array)
    for at in range(0, rows.shape[1], hertz):
        yield TimedSamples(as_float(rows[:, at : at + hertz]), hertz)


def _rows(array: object) -> NDArray[Any]:
    """The array as [C, S], not copied."""
    if not isinstance(array, np.ndarray) or array.dtype.name not in KINDS:
        actual = f"a {type(array).__name__}"
        if isinstance(array, np.ndarray):
            actual = f"of {array.dtype}"
        raise InvalidSamples(
            f"An audio array has to be a numpy array of {', '.join(KINDS[:-1])} or {KINDS[-1]}",
            f"it is {actual}",
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


def from_pcm(data: bytes, width: int, channels: int) -> Samples:
    """Raw samples as float32 [C, S] with full scale at -1..1.

    Args:
        data: complete frames, the channels of each one after the other; little-endian integers,
            signed ones except for those of one byte.
        width: bytes of a sample, 1 to 4.
    """
    if width == 3:  # As the upper bytes of four.
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0]
    else:
        samples = np.frombuffer(data, {1: "u1", 2: "<i2", 4: "<i4"}[width])
    return as_float(samples.reshape(-1, channels).T)


def live_block(array: object, before: int, rate: int) -> Samples:
    """A part of one channel of live sound as float32 [S], always a copy.

    Args:
        array: [S] of one of `KINDS`.
        before: samples of the stream that came before.
        rate: of the stream.

    Raises:
        InvalidSamples: its type or shape is impossible, or a sample is NaN, infinite or beyond
            1e15; the message says where.
    """
    known = isinstance(array, np.ndarray) and array.dtype.name in KINDS
    if not isinstance(array, np.ndarray) or not known or array.ndim != 1:
        actual = f"a {type(array).__name__}"
        if isinstance(array, np.ndarray):
            actual = f"of {array.dtype} with the shape {list(array.shape)}"
        raise InvalidSamples(
            f"A stream has to be fed numpy arrays [S] of {', '.join(KINDS[:-1])} or {KINDS[-1]}",
            f"this is {actual}",
            "convert it: one channel, floats with full scale at -1..1",
        )
    block = as_float(array)
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(block) <= LOUDEST)  # This way round NaN is bad, too.
    if bad.any():
        first = int(bad.argmax())
        raise InvalidSamples(
            f"Samples have to be finite numbers of at most {LOUDEST:.0e}",
            f"the stream has {float(block[first])} at {(before + first) / rate:.3f} s, "
            f"number {first} of these {len(block)}",
            "leave these samples out, none of which was used",
        )
    return block
