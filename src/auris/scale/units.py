"""What a plan is made of: units of input, each with an estimate of its seconds of audio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

UnitKind = Literal["file", "tar", "parquet"]

BYTES_A_SECOND = 16_000
"""Bytes that count as a second of audio where durations are unknown."""

SECONDS_A_ROW = 30.0
"""Seconds that a recording counts if neither its duration nor its size is known."""


@dataclass(frozen=True)
class InputUnit:
    """A recording, a tar file, or a row group of a Parquet file.

    Attributes:
        kind: which of the three.
        uri: path or address of the file.
        name: what results call a recording; "" for the other kinds.
        seconds: duration of the audio, if the source states it.
        size: bytes, if the source states them.
        rows: recordings in it, if that is known.
        start, duration, channel: the part of a recording, see `auris.audio.io.Excerpt`.
        group: number of the row group.
        column: name of the column with audio.
        fields: values of the row that results repeat, such as the reference text.
        fault: why the recording cannot be read, if that is known already.
    """

    kind: UnitKind
    uri: str
    name: str = ""
    seconds: float | None = None
    size: int | None = None
    rows: int | None = 1
    start: float = 0.0
    duration: float | None = None
    channel: int | None = None
    group: int | None = None
    column: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""

    @property
    def basis(self) -> str:
        """What `weight` is computed from: "seconds", "bytes" or "rows"."""
        if self.seconds is not None:
            return "seconds"
        return "rows" if self.size is None else "bytes"

    @property
    def weight(self) -> float:
        """Seconds of audio, or an estimate of them."""
        if self.seconds is not None:
            return self.seconds
        if self.size is not None:
            return self.size / BYTES_A_SECOND
        return SECONDS_A_ROW * (self.rows or 1)

    def to_json(self) -> str:
        """One line of JSON, without values that are the default."""
        given = {name: value for name, value in vars(self).items() if value != _DEFAULTS.get(name)}
        return json.dumps(given, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> InputUnit:
        """The unit of a line of `to_json`."""
        return cls(**json.loads(line))


_DEFAULTS: dict[str, Any] = {
    f.name: f.default if f.default_factory is MISSING else f.default_factory()
    for f in fields(InputUnit)
}
"""Values that are not written; MISSING where there is no default."""
