"""Speaker encoders with the features that they need."""

from __future__ import annotations

import torch
from torch import Tensor

from auris.audio.features import filter_banks, log_mel
from auris.diarization.voice_model import VoiceSpace
from auris.models.campplus import CamPlusPlus
from auris.models.speaker_encoder import SpeakerEncoder


class FilterBankEncoder:
    """CAM++ with filter banks; an `Encoder`."""

    def __init__(self, network: CamPlusPlus) -> None:
        self._network = network
        self.width = network.width

    def features(self, samples: Tensor) -> Tensor:
        """Log filter banks, float32 [frames, 80]."""
        return filter_banks(samples)

    def embed(self, features: Tensor) -> Tensor:
        """The embedding of some frames."""
        return self._network.embed(features)


class LogMelEncoder:
    """The own speaker encoder with log-mels; an `Encoder`."""

    def __init__(self, network: SpeakerEncoder) -> None:
        self._network = network.eval()
        self.width = network.width

    def features(self, samples: Tensor) -> Tensor:
        """Log-mel, float32 [frames, bins]."""
        config = self._network.config
        return log_mel(samples, config.frontend, config.encoder.mel_bins).T

    @torch.inference_mode()
    def embed(self, features: Tensor) -> Tensor:
        """The embedding of some frames."""
        embedding: Tensor = self._network([features.T])[0]
        return embedding


def voice_space(network: SpeakerEncoder) -> VoiceSpace | None:
    """Where its embeddings lie; None if that was not fitted."""
    voices = network.voices
    if voices is None:
        return None
    return VoiceSpace(voices.mean.numpy(), voices.axes.numpy(), voices.variances.numpy())
