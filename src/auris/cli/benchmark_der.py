"""`auris benchmark der`: who speaks when, compared with a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from auris.cli.declare import option
from auris.cli.speakers import SpeakerModel
from auris.cli.table import Table, write_json
from auris.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from auris.evaluation.diarization import (
        DiarizationErrors,
        DiarizedConversation,
        NameErrors,
    )


def der(
    test_set: Annotated[
        list[Path], option("CSV with the columns wav and rttm (the reference). Repeatable.")
    ],
    rttm_dir: Annotated[
        Path | None,
        option("Folder with NAME.rttm for each recording, to score instead of our own result."),
    ] = None,
    known_count: Annotated[
        bool, option("Give the number of speakers of the reference.", "--known-count")
    ] = False,
    known_speakers: Annotated[
        bool,
        option("Name the speakers of whom the column known has recordings.", "--known-speakers"),
    ] = False,
    speaker_model: SpeakerModel = None,
    collar: Annotated[
        float, option("Seconds around borders of the reference that do not count.", min=0)
    ] = 0.25,
) -> None:
    """Measure the diarization error rate of conversations; overlapping speech counts.

    Shown are the shares of the speech of the reference that is missed, that is spoken by nobody,
    and that has another speaker, and how many conversations have the right number of speakers.
    With --known-speakers also: how many known speakers speak, how many of these have their name,
    how many names somebody else has, and the speech with the right and with a wrong name.
    """
    if rttm_dir is not None and (known_count or speaker_model is not None):
        raise UsageError(
            "--rttm-dir excludes --known-count and --speaker-model",
            "they are given together",
            "leave one of them out: results in files are not computed here",
        )
    from auris.evaluation.diarization import diarized, read_conversations

    formats = {"DER %": ">7.1f", "missed %": ">9.1f", "false %": ">8.1f", "other %": ">8.1f"}
    formats |= {"speakers": ">9d", "found": ">6d"}
    if known_speakers:
        formats |= {"known": ">6d", "named": ">6d", "misnamed": ">9d"}
        formats |= {"right %": ">8.1f", "wrong %": ">8.1f"}
    table, sets = Table("recording", formats), []
    for path in test_set:
        conversations = read_conversations(path, known_speakers)
        results = diarized(conversations, rttm_dir, speaker_model, known_count=known_count)
        sets.append({"name": str(path), **_scored(table, results, collar, known_speakers)})
    write_json({"collar": collar, "sets": sets})


def _scored(
    table: Table,
    results: Iterable[DiarizedConversation],
    collar: float,
    known_speakers: bool,
) -> dict[str, Any]:
    """Score a test set: a row for each recording and for all, and the figures."""
    from auris.evaluation.diarization import diarization_errors, name_errors, total_errors

    every, names, recordings = [], [], []
    seconds = work = 0.0
    for one in results:
        reference, name = one.conversation.reference, one.conversation.audio.stem
        errors = diarization_errors(reference, one.turns, collar)
        every.append(errors)
        recordings.append({"name": name, "errors": errors})
        cells = _shares(errors)
        if known_speakers:
            names.append(name_errors(reference, one.turns, one.conversation.known, collar))
            recordings[-1]["names"] = names[-1]
            cells += _name_shares(names[-1])
        table.row(name, *cells)
        seconds, work = seconds + one.seconds, work + one.work
    total = total_errors(every)
    cells = _shares(total)
    figures = {
        "der": total.rate,
        "right_counts": sum(errors.speakers == errors.expected for errors in every),
        "total": total,
        "seconds": seconds,
        "processor_seconds": work,
        "recordings": recordings,
    }
    if known_speakers:
        figures["names"] = total_errors(names)
        cells += _name_shares(total_errors(names))
    table.row("together", *cells)
    return figures


def _shares(errors: DiarizationErrors) -> tuple[float | None, ...]:
    if not errors.total:
        return None, None, None, None, errors.expected, errors.speakers
    percent = errors.total / 100
    parts = (errors.missed / percent, errors.false_alarm / percent, errors.confused / percent)
    return sum(parts), *parts, errors.expected, errors.speakers


def _name_shares(names: NameErrors) -> tuple[float | None, ...]:
    percent = max(names.total, 1e-9) / 100
    return names.speakers, names.named, names.misnamed, names.right / percent, names.wrong / percent
