"""A job as it is shown, and its segments as they are stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from auris.server.transcription_request import TranscriptionRequest
from auris.types import Retry, Segment, Word

__all__ = ["COLUMNS", "Job", "Status", "segment_from_json"]

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

COLUMNS = "id, owner, created, status, asked, seconds, done, finished, error, model, attempts"
"""Of the table of jobs, in the order in which `Job.from_row` takes them."""


@dataclass(frozen=True)
class Job:
    """A job; times are seconds since 1970, lengths seconds of audio.

    Attributes:
        model: digest of the model that it is for.
        attempts: how often it was begun since it last made progress.
    """

    id: str
    owner: str
    created: float
    status: Status
    asked: TranscriptionRequest
    seconds: float | None
    done: float
    finished: float | None
    error: dict[str, Any] | None
    model: str
    attempts: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Job:
        """A row of `COLUMNS`."""
        name, owner, created, status, asked, seconds, done, finished, error, *others = row
        request = TranscriptionRequest.model_validate_json(asked)
        reason = None if error is None else json.loads(error)
        return cls(name, owner, created, status, request, seconds, done, finished, reason, *others)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status not in ("queued", "running")

    def to_dict(self) -> dict[str, Any]:
        """The job as the API shows it."""
        return {
            "id": self.id,
            "object": "transcription.job",
            "created_at": int(self.created),
            "finished_at": None if self.finished is None else int(self.finished),
            "status": self.status,
            "model": self.asked.model,
            "response_format": self.asked.response_format,
            "progress": {
                "seconds_done": round(self.done, 3),
                "seconds_total": None if self.seconds is None else round(self.seconds, 3),
            },
            "error": self.error,
        }


def _frozen(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def segment_from_json(content: Mapping[str, Any]) -> Segment:
    """The segment whose fields were written as JSON."""
    fields = {name: _frozen(value) for name, value in content.items()}
    if fields["words"] is not None:
        fields["words"] = tuple(Word(**word) for word in fields["words"])
    fields["retries"] = tuple(
        Retry(**{name: _frozen(value) for name, value in retry.items()})
        for retry in fields["retries"]
    )
    return Segment(**fields)
