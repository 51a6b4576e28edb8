"""The recipe of a speaker encoder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from auris.config import AutConfig, SpeakerConfig
from auris.errors import ConfigError, TrainingError
from auris.training.base_recipe import STRICT, NotNegative, Positive, Recipe, Share, Size, Steps

DEFAULT_THRESHOLD = 0.4
"""Threshold of an encoder that was trained without development sets."""

MOST_AXES = 32
"""Directions in which the variation of embeddings is measured."""

CropSeconds = Annotated[float, Field(ge=0.5, le=8.0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SpeakerRecipe(Recipe):
    """A run of `auris train speaker`.

    The loss is that of Wang et al., "Additive margin softmax for face verification" (2018).
    """

    mel_bins: Size = 128
    d_model: Size = 192
    n_layers: Size = 4
    n_heads: Size = 3
    d_ff: Size = 768
    conv_channels: Size = 64
    stem: Literal["conv2d", "conv1d"] = "conv2d"
    dropout: Share = 0.05
    middle_layer: Steps = 0
    attention: Size = 64
    embedding: Size = 192
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.2
    scale: Positive = 30.0
    teacher_weight: NotNegative = 0.0
    train_stem: bool = True
    stem_rate: Share = 0.3
    shortest_crop: CropSeconds = 1.0
    longest_crop: CropSeconds = 4.0
    speaker_crops: Size = 20
    noise_share: Share = 0.5
    room_share: Share = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        ordered = self.shortest_crop <= self.longest_crop
        self._require(ordered, "shortest_crop", "may not exceed longest_crop")
        fits = self.batch_seconds >= 2 * self.longest_crop
        self._require(fits, "batch_seconds", "has to hold two crops of longest_crop")
        try:
            self.model_config()
        except ConfigError as error:
            raise TrainingError(error.rule, error.actual, "correct the recipe") from error

    def model_config(self) -> SpeakerConfig:
        """Shapes of the model."""
        encoder = AutConfig(
            mel_bins=self.mel_bins,
            layers=self.n_layers,
            d_model=self.d_model,
            heads=self.n_heads,
            ffn=self.d_ff,
            conv_channels=self.conv_channels,
            dropout=self.dropout,
            norm="rms",
            stem=self.stem,
        )
        return SpeakerConfig(
            encoder,
            self.middle_layer,
            self.attention,
            self.embedding,
            "htk1024",
            DEFAULT_THRESHOLD,
            min(MOST_AXES, self.embedding),
        )
