"""`auris benchmark der`: who speaks when, compared with a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from auris.cli.declare import option
from auris.cli.options import SpeakerModel
from auris.cli.table import Table, write_json
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.evaluation.diarization import DiarizationErrors


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
    speaker_model: SpeakerModel = None,
    collar: Annotated[
        float, option("Seconds around borders of the reference that do not count.", min=0)
    ] = 0.25,
) -> None:
    """Measure the diarization error rate of conversations; overlapping speech counts.

    Shown are the shares of the speech of the reference that is missed, that is spoken by nobody,
    and that has another speaker, and how many conversations have the right number of speakers.
    """
    if rttm_dir is not None and (known_count or speaker_model is not None):
        raise UsageError(
            "--rttm-dir excludes --known-count and --speaker-model",
            "they are given together",
            "leave one of them out: results in files are not computed here",
        )
    from auris.evaluation.diarization import read_conversations, scored, total_errors

    formats = {"DER %": ">7.1f", "missed %": ">9.1f", "false %": ">8.1f", "other %": ">8.1f"}
    table = Table("recording", formats | {"speakers": ">9d", "found": ">6d"})
    sets = []
    for path in test_set:
        conversations = read_conversations(path)
        results: dict[str, DiarizationErrors] = {}
        for name, errors in scored(
            conversations, rttm_dir, speaker_model, known_count=known_count, collar=collar
        ):
            results[name] = errors
            table.row(name, *_shares(errors), errors.expected, errors.speakers)
        total = total_errors(results.values())
        right = sum(errors.speakers == errors.expected for errors in results.values())
        table.row("together", *_shares(total), total.expected, total.speakers)
        recordings = [{"name": name, "errors": errors} for name, errors in results.items()]
        sets.append(
            {
                "name": str(path),
                "der": total.rate,
                "right_counts": right,
                "total": total,
                "recordings": recordings,
            }
        )
    write_json({"collar": collar, "sets": sets})


def _shares(errors: DiarizationErrors) -> tuple[float, float, float, float]:
    percent = max(errors.total, 1e-9) / 100
    parts = (errors.missed / percent, errors.false_alarm / percent, errors.confused / percent)
    return sum(parts), *parts
