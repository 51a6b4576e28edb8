"""How a corpus is read: the object `corpus` of a recipe."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from auris.training.base_recipe import STRICT, Positive, Size, wrong_value
from auris.types import SAMPLE_RATE

BLOCKS = 2
"""Blocks of a reader in memory: the one that is used, and the next one."""

SECOND_BYTES = 2 * SAMPLE_RATE
"""Bytes of a second of 16-bit samples."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CorpusReading:
    """How a corpus is read.

    Attributes:
        memory_mb: megabytes of samples in memory, in all processes together.
        readers: each reads shards of its own, one after the other, and makes whole batches.
        batch_parts: a batch consists of so many parts of batch_seconds / batch_parts; each comes
            from one reader, and each process computes an equal number of them.
        shard_seconds: audio of a shard; tar files and row groups of Parquet files are not divided.
        weights: share of each source in what is read, in any unit; none for all of everything.
    """

    memory_mb: Positive = 512.0
    readers: Size = 1
    batch_parts: Size = 1
    shard_seconds: Annotated[float, Field(ge=1, le=1e6)] = 600.0
    weights: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        if self.readers % self.batch_parts:
            raise wrong_value(
                "corpus.readers",
                f"has to be a multiple of batch_parts ({self.batch_parts})",
                str(self.readers),
            )

    @property
    def block_seconds(self) -> float:
        """Audio of the largest block of a reader."""
        return self.memory_mb * 1e6 / (BLOCKS * self.readers * SECOND_BYTES)

    @classmethod
    def of(cls, values: Any) -> CorpusReading:
        """Of a JSON object.

        Raises:
            TrainingError: no object, unknown keys, wrong types, or impossible values.
        """
        if not isinstance(values, dict):
            raise wrong_value("corpus", "has to be an object", repr(values))
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                rule = f"is no key; corpus may hold {', '.join(names)}"
                raise wrong_value(f"corpus.{name}", rule, repr(values[name]))
        weights = values.get("weights", ())
        if isinstance(weights, list):
            weights = tuple(float(w) if type(w) is int else w for w in weights)
        try:
            return cls(**{**values, "weights": weights})
        except ValidationError as error:
            first = error.errors()[0]
            rule = first["msg"].replace("Input should", "has to")
            key = ".".join(map(str, first["loc"]))
            raise wrong_value(f"corpus.{key}", rule, repr(first["input"])) from error
