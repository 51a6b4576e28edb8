"""Options of commands that tell speakers apart by their voices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from auris.cli.declare import SPEAKERS, option
from auris.cli.values import listed, read_known_speakers
from auris.errors import UsageError

if TYPE_CHECKING:
    from auris.diarization.diarizer import Diarizer

LONGEST_NUMBER = 20
"""Digits of a number of speakers that are read; one with more is too large, too."""

SpeakerModel = Annotated[
    str | None,
    option(
        "Encoder that tells speakers apart by voice: CAM++ checkpoint (.safetensors or .pt), "
        "directory of a speaker encoder, or speaker for the bundled one.",
        default="CAM++ of the extra diarize, else the bundled one",
        group=SPEAKERS,
    ),
]


@dataclass(frozen=True)
class VoiceOptions:
    """Whether speakers are told apart by their voices, and how."""

    diarize: Annotated[
        bool,
        option("Tell speakers apart by their voices.", "--diarize", group=SPEAKERS),
    ] = False
    min_speakers: Annotated[
        int | None,
        option("Least number of speakers, with --diarize.", default="1", min=1, group=SPEAKERS),
    ] = None
    max_speakers: Annotated[
        int | None,
        option("Largest number of speakers, with --diarize.", default="any", min=1, group=SPEAKERS),
    ] = None
    known_speakers: Annotated[
        list[str] | None,
        option(
            "A speaker to know by voice, with --diarize: NAME=FILE, or a folder whose files have "
            "the names of their speakers. Repeatable.",
            group=SPEAKERS,
        ),
    ] = None
    speaker_model: SpeakerModel = None

    def check_voices(self) -> None:
        """Refuse options that need --diarize without it."""
        counts = {
            "--min-speakers": self.min_speakers,
            "--max-speakers": self.max_speakers,
            "--known-speakers": self.known_speakers,
            "--speaker-model": self.speaker_model,
        }
        needing = [name for name, value in counts.items() if value is not None]
        if needing and not self.diarize:
            raise UsageError(
                f"{' and '.join(needing)} can be used with --diarize",
                "that option is not given",
                "add --diarize",
            )

    def diarizer(self) -> Diarizer | bool:
        """Load what tells speakers apart; False where they are not."""
        if not self.diarize:
            return False
        from auris.diarization.diarizer import Diarizer

        diarizer = Diarizer.from_pretrained(self.speaker_model)
        return diarizer.with_known(read_known_speakers(self.known_speakers or ()))

    def number_or_names(self, speakers: str | None) -> list[str] | int | None:
        """The value of --speakers."""
        if self.diarize and (match := re.fullmatch(r"\s*([+-]?\d+)\s*", speakers or "")):
            return int(match[1][:LONGEST_NUMBER])
        return listed(speakers)
