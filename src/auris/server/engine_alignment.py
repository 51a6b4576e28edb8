"""Times of words, computed in the thread that runs the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from auris.align import Alignment
from auris.server.engine import Engine
from auris.types import Samples, Segment, Word

__all__ = ["EngineAlignment"]

T = TypeVar("T")


class EngineAlignment:
    """An alignment for pipelines over an engine: whatever thread calls, the engine's does the work.

    Args:
        engine: whose thread aligns.
        load: gives the alignment when it is first needed; it raises what `ctc_alignment` does.
    """

    def __init__(self, engine: Engine, load: Callable[[], Alignment]) -> None:
        self._engine = engine
        self._load = load

    @cached_property
    def _alignment(self) -> Alignment:
        return self._load()

    def check(self, language: str | None) -> None:
        """See `Alignment.check`."""
        self._alignment.check(language)

    def words(self, samples: Samples, text: str, language: str | None) -> list[Word]:
        """See `Alignment.words`."""
        alignment = self._alignment
        return self._in_engine(lambda: alignment.words(samples, text, language))

    def segment_words(self, samples: Samples, segment: Segment) -> list[Word]:
        """See `Alignment.segment_words`."""
        alignment = self._alignment
        return self._in_engine(lambda: alignment.segment_words(samples, segment))

    def _in_engine(self, align: Callable[[], T]) -> T:
        """The result of `align`.

        Raises:
            EngineError: the engine has stopped.
        """
        if self._engine.is_current_thread:  # A live stream, whose steps run there.
            return align()
        found: list[T] = []
        self._engine.beside(lambda: found.append(align())).result()
        return found[0]
