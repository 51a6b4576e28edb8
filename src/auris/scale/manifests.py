"""Rows of NeMo manifests and of Lhotse cut sets, read as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from auris.errors import UsageError
from auris.scale.units import InputUnit

NEMO_FIELDS = (
    "audio_filepath",
    "offset",
    "duration",
    "text",
    "lang",
    "language",
    "speaker",
    "prompt",
)
"""Values of a row that results repeat."""

EMPTY = "the duration of a part is 0"
"""Fault of a row that names no audio."""

LONGEST_SECONDS = 1e9
"""Larger numbers of seconds are mistakes."""


def manifest_lines(lines: Iterable[str], source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a manifest with the numbers of their lines; empty lines are skipped.

    Raises:
        UsageError: a line is no JSON object.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise _wrong(f"line {number} of {source!r}", "it is no JSON object")
        yield number, row


def nemo_unit(row: Mapping[str, Any], where: str) -> InputUnit:
    """The unit of a row of a NeMo manifest.

    Raises:
        UsageError: it names no file, or a number in it is impossible.
    """
    path = row.get("audio_filepath", row.get("audio_file"))
    if not isinstance(path, str) or not path:
        raise _wrong(where, "it has no audio_filepath")
    start, duration = _seconds(row, "offset", where), _seconds(row, "duration", where)
    # A duration alone is the length of the file, which is read to its end.
    span = None if start is None else duration
    fields = {name: row[name] for name in NEMO_FIELDS if row.get(name) is not None}
    name = path if start is None else f"{path}#{start}"
    return InputUnit(
        "file",
        path,
        name,
        duration,
        start=start or 0.0,
        duration=span,
        fields=fields,
        fault=EMPTY if span == 0 else "",
    )


def lhotse_unit(row: Mapping[str, Any], where: str) -> InputUnit:
    """The unit of a cut. One that is mixed of several, or stored as features, has a fault.

    Raises:
        UsageError: it is no cut, or a number in it is impossible.
    """
    name, recording = row.get("id"), row.get("recording")
    if not isinstance(name, str):
        raise _wrong(where, "it is no cut, since it has no id")
    fields: dict[str, Any] = {"id": name}
    recording = recording if isinstance(recording, dict) else {}
    sources = _objects(recording.get("sources"))
    source = sources[0].get("source") if sources else None
    if not isinstance(source, str) or sources[0].get("type") not in ("file", "url"):
        fault = "the cut has no recording in a file or at an address"
        return InputUnit(
            "file", "", name, _seconds(row, "duration", where), fields=fields, fault=fault
        )
    start, duration = _seconds(row, "start", where) or 0.0, _seconds(row, "duration", where)
    channel = row.get("channel")
    channels = channel if isinstance(channel, list) else [channel]
    if any(type(one) is not int for one in channels if one is not None):
        raise _wrong(where, f"its channel is {channel!r}")
    supervisions = _objects(row.get("supervisions"))
    texts = [one.get("text") for one in supervisions]
    fields |= {"recording_id": recording.get("id", name), "start": start, "duration": duration}
    fields |= {"channel": channel if channel is not None else 0}
    if any(texts):
        fields["text"] = " ".join(str(text) for text in texts if text)
    for key in ("language", "speaker"):
        values = [one.get(key) for one in supervisions]
        if values and isinstance(values[0], str) and values == values[:1] * len(values):
            fields[key] = values[0]
    return InputUnit(
        "file",
        source,
        name,
        duration,
        start=start,
        duration=duration,
        channel=channels[0] if len(channels) == 1 else None,
        fields=fields,
        fault=EMPTY if duration == 0 else "",
    )


def _objects(value: object) -> list[dict[str, Any]]:
    """The objects in a list of JSON; none where there is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _seconds(row: Mapping[str, Any], key: str, where: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if type(value) in (int, float) and 0 <= value < LONGEST_SECONDS:
        return float(value)
    raise _wrong(where, f"its {key} is {value!r}")


def _wrong(where: str, actual: str) -> UsageError:
    return UsageError(
        f"{where[0].upper()}{where[1:]} has to be a row of a NeMo manifest or a Lhotse cut",
        actual,
        "correct it",
    )
