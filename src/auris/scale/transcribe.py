"""`Transcribe`: a column of recordings to columns of text, for Ray Data and other engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from auris.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from auris.pipeline import AsrPipeline
    from auris.recognition.load import LoadOptions
    from auris.recognition.options import CallOptions

COLUMNS = ("text", "language", "confidence", "audio_seconds", "segments", "error")


class Transcribe:
    """Transcribes batches of rows; each process that it is sent to loads the model once.

        dataset.map_batches(
            Transcribe, fn_constructor_kwargs={"model": "tiny"}, concurrency=4, num_cpus=0.5
        )

    Ray needs processors to read the dataset, too: where actors have all of them, nothing begins.

    The column with audio holds paths, addresses of any filesystem, bytes of files,
    `{"bytes", "path"}`, or `{"array", "sampling_rate"}`. The added columns are `text`, `language`
    and `error` (empty where there is none), `confidence` (NaN where there is none),
    `audio_seconds`, and `segments` as JSON.

    Args:
        model: as of `AsrPipeline`.
        audio_column: name of the column with audio.
        prefix: of the names of the added columns.
        language, context: as of `AsrPipeline.transcribe`.
        load: options of loading, such as `{"device": "cuda"}`.
        options: of every recording. `batch_size` and `batch_seconds` say how many chunks of a batch
            of rows are decoded at once.
    """

    def __init__(
        self,
        model: str | None = None,
        audio_column: str = "audio",
        prefix: str = "",
        language: str | None = None,
        context: str = "",
        load: LoadOptions | None = None,
        **options: Unpack[CallOptions],
    ) -> None:
        self.model, self.audio_column, self.prefix = model, audio_column, prefix
        self.language, self.context = language, context
        self.load: LoadOptions = {} if load is None else load
        self.options = options
        self._pipeline: AsrPipeline | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The settings; another process loads its own model."""
        return {**vars(self), "_pipeline": None}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a batch with those of the transcripts.

        Raises:
            UsageError: the batch has no column with audio, or one of the added columns.
        """
        import numpy as np

        from auris.scale.rows import cell_source

        self._check(batch)
        sources = [cell_source(cell) for cell in batch[self.audio_column]]
        rows: dict[int, dict[str, Any]] = {}
        results = self._loaded().results(sources, self.language, self.context, **self.options)
        for number, result in results:
            rows[number] = _columns(result)
        columns = {name: [rows[number][name] for number in range(len(sources))] for name in COLUMNS}
        numbers = {"confidence", "audio_seconds"}
        added = {
            f"{self.prefix}{name}": np.array(values, np.float64 if name in numbers else object)
            for name, values in columns.items()
        }
        return {**batch, **added}

    def _check(self, batch: Mapping[str, Any]) -> None:
        if self.audio_column not in batch:
            raise UsageError(
                "audio_column has to be a column of the batch",
                f"{self.audio_column!r} is none of {', '.join(batch)}",
                "name one of them",
            )
        taken = [name for name in COLUMNS if f"{self.prefix}{name}" in batch]
        if taken:
            raise UsageError(
                "The added columns have to be new",
                f"the batch has {' and '.join(self.prefix + name for name in taken)}",
                "choose a prefix",
            )

    def _loaded(self) -> AsrPipeline:
        if self._pipeline is None:
            from auris.pipeline import AsrPipeline

            self._pipeline = AsrPipeline.from_pretrained(self.model, **self.load)
        return self._pipeline


def _columns(result: Any) -> dict[str, Any]:
    """The values of the added columns for a transcript or a failure."""
    import json

    from auris.types import Transcript

    if not isinstance(result, Transcript):
        empty = {"text": "", "language": "", "confidence": float("nan"), "audio_seconds": 0.0}
        return {**empty, "segments": "[]", "error": result.error.without_span().sentence}
    return {
        "text": result.text,
        "language": result.language or "",
        "confidence": float("nan") if result.confidence is None else result.confidence,
        "audio_seconds": result.seconds,
        "segments": json.dumps([segment.to_dict() for segment in result.segments]),
        "error": "",
    }
