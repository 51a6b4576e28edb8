"""A shard to the bytes of its result: one line of JSON for each recording, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from auris.audio.io import Source
from auris.errors import OutputError
from auris.recognition.fingerprint import call_values
from auris.recognition.options import CallOptions
from auris.recognition.scheduler import Failure
from auris.scale.rows import AudioRow, StorageFailures, audio_rows
from auris.scale.units import InputUnit
from auris.types import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterable

    from auris.pipeline import AsrPipeline


@dataclass
class ShardTranscriber:
    """Transcribes shards.

    Results have no times of work, so they depend on the recordings, the model and the options only.

    Attributes:
        pipeline: the model.
        language, context, options: of every recording, see `AsrPipeline.transcribe`.
    """

    pipeline: AsrPipeline
    language: str | None = None
    context: str = ""
    options: CallOptions = field(default_factory=lambda: CallOptions())

    def values(self) -> dict[str, Any]:
        """Everything that results depend on but the recordings."""
        values = call_values(self.pipeline, self.language, self.context, self.options)
        return {"model": self.pipeline.model.name, **values}

    def result(
        self, units: Iterable[InputUnit], isolated: bool = False, last: bool = True
    ) -> bytes:
        """The result of a shard.

        Args:
            units: of the shard.
            isolated: decode recordings in another process, since the process of an earlier try
                ended unexpectedly. The result is the same, but for a recording that ends it.
            last: whether failures of filesystems become rows with errors.

        Raises:
            OutputError: a filesystem failed, and this is not the last try.
        """
        options = self.options
        if isolated:
            options = {**options, "workers": max(1, options.get("workers", 0))}
        if not options.get("workers", 0):
            return self._lines(units, options, StorageFailures(), last)
        # Processes that end may still write into the folder.
        with TemporaryDirectory(prefix="auris-failures-", ignore_cleanup_errors=True) as folder:
            return self._lines(units, options, StorageFailures(Path(folder)), last)

    def _lines(
        self,
        units: Iterable[InputUnit],
        options: CallOptions,
        failures: StorageFailures,
        last: bool,
    ) -> bytes:
        """The lines of a shard, see `result`."""
        rows: list[AudioRow] = []
        lines: dict[int, bytes] = {}

        def sources() -> Iterator[Source]:
            for row in audio_rows(units, failures, portable=bool(options.get("workers", 0))):
                source = row.source
                rows.append(AudioRow(row.name, "", row.fields))  # Without cells of audio.
                yield source

        results = self.pipeline.results(sources(), self.language, self.context, **options)
        for number, result in results:
            lines[number] = result_line(rows[number], result)
            if not last and (failure := failures.first()) is not None:
                raise OutputError(
                    f"A recording of the shard cannot be read ({failure})",
                    "",
                    "check the storage and the network; the shard is tried again",
                )
        return b"".join(lines[number] for number in range(len(rows)))


def result_line(row: AudioRow, result: Transcript | Failure) -> bytes:
    """The line of a recording: the transcript without times of work, or the error."""
    content: dict[str, Any] = {"file": row.name}
    if row.fields:
        content["row"] = dict(row.fields)
    if isinstance(result, Transcript):
        content |= result.to_dict()
        del content["timings"]
    else:
        error = result.error.without_span()
        content |= {"error": error.sentence, "kind": type(error).__name__}
    # ASCII, since names may have half a surrogate pair, which UTF-8 cannot have.
    return json.dumps(content, ensure_ascii=True, default=str).encode() + b"\n"
