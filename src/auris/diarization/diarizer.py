"""`Diarizer`: who speaks when in a recording, by voice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auris.audio.io import Source, stream
from auris.diarization.clustering import clustered
from auris.diarization.known import KnownVoice, mean_embeddings, names_of
from auris.diarization.load import SpeakerNetworks, load_networks
from auris.diarization.turns import active_speakers, numbers, turns_of
from auris.diarization.windows import FRAME, WINDOW_FRAMES, VoiceWindow
from auris.errors import UsageError
from auris.recognition.load import check_count
from auris.recognition.options import VoiceDiarizer
from auris.text.wrap import one_line
from auris.types import SAMPLE_RATE, Samples, SpeakerTurn

MOST_SPEAKERS = 100


@dataclass(frozen=True)
class SpeakerCount:
    """How many speakers a recording has.

    Attributes:
        least, most: limits; most is None without a limit.
        names: of the speakers, in the order in which they begin to speak; None for numbers.

    Raises:
        UsageError: the limits contradict each other.
    """

    least: int = 1
    most: int | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_count("min_speakers", self.least, MOST_SPEAKERS)
        if self.most is not None:
            check_count("max_speakers", self.most, MOST_SPEAKERS)
            if self.most < self.least:
                raise UsageError(
                    "max_speakers has to be at least min_speakers",
                    f"they are {self.most} and {self.least}",
                    "correct one of them",
                )

    @classmethod
    def of(
        cls,
        speakers: int | Sequence[str] | None,
        least: int | None = None,
        most: int | None = None,
    ) -> SpeakerCount:
        """The count of a call's options: a number or names, or limits."""
        if speakers is None:
            return cls(1 if least is None else least, most)
        if least is not None or most is not None:
            raise UsageError(
                "speakers excludes min_speakers and max_speakers",
                "both are given",
                "give the number, or its limits",
            )
        if isinstance(speakers, int):
            check_count("speakers", speakers, MOST_SPEAKERS)
            return cls(speakers, speakers)
        named = not isinstance(speakers, str) and all(
            isinstance(name, str) and name.strip() for name in speakers
        )
        if not named or not speakers or len(set(speakers)) < len(speakers):
            raise UsageError(
                "The names of speakers have to differ, and none may be empty",
                f"they are {speakers!r}",
                "give a name for each speaker, or their number",
            )
        return cls(len(speakers), len(speakers), tuple(map(one_line, speakers)))


ANY_COUNT = SpeakerCount()


class DiarizationSession:
    """The diarization of one recording, whose samples are fed in any blocks.

    Args:
        voices: known speakers.
        names: makes the names of the others.
    """

    def __init__(
        self,
        networks: SpeakerNetworks,
        count: SpeakerCount,
        voices: Sequence[KnownVoice] = (),
        names: Callable[[], Iterator[str]] = numbers,
    ) -> None:
        self._networks, self._count = networks, count
        self._voices, self._names = voices, names
        self._reader = networks.reader()
        self._windows: list[VoiceWindow] = []
        self._begin: int | None = None
        self._end = 0
        self.warnings: tuple[str, ...] = ()

    def feed(self, start: int, samples: Samples) -> None:
        """Add samples from number `start` of the recording on; what lies between is silent."""
        if self._begin is None:
            self._begin = self._end = start
        while self._end < start:
            count = min(start - self._end, WINDOW_FRAMES * FRAME)
            self._windows += self._reader.feed(np.zeros(count, np.float32))
            self._end += count
        self._windows += self._reader.feed(samples)
        self._end += len(samples)

    def finish(self) -> list[SpeakerTurn]:
        """The turns of all speakers, by their starts, in seconds of the recording so far."""
        windows, count = [*self._windows, *self._reader.finish()], self._count
        labels, centers = clustered(windows, self._networks.settings, count.least, count.most)
        blocks = active_speakers(windows, labels, len(centers))
        begin = (self._begin or 0) / SAMPLE_RATE
        means = mean_embeddings(windows, labels, len(centers))
        known = names_of(means, self._voices, self._networks.settings.threshold)
        names = count.names or self._names()
        turns = turns_of(blocks, len(centers), begin, names, known)
        present = len({turn.speaker for turn in turns})
        if present < count.least and count.least > 1:
            self.warnings = (
                f"{count.least} speakers were requested, and {present} could be told apart",
            )
        return turns


