"""Known speakers: the voices of reference recordings, and who of them speaks in a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auris.diarization.windows import VoiceWindow
from auris.errors import AudioError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class KnownVoice:
    """A speaker with a name.

    Attributes:
        embedding: mean of the embeddings of the reference. Its length is below 1, the less alike
            they are, so that products of such means are mean similarities of their members.
    """

    name: str
    embedding: Floats

    @classmethod
    def of(cls, name: str, windows: Sequence[VoiceWindow]) -> KnownVoice:
        """The voice of a reference recording.

        Raises:
            AudioError: nobody speaks in it.
        """
        embeddings = [window.embeddings for window in windows if window.frames.any()]
        if not embeddings:
            raise AudioError(
                "The recording of a known speaker has to hold speech",
                f"in that of {name!r} nobody speaks",
                "name one in which the speaker speaks for some seconds",
            )
        everybody = [np.zeros(len(window.frames), np.int64) for window in windows]
        return cls(name, mean_embeddings(windows, everybody, 1)[0])


def mean_embeddings(
    windows: Sequence[VoiceWindow], labels: Sequence[NDArray[np.int64]], speakers: int
) -> Floats:
    """The mean embedding of each speaker, float32 [speakers, width], by the frames of stretches."""
    width = max((window.embeddings.shape[1] for window in windows), default=0)
    sums, frames = np.zeros((speakers, width)), np.zeros((speakers, 1))
    for window, speaker in zip(windows, labels, strict=True):
        used = window.frames > 0
        weights = window.frames[used, None].astype(np.float64)
        np.add.at(sums, speaker[used], weights * window.embeddings[used])
        np.add.at(frames, speaker[used], weights)
    return np.asarray(sums / np.maximum(frames, 1.0), np.float32)


def names_of(speakers: Floats, voices: Sequence[KnownVoice], threshold: float) -> dict[int, str]:
    """The names of speakers who are known: the most similar ones first, none twice.

    Args:
        speakers: mean embeddings, float32 [speakers, width].
        threshold: smallest mean similarity of one voice, as of clustering.
    """
    if not len(speakers) or not voices:
        return {}
    similarities = speakers @ np.stack([voice.embedding for voice in voices]).T
    names: dict[int, str] = {}
    while (similarities >= threshold).any():
        speaker, voice = np.unravel_index(int(similarities.argmax()), similarities.shape)
        names[int(speaker)] = voices[int(voice)].name
        similarities[speaker], similarities[:, voice] = -np.inf, -np.inf
    return names
