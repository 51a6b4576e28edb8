"""`auris benchmark stream`: live streams compared with files, and the delays of their text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auris.cli.declare import option
from auris.cli.options import Limit, ModelOptions
from auris.cli.table import Table, write_json
from auris.cli.values import numbers
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.evaluation.live_delays import DelayScore
    from auris.evaluation.streaming import ClipsScore, StreamScore
    from auris.pipeline import AsrPipeline
    from auris.recognition.options import StreamOptions

RECORDING_COLUMNS = {
    "seconds": ">8.1f",
    "steps": ">6",
    "text": ">10",
    "early ms": ">9.1f",
    "late ms": ">8.1f",
    "ratio": ">6.2f",
    "early GB": ">9.3f",
    "late GB": ">8.3f",
    "busy": ">6.3f",
}
"""Columns of one recording, before those of its delays."""

CLIP_COLUMNS = {
    "clips": ">6",
    "identical": ">10",
    "ties": ">5",
    "different": ">10",
    "step ms": ">8.1f",
}
"""Columns of a test set, before those of its delays."""

DELAY_COLUMNS = {
    "words": ">6",
    "settled s": ">10.2f",
    "95 %": ">6.2f",
    "final s": ">8.2f",
    "95 % ": ">6.2f",
    "early": ">6",
    "revised": ">8",
}
"""Columns of the delays of live text."""


def _delays(score: DelayScore) -> tuple[int | float | None, ...]:
    """The values of `DELAY_COLUMNS`."""
    settled = (score.settled_seconds, score.settled_95)
    final = (score.final_seconds, score.final_95)
    return (score.words, *settled, *final, score.early, score.revised)


def stream(
    model: ModelOptions,
    audio: Annotated[list[str] | None, option("A recording. Repeatable.", "--audio")] = None,
    test_set: Annotated[
        list[str] | None,
        option("Clips of which only the texts are compared: a CSV or a folder. Repeatable."),
    ] = None,
    chunk_seconds: Annotated[
        float | None, option("As of listen.", default="8, or the model's own if that is shorter")
    ] = None,
    step_seconds: Annotated[float, option("As of listen.")] = 0.5,
    settle_seconds: Annotated[float, option("As of listen.")] = 1.0,
    words: Annotated[
        bool, option("Measure delays from the times of words, not from even ones.", "--words")
    ] = False,
    feed_seconds: Annotated[
        str, option("Lengths of the blocks that are fed, separated by commas, in turn.")
    ] = "0.1",
    max_new_tokens: Annotated[
        int | None, option("Token budget of a chunk, as of transcribe.", min=1)
    ] = None,
    streams: Annotated[int, option("Clips of a test set that are streamed at once.", min=1)] = 1,
    every: Annotated[int, option("Take every N-th clip of a test set.", min=1)] = 1,
    errors: Annotated[
        bool,
        option(
            "Also word error rates of test sets, live and as files with default options.",
            "--errors",
        ),
    ] = False,
    limit: Limit = None,
) -> None:
    """Transcribe recordings as live streams, and compare the final texts with those of the files.

    The time of a step at the beginning and at the end, memory and the delays of settled and final
    text are also measured, and how many settled words the final text revises. The exit code is 1
    when a text differs by more than a tie.
    """
    from auris.evaluation.sets import read_set
    from auris.evaluation.wer import require_jiwer

    sizes = numbers("--feed-seconds", feed_seconds, 0.001, 3600)
    sets = {name: _Set(read_set(name), every, limit) for name in test_set or ()}
    if errors:
        require_jiwer()
    if not audio and not sets:
        raise UsageError("No recording to stream was named", "", "give --audio or --test-set")
    pipeline = model.pipeline()
    options: StreamOptions = {
        "chunk_seconds": chunk_seconds,
        "step_seconds": step_seconds,
        "settle_seconds": settle_seconds,
        "max_new_tokens": max_new_tokens,
        "word_timestamps": words,
    }
    scores = _score_recordings(pipeline, audio, sizes, options) if audio else []
    clips = _compare_sets(pipeline, sets, sizes, streams, errors, options) if sets else {}
    results = {name: agreement.to_dict() for name, agreement in clips.items()}
    write_json({**options, "recordings": scores, "sets": results})
    differ = any(score.verdict == "different" for score in scores)
    if differ or any(agreement.different for agreement in clips.values()):
        raise typer.Exit(1)


class _Set:
    """The clips of a test set, and their transcripts by file."""

    def __init__(self, texts: dict[Path, str], every: int, limit: int | None) -> None:
        self.texts = texts
        self.files = list(texts)[::every][:limit]


def _score_recordings(
    pipeline: AsrPipeline, recordings: list[str], sizes: list[float], options: StreamOptions
) -> list[StreamScore]:
    """Stream recordings, and write a row for each."""
    from auris.evaluation.streaming import score_stream

    table = Table("audio", RECORDING_COLUMNS | DELAY_COLUMNS)
    scores = []
    for name in recordings:
        score = score_stream(pipeline, name, sizes, **options)
        scores.append(score)
        steps = (1000 * score.early_seconds, 1000 * score.late_seconds, score.ratio)
        memory = (score.early_gb, score.late_gb)
        beginning = (score.seconds, score.steps, score.verdict)
        table.row(name, *beginning, *steps, *memory, score.busy, *_delays(score.delays))
    return scores


def _compare_sets(
    pipeline: AsrPipeline,
    sets: dict[str, _Set],
    sizes: list[float],
    streams: int,
    errors: bool,
    options: StreamOptions,
) -> dict[str, ClipsScore]:
    """Stream the clips of test sets, and write a row for each set and one for all."""
    from auris.evaluation.live_delays import LiveDelays
    from auris.evaluation.streaming import compare_clips

    rates = {"live WER": ">9.2f", "file WER": ">9.2f"} if errors else {}
    table = Table("set", CLIP_COLUMNS | DELAY_COLUMNS | rates)
    clips, live = {}, LiveDelays()
    for name, test in sets.items():
        texts = test.texts if errors else None
        agreement = compare_clips(pipeline, test.files, sizes, streams, texts, **options)
        clips[name] = agreement
        live.extend(agreement.live)
        counts = (agreement.clips, agreement.identical, agreement.ties, len(agreement.different))
        both = (agreement.live_wer, agreement.file_wer) if errors else ()
        percent = (None if rate is None else 100 * rate for rate in both)
        step = 1000 * agreement.step_seconds
        table.row(name, *counts, step, *_delays(agreement.live.score()), *percent)
        for file in agreement.different:
            typer.echo(f"    {file}")
    if len(sets) > 1:
        nothing = [None] * len(CLIP_COLUMNS)
        table.row("all sets", *nothing, *_delays(live.score()), *[None] * len(rates))
    return clips
