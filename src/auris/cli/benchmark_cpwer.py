"""`auris benchmark cpwer`: who says which words, compared with a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from auris.cli.declare import option
from auris.cli.options import (
    Aligner,
    BatchSize,
    ChunkSeconds,
    ModelOptions,
    Vad,
)
from auris.cli.speakers import SpeakerModel
from auris.cli.table import Table, write_json

if TYPE_CHECKING:
    from auris.evaluation.cpwer import SpeakerWordErrors
    from auris.recognition.options import CallOptions


def cpwer(
    test_set: Annotated[
        list[Path], option("CSV with the columns wav and stm (the reference). Repeatable.")
    ],
    model: ModelOptions,
    known_count: Annotated[
        bool, option("Give the number of speakers of the reference.", "--known-count")
    ] = False,
    speaker_model: SpeakerModel = None,
    aligner: Aligner = None,
    normalizer: Annotated[
        str,
        option("english (the standard one; digits become numbers) or spoken (words as spoken)."),
    ] = "english",
    batch_size: BatchSize = 1,
    chunk_seconds: ChunkSeconds = None,
    vad: Vad = None,
) -> None:
    """Measure the word error rate of conversations with speakers (cpWER).

    The words of each speaker are compared with those of the speaker of the reference who fits best.
    Shown are this rate, the word error rate without speakers, and the difference: words that have
    the wrong speaker.
    """
    from auris.diarization.diarizer import Diarizer
    from auris.evaluation.cpwer import read_references, scored

    sets = {path: read_references(path) for path in test_set}
    pipeline = model.pipeline()
    options: CallOptions = {
        "batch_size": batch_size,
        "chunk_seconds": chunk_seconds,
        "vad": vad,
        "diarize": Diarizer.from_pretrained(speaker_model),
    }
    if aligner is not None:
        options["aligner"] = ModelOptions(aligner, device=model.device, dtype=model.dtype).aligner()
    formats = {"cpWER %": ">8.2f", "WER %": ">8.2f", "more": ">7.2f", "words": ">7d"}
    table = Table("recording", formats | {"speakers": ">9d", "found": ">6d"})
    summary = []
    for path, references in sets.items():
        results: dict[str, SpeakerWordErrors] = {}
        for name, errors in scored(
            pipeline, references, normalizer, known_count=known_count, **options
        ):
            results[name] = errors
            table.row(name, *_cells(errors))
        first, *others = results.values()
        total = sum(others, start=first)
        table.row("together", *_cells(total))
        recordings = [{"name": name, "errors": errors} for name, errors in results.items()]
        rates = {"cpwer": total.cpwer, "wer": total.wer}
        summary.append({"name": str(path), **rates, "total": total, "recordings": recordings})
    write_json({"model": pipeline.model.name, "sets": summary})


def _cells(errors: SpeakerWordErrors) -> tuple[float, float, float, int, int, int]:
    rates = (100 * errors.cpwer, 100 * errors.wer, 100 * (errors.cpwer - errors.wer))
    return (*rates, errors.words, errors.expected, errors.speakers)
