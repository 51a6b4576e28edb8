"""The whole of a calibration: clips are heard, maps fitted and measured, file and plot written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auris.checkpoints.calibration import Calibration, save_calibration
from auris.checkpoints.load import weight_files
from auris.errors import OutputError
from auris.evaluation.calibration import CalibrationClip, fit, listen, measure, two_halves
from auris.evaluation.reliability import draw
from auris.pipeline import AsrPipeline
from auris.recognition.load import LoadOptions, load_model, make_recognizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Report", "fitted", "weights_hash"]

HASH_BLOCK = 1 << 20


@dataclass(frozen=True)
class Report:
    """What came of a calibration.

    Attributes:
        tables: by name, what `auris.evaluation.calibration.measure` found: of each set's half that
            was not fitted to, of all of them, and of the sets that were only checked.
        failed: files that could not be heard, with the reason.
        summary: plain JSON values.
    """

    tables: Mapping[str, dict[str, Any]]
    failed: Mapping[str, str]
    summary: dict[str, Any]


def fitted(
    model: str | None,
    sets: Mapping[str, Mapping[Path, str]],
    checks: Mapping[str, Mapping[Path, str]],
    batch_size: int = 1,
    write: bool = False,
    plot: Path | None = None,
    **options: Unpack[LoadOptions],
) -> Report:
    """Fit a model's calibration on one half of some sets and measure it on the other.

    Args:
        model: see `AsrPipeline.from_pretrained`.
        sets: transcripts by file, by name of the set; see `auris.evaluation.wer.read_set`.
        checks: sets that are only measured.
        batch_size: most pieces decoded at once.
        write: whether to write calibration.json beside the weights.
        plot: where the reliability plot goes.
        options: of loading the model.

    Raises:
        UsageError: the sets hold too little to fit anything.
        OutputError: a file cannot be written.
        MissingExtra: jiwer or, for the plot, matplotlib is not installed.
    """
    loaded = load_model(model, **options)
    recognizer = make_recognizer(
        loaded.backend, loaded.checkpoint, loaded.tokenizer, calibrated=False
    )
    pipeline = AsrPipeline.over(recognizer, loaded.found, loaded.backend, loaded.defaults)
    failed: dict[str, str] = {}

    def heard(given: Mapping[str, Mapping[Path, str]]) -> dict[str, list[CalibrationClip]]:
        found = {}
        for name, texts in given.items():
            found[name], lost = listen(pipeline, name, texts, batch_size)
            failed.update(lost)
        return found

    halves = {name: two_halves(clips) for name, clips in heard(sets).items()}
    calibration = fit([clip for fitting, _ in halves.values() for clip in fitting])
    tables = {name: measure(calibration, held) for name, (_, held) in halves.items()}
    held_out = measure(calibration, [clip for _, held in halves.values() for clip in held])
    tables["held out, all"] = held_out
    checked = {name: measure(calibration, clips) for name, clips in heard(checks).items()}
    tables |= checked
    summary = {
        "model": loaded.found.name,
        "fitted_clips": sum(len(fitting) for fitting, _ in halves.values()),
        "silence_threshold": calibration.silence_threshold,
        "held_out": held_out,
        "checked": {name: _short(found) for name, found in checked.items()},
    }
    if write:
        measured = {
            "weights": weights_hash(loaded.found.directory),
            "sets": [Path(name).name for name in sets],
            "fitted_clips": summary["fitted_clips"],
            "held_out": _short(held_out),
        }
        _save(replace(calibration, measured=measured), loaded.found.directory)
    if plot is not None and held_out["words"]:
        draw(held_out, f"{loaded.found.name}: {held_out['words']} words not fitted to", plot)
    return Report(tables, failed, summary)


def weights_hash(directory: Path) -> str:
    """SHA-256 of a model's weight files, in order: a calibration belongs to these weights alone."""
    digest = hashlib.sha256()
    for file in weight_files(directory):
        with file.open("rb") as content:
            while block := content.read(HASH_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _short(found: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured without the bins, rounded for readers."""
    return {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in found.items()
        if not key.endswith("bins")
    }


def _save(calibration: Calibration, directory: Path) -> None:
    try:
        save_calibration(calibration, directory)
    except OSError as error:
        raise OutputError(
            "--write needs a model directory that can be written",
            f"{str(directory)!r} cannot be ({error.strerror})",
            "copy the model into a directory of your own, and name that",
        ) from None
