"""What travels between recordings and models: pieces with options, and what became of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from auris.decoding.loop import never
from auris.decoding.sampling import Sampling
from auris.types import Chunk, Segment

__all__ = ["Options", "Piece", "Recognized", "clock", "until"]


@dataclass(frozen=True)
class Options:
    """How a recording is transcribed.

    Attributes:
        language: English name to force, or None for the model's choice.
        context: words and names to expect.
        max_new_tokens: token budget of a piece, or None for one that follows its length.
        sampling: how tokens are chosen.
        clean: clean-up of the text, see `auris.text.cleanup`.
        languages: English names of those that the model may choose from, beside saying that nobody
            speaks; None leaves its choice free.
        batch_seconds: most seconds of audio in one batch; a longer piece is alone in its.
        warnings: what was asked for and is not honoured, in sentences; for the transcript.
    """

    language: str | None = None
    context: str = ""
    max_new_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    clean: tuple[str, ...] = ()
    languages: tuple[str, ...] | None = None
    batch_seconds: float = math.inf
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A piece of audio to recognize.

    Attributes:
        key: names it in the results.
        chunk: the audio.
        options: how it is transcribed.
        cancelled: says whether nobody waits for it any more; then it ends as it is.
    """

    key: int
    chunk: Chunk
    options: Options
    cancelled: Callable[[], bool] = never


@dataclass(frozen=True)
class Recognized:
    """A piece's segment, and seconds of work per stage."""

    key: int
    segment: Segment
    timings: dict[str, float]


def clock(timings: dict[str, float], stage: str, began: float) -> float:
    """Book the time since `began` to a stage; returns now."""
    now = time.perf_counter()
    timings[stage] = timings.get(stage, 0.0) + now - began
    return now


def until(pieces: Iterable[Piece | None], cancelled: Callable[[], bool]) -> Iterator[Piece | None]:
    """Pieces until told to stop; asked before every piece, so that none is read in vain."""
    source = iter(pieces)
    while not cancelled():
        try:
            yield next(source)
        except StopIteration:
            return
