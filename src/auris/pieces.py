"""What travels between recordings and models: pieces with options, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from auris.decoding.loop import never
from auris.decoding.sampling import Sampling
from auris.types import Chunk, Segment

__all__ = ["Options", "Piece", "Recognized"]


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
    """

    language: str | None = None
    context: str = ""
    max_new_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    clean: tuple[str, ...] = ()
    languages: tuple[str, ...] | None = None
    batch_seconds: float = math.inf


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
