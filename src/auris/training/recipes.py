"""Recipes: everything about a training run that is not its data, as one JSON file."""

from __future__ import annotations

import dataclasses
import json
import math
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from auris.audio.features import FRONTENDS, HOP, WINDOW
from auris.config import (
    CHUNK_FRAMES,
    MAX_WINDOW_FRAMES,
    TOKEN_FRAMES,
    AutConfig,
    AutCtcConfig,
    DecoderConfig,
    Frontend,
    ModelConfig,
    ProjectorConfig,
    QwenAsrConfig,
)
from auris.errors import ConfigError, TrainingError, UsageError
from auris.training.recipe_values import RULES, TextForm, checked_values
from auris.types import SAMPLE_RATE

DEFAULT_EPOCHS, DEFAULT_WARMUPS = 10, 5
"""Length of a run whose recipe has neither epochs nor max_steps: that many epochs, but at least
that many times its warm-up, since the rate of a shorter run does not reach or does not leave its
height."""

DEFAULT_UNITS, DEFAULT_VOCABULARY = 384, 768
"""Sizes of the text vocabulary where a recipe has none; of fewer texts, as many as they yield."""

AnyRecipe = TypeVar("AnyRecipe", bound="Recipe")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every run has: how long and on what a model is trained.

    docs/training.md describes the keys of every kind of recipe.
    """

    lr: float = 1e-3
    wd: float = 0.01
    warmup_steps: int = 400
    decay_steps: int | None = None
    epochs: int | None = None
    max_steps: int | None = None
    batch_seconds: float = 50.0
    gradient_accumulation_steps: int = 1
    max_grad_norm: float = 1.0
    seed: int = 1
    val_split: float = 0.0
    use_compile: bool = False
    max_mel_length: int = 2048
    augment_from_epoch: int = 4
    join_shorter: float = 1.2
    join_most: int = 6
    join_copies: int = 2
    long_share: float = 0.0
    long_seconds: float = 40.0
    silence_share: float = 0.0
    context_share: float = 0.0
    checkpoint_steps: int = 250
    average_over: int = 0
    bf16: bool = True

    @property
    def longest_seconds(self) -> float:
        """Longest clip of a compiled run; infinite for others."""
        return self.max_mel_length / 100 if self.use_compile else math.inf

    @property
    def padded_frames(self) -> int | None:
        """Mel frames of every clip of a compiled run; None for others."""
        return self.max_mel_length if self.use_compile else None

    @property
    def rows(self) -> int:
        """Clips in a batch of a compiled run."""
        return round(100 * self.batch_seconds) // self.max_mel_length

    def __post_init__(self) -> None:
        for rule, holds, names in RULES:
            for name in names.split():
                value = getattr(self, name, None)
                self._require(value is None or holds(value), name, rule)
        if self.use_compile:
            needed = f"has to hold a row of max_mel_length ({self.max_mel_length} frames)"
            self._require(self.rows > 0, "batch_seconds", needed)
        lengths = [length for length in (self.epochs, self.max_steps) if length is not None]
        if len(lengths) > 1 or any(length <= 0 for length in lengths):
            raise TrainingError(
                "In a recipe epochs or max_steps has to be positive, and the other absent",
                f"they are {self.epochs} and {self.max_steps}",
                "correct the recipe",
            )

    def _require(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            value = f"it is {getattr(self, name)}"
            raise TrainingError(f"In a recipe {name} {rule}", value, "correct the recipe")

    @classmethod
    def read(cls: type[AnyRecipe], path: Path) -> AnyRecipe:
        """The recipe of a JSON file.

        Raises:
            UsageError: there is no such file, or it cannot be opened.
            TrainingError: it is no JSON object, has unknown keys, or impossible values.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise UsageError(
                "A recipe has to be a readable JSON file",
                f"{str(path)!r} cannot be read ({error.strerror})",
                "check the path",
            ) from error
        except (ValueError, RecursionError) as error:
            raise TrainingError(
                "A recipe has to be a readable JSON file", f"{path}: {error}", "check the path"
            ) from error
        return cls.of(values)

    @classmethod
    def of(cls: type[AnyRecipe], values: Any) -> AnyRecipe:
        """The recipe of a JSON object; absent keys have the defaults above.

        Raises:
            TrainingError: unknown keys, wrong types, or impossible values.
        """
        types = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        return cls(**checked_values(values, types, cls.max_mel_length))

    def learning_rate(self, step: int, steps: int) -> float:
        """Rate of step `step` (from 0) of `steps`."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        after = steps - self.warmup_steps
        decay = after if self.decay_steps is None else min(self.decay_steps, after)
        progress = (step - (steps - decay)) / max(1, decay)
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, progress))))


@dataclass(frozen=True, kw_only=True)
class ShapedRecipe(Recipe):
    """A run that begins with fresh weights, and so says what shapes they have.

    `middle_layer`: Lee and Watanabe, "Intermediate loss regularization for CTC-based speech
    recognition" (2021).
    """

    sample_rate: int = SAMPLE_RATE
    win_length: int = WINDOW
    hop_length: int = HOP
    n_fft: int | None = None
    mel_bins: int = 128
    downsample_time: int = TOKEN_FRAMES
    target_hz: float = 100 / TOKEN_FRAMES
    window_seconds: int = MAX_WINDOW_FRAMES // CHUNK_FRAMES
    d_model: int = 192
    n_layers: int = 4
    n_heads: int = 3
    d_ff: int = 768
    conv_channels: int = 64
    dropout: float = 0.1
    middle_layer: int = 0
    middle_weight: float = 0.3

    frontend: ClassVar[Frontend] = "slaney400"

    def __post_init__(self) -> None:
        super().__post_init__()
        below = 0 <= self.middle_layer < max(self.n_layers, 1)
        self._require(below, "middle_layer", "has to lie below n_layers")
        size = FRONTENDS[self.frontend].n_fft
        self._require(self.n_fft in (size, None), "n_fft", f"has to be {size}")
        try:
            self.model_config()
        except ConfigError as error:
            raise TrainingError(error.rule, error.actual, "correct the recipe") from error

    @abstractmethod
    def model_config(self) -> ModelConfig:
        """Shapes of the model."""

    @property
    def depths(self) -> dict[int, float]:
        """Layers whose states the CTC head scores, and the share of each in the loss."""
        if self.middle_layer == 0:
            return {self.n_layers: 1.0}
        return {self.middle_layer: self.middle_weight, self.n_layers: 1.0 - self.middle_weight}

    def encoder_config(self, **family: Any) -> AutConfig:
        """Shapes of the encoder, with what distinguishes its family."""
        return AutConfig(
            mel_bins=self.mel_bins,
            layers=self.n_layers,
            d_model=self.d_model,
            heads=self.n_heads,
            ffn=self.d_ff,
            conv_channels=self.conv_channels,
            dropout=self.dropout,
            window_frames=CHUNK_FRAMES * self.window_seconds,
            **family,
        )


@dataclass(frozen=True, kw_only=True)
class CtcRecipe(ShapedRecipe):
    """A run of `auris train ctc`: AuT-Tiny, of the RMSNorm family."""

    stem: Literal["conv2d", "conv1d"] = "conv2d"
    batch_norm: bool = False
    units: int | None = None
    projector_dim: int = 256

    frontend: ClassVar[Frontend] = "htk1024"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.context_share == 0, "context_share", "is 0 for CTC")

    def model_config(self, units: int | None = None) -> AutCtcConfig:
        """Shapes of the model.

        Args:
            units: size of the text vocabulary; by default that of the recipe.
        """
        return AutCtcConfig(
            encoder=self.encoder_config(norm="rms", stem=self.stem, batch_norm=self.batch_norm),
            units=units or self.units or DEFAULT_UNITS,
            projector=ProjectorConfig(self.projector_dim, bias=False),
            frontend=self.frontend,
        )


@dataclass(frozen=True, kw_only=True)
class AsrRecipe(ShapedRecipe):
    """A run of `auris train asr`: a Qwen3-ASR model in the official architecture.

    Before `decoder_from_step` the CTC loss alone shapes the encoder: a decoder learns nothing from
    states that say nothing.
    """

    vocabulary: int | None = None
    hidden: int = 256
    decoder_layers: int = 4
    decoder_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    decoder_ff: int = 768
    decoder_from_step: int = 0
    ctc_weight: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        before = self.max_steps is None or self.decoder_from_step < self.max_steps
        self._require(before, "decoder_from_step", "has to come before max_steps")

    @property
    def with_head(self) -> bool:
        """Whether CTC has a part in the run."""
        return self.ctc_weight > 0 or self.decoder_from_step > 0

    def model_config(self, vocabulary: int | None = None, audio_token_id: int = 0) -> QwenAsrConfig:
        """Shapes of the model.

        Args:
            vocabulary: tokens with the control tokens; by default those of the recipe.
            audio_token_id: id of an audio slot.
        """
        return QwenAsrConfig(
            encoder=self.encoder_config(),
            projector=ProjectorConfig(out=self.hidden, hidden=self.d_model),
            decoder=DecoderConfig(
                vocab=vocabulary or self.vocabulary or DEFAULT_VOCABULARY,
                hidden=self.hidden,
                layers=self.decoder_layers,
                heads=self.decoder_heads,
                kv_heads=self.kv_heads,
                head_dim=self.head_dim,
                ffn=self.decoder_ff,
                rope_theta=1e6,
            ),
            audio_token_id=audio_token_id,
        )


@dataclass(frozen=True, kw_only=True)
class TuneRecipe(Recipe):
    """A run of `auris train asr --model`: a whole checkpoint, trained further."""

    lr: float = 2e-5
    warmup_steps: int = 20
    augment_from_epoch: int = 1_000_000
    text: TextForm = "written"
    ctc_weight: float = 0.0
    lora_rank: int = 0
    lora_alpha: float = 16.0

    decoder_from_step: ClassVar[int] = 0

    @property
    def with_head(self) -> bool:
        """Whether CTC has a part in the run."""
        return self.ctc_weight > 0
