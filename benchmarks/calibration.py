#!/usr/bin/env python3
"""Fits the calibration of a model's confidences, measures it, and writes calibration.json, or
calibration_search.json for the texts of its default search."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from auris.checkpoints.calibration import (
    CALIBRATION,
    SEARCH_CALIBRATION,
    Calibration,
    save_calibration,
)
from auris.checkpoints.weight_files import weight_files
from auris.cli.options import BatchSize, ModelOptions, TestSets
from auris.cli.table import Table, write_json
from auris.errors import MissingExtra, OutputError, UsageError
from auris.evaluation.sets import read_set
from auris.pipeline import AsrPipeline
from auris.recognition.language_model import DEFAULT_LM, NO_LM
from auris.recognition.load import load_model, make_recognizer
from calibration_fit import CalibrationClip, fit, measure, transcribe_set, two_halves
from command_line import run_command

__all__ = ["Report", "draw", "fitted", "weights_hash"]

HASH_BLOCK = 1 << 20


@dataclass(frozen=True)
class Report:
    """The result of a calibration.

    Attributes:
        tables: by name, what `calibration_fit.measure` returned: of each set's half that was not
            fitted to, of all of them, and of the sets that were only checked.
        failed: files that could not be transcribed, with the reason.
        summary: plain JSON values.
    """

    tables: Mapping[str, dict[str, Any]]
    failed: Mapping[str, str]
    summary: dict[str, Any]


def fitted(
    model: ModelOptions,
    sets: Mapping[str, Mapping[Path, str]],
    checks: Mapping[str, Mapping[Path, str]],
    batch_size: int = 1,
    write: bool = False,
    plot: Path | None = None,
    search: bool = False,
) -> Report:
    """Fit a model's calibration on one half of some sets and measure it on the other.

    Args:
        model: the model.
        sets: transcripts by file, by name of the set.
        checks: sets that are only measured.
        batch_size: most chunks decoded at once.
        write: whether to write the calibration next to the weights.
        plot: where the reliability plot goes.
        search: whether to calibrate the texts of the model's default search, not greedy ones.

    Raises:
        UsageError: the sets hold too little to fit anything.
        OutputError: a file cannot be written.
        MissingExtra: jiwer or, for the plot, matplotlib is not installed.
    """
    pipeline = _uncalibrated(model, search)
    directory, lm = pipeline.model.directory, pipeline.recognizer.scorers.lm
    failed: dict[str, str] = {}

    def transcribed(
        references: Mapping[str, Mapping[Path, str]],
    ) -> dict[str, list[CalibrationClip]]:
        clips = {}
        for name, texts in references.items():
            clips[name], unread = transcribe_set(pipeline, name, texts, batch_size)
            failed.update(unread)
        return clips

    halves = {name: two_halves(clips) for name, clips in transcribed(sets).items()}
    fitting = [clip for half, _ in halves.values() for clip in half]
    calibration = fit(fitting)
    tables = {name: measure(calibration, rest) for name, (_, rest) in halves.items()}
    held_out = measure(calibration, [clip for _, rest in halves.values() for clip in rest])
    tables["held out, all"] = held_out
    checked = {name: measure(calibration, clips) for name, clips in transcribed(checks).items()}
    tables |= checked
    if write:
        measured = {
            "weights": weights_hash(directory),
            "sets": [Path(name).name for name in sets],
            "fitted_clips": len(fitting),
            "held_out": _short(held_out),
        }
        if lm is not None:
            measured["lm"] = lm.values
        name = SEARCH_CALIBRATION if search else CALIBRATION
        _save(replace(calibration, measured=measured), directory, name)
    if plot is not None and held_out["words"]:
        draw(held_out, f"{pipeline.model.name}: {held_out['words']} words not fitted to", plot)
    summary = {
        "model": pipeline.model.name,
        "fitted_clips": len(fitting),
        "silence_threshold": calibration.silence_threshold,
        "held_out": held_out,
        "checked": {name: _short(measured) for name, measured in checked.items()},
    }
    return Report(tables, failed, summary)


def _uncalibrated(model: ModelOptions, search: bool) -> AsrPipeline:
    """The pipeline of a model without its calibration, with its default search or greedy."""
    loaded = load_model(model.model, **model.load_options())
    recognizer = make_recognizer(
        loaded.backend,
        loaded.checkpoint,
        loaded.tokenizer,
        calibrated=False,
        lm=DEFAULT_LM if search else NO_LM,
    )
    if search and recognizer.scorers.lm is None:
        raise UsageError(
            "--search calibrates the texts of a model's default search",
            f"{loaded.model.name!r} has none",
            "fit one with auris benchmark lm --save, or leave --search out",
        )
    return AsrPipeline.over(recognizer, loaded.model, loaded.backend, loaded.defaults)


def weights_hash(directory: Path) -> str:
    """SHA-256 of a model's weight files, in order: a calibration is for these weights alone."""
    digest = hashlib.sha256()
    for file in weight_files(directory):
        with file.open("rb") as content:
            while block := content.read(HASH_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _short(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The figures without the bins, rounded."""
    return {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in measured.items()
        if not key.endswith("bins")
    }


def _save(calibration: Calibration, directory: Path, name: str) -> None:
    try:
        save_calibration(calibration, directory, name)
    except OSError as error:
        raise OutputError(
            "--write needs a model directory that can be written",
            f"{str(directory)!r} cannot be ({error.strerror})",
            "copy the model into a directory of your own, and name that",
        ) from None


def draw(measured: Mapping[str, Any], title: str, path: Path) -> None:
    """Write the reliability plot of what `calibration_fit.measure` returned, as PNG.

    Raises:
        MissingExtra: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra(
            "The reliability plot needs the package matplotlib",
            "it is not installed",
            "run pip install 'auris-asr[train]', or leave --plot out",
        ) from None
    figure = Figure(figsize=(6.5, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="ideal")
    for key, name, error in (
        ("raw_bins", "the model's own", measured["raw_ece"]),
        ("bins", "calibrated", measured["ece"]),
    ):
        filled: Sequence[tuple[float, float, int]] = [one for one in measured[key] if one[2]]
        label = f"{name}, ECE {error:.3f}"
        above.plot([c for c, _, _ in filled], [s for _, s, _ in filled], marker="o", label=label)
    above.set_ylabel("share of words that are right")
    above.set_title(title)
    above.legend(loc="upper left")
    counts = [count for _, _, count in measured["bins"]]
    width = 1 / len(counts)
    below.bar([(n + 0.5) * width for n in range(len(counts))], counts, 0.9 * width, color="C1")
    below.set_xlabel("confidence")
    below.set_ylabel("words")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise OutputError(
            "--plot has to be a file that can be written", f"{str(path)!r}: {error}", "name another"
        ) from None


def calibration(
    test_set: TestSets,
    model: ModelOptions,
    batch_size: BatchSize = 1,
    check_set: Annotated[
        list[str] | None,
        typer.Option(help="Set that is only measured, never fitted to. Repeatable."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the file next to the model's weights.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Write the reliability plot of the clips that were not fitted to, PNG."),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Calibrate the texts of the model's default search, in calibration_search.json.",
        ),
    ] = False,
) -> None:
    """Fit confidences on one half of the clips, by a hash of their names, and measure them on the
    other half.

    Clips with an empty text are silence, noise and music: from them the probability of no speech
    is fitted. The last line is JSON.
    """
    sets = {source: read_set(source) for source in test_set}
    checks = {source: read_set(source) for source in check_set or ()}
    report = fitted(model, sets, checks, batch_size, write, plot, search)
    for file, reason in report.failed.items():
        typer.echo(f"not transcribed: {file}: {reason}", err=True)
    formats = dict.fromkeys(("ECE", "before", "tokens", "clips"), ">6.3f")
    table = Table("set", formats | {"words": ">6", "right %": ">7.1f"})
    for name, figures in report.tables.items():
        share = 100 * figures["right"] / figures["words"] if figures["words"] else 0.0
        errors = [figures[key] for key in ("ece", "raw_ece", "token_ece", "clip_ece")]
        table.row(name, *errors, figures["words"], share)
    silence = report.summary["held_out"]["silence"]
    typer.echo(
        f"silence: {silence['silent_words_left']} of {silence['silent_words']} words left in "
        f"{silence['silent_clips']} clips; speech: {silence['suppressed_right_words']} of "
        f"{silence['right_words']} right words suppressed"
    )
    write_json(report.summary)


if __name__ == "__main__":
    run_command(calibration)