class Diarizer(VoiceDiarizer):
    """Tells the speakers of recordings apart by their voices. Build one with `from_pretrained`.

    Attributes:
        networks: what tells voices apart.
        voices: known speakers, see `with_known`.
        names: makes the names of the others, in the order in which they begin to speak.
    """

    def __init__(
        self,
        networks: SpeakerNetworks,
        voices: Sequence[KnownVoice] = (),
        names: Callable[[], Iterator[str]] = numbers,
    ) -> None:
        self.networks, self.voices, self.names = networks, tuple(voices), names

    @classmethod
    def from_pretrained(cls, speaker_model: str | Path | None = None) -> Diarizer:
        """Load the networks; arguments and errors are those of `load_networks`."""
        return cls(load_networks(speaker_model))

    def with_known(self, speakers: Mapping[str, Source]) -> Diarizer:
        """A diarizer that knows some speakers, whose turns then have their names.

        Args:
            speakers: by name a recording in which nobody else speaks, of some seconds.

        Raises:
            AudioError: a recording cannot be read, or nobody speaks in it.
            UsageError: a name is empty.
        """
        if not all(isinstance(name, str) and name.strip() for name in speakers):
            raise UsageError(
                "The name of a known speaker may not be empty",
                f"the names are {list(speakers)!r}",
                "give each speaker a name",
            )
        voices = [self._voice(one_line(name), audio) for name, audio in speakers.items()]
        return Diarizer(self.networks, voices, self.names)

    def _voice(self, name: str, audio: Source) -> KnownVoice:
        reader = self.networks.reader()
        windows = [window for block in _blocks(audio) for window in reader.feed(block)]
        return KnownVoice.of(name, [*windows, *reader.finish()])

    @property
    def values(self) -> Mapping[str, Any]:
        """What can change its results, as plain values."""
        values: dict[str, Any] = {"speaker_model": self.networks.digest}
        if self.voices:
            values["known"] = {
                voice.name: hashlib.sha256(voice.embedding.tobytes()).hexdigest()
                for voice in self.voices
            }
        return values

    def check(self, count: SpeakerCount) -> None:
        """Refuse names of speakers in their order where speakers are known by voice."""
        if self.voices and count.names is not None:
            raise UsageError(
                "Speakers get their names either from their voices or from their order",
                "there are known speakers, and names in speakers as well",
                "give the number of speakers (--speakers), or leave it out",
            )

    def session(self, count: SpeakerCount = ANY_COUNT) -> DiarizationSession:
        """Begin a recording; wrong names are refused, see `check`."""
        self.check(count)
        return DiarizationSession(self.networks, count, self.voices, self.names)

    def diarize(
        self,
        audio: Source,
        speakers: int | Sequence[str] | None = None,
        *,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        start: float = 0.0,
        duration: float | None = None,
    ) -> list[SpeakerTurn]:
        """Who speaks when in a recording.

        Args:
            audio: a path, an http or https address, a data URI, "-" (standard input), bytes, a
                binary file or (array, rate).
            speakers: how many there are, or their names in the order in which they begin to speak.
            min_speakers: least number of them (1).
            max_speakers: largest number of them; None for no limit.
            start: beginning of the span of the recording, in seconds.
            duration: its length in seconds; None for the rest.

        Returns:
            turns by their starts; none of a recording without speech.

        Raises:
            AudioError: the recording cannot be read.
            UsageError: the numbers contradict each other.
        """
        session = self.session(SpeakerCount.of(speakers, min_speakers, max_speakers))
        position = round(start * SAMPLE_RATE)
        for block in _blocks(audio, start, duration):
            session.feed(position, block)
            position += len(block)
        return session.finish()


def _blocks(audio: Source, start: float = 0.0, duration: float | None = None) -> Iterator[Samples]:
    for block in stream(audio, start=start, duration=duration):
        yield block[0]
