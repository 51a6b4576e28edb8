"""Recipes of recognizers: everything about a run that is not its data, as one JSON file."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from auris.audio.features import FRONTENDS, HOP, WINDOW
from auris.config import (
    CONV_BLOCK_FRAMES,
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
from auris.errors import ConfigError, TrainingError
from auris.training.base_recipe import (
    LARGEST,
    STRICT,
    NotNegative,
    Positive,
    Recipe,
    Share,
    Size,
    Steps,
    wrong_value,
)
from auris.training.corpus.settings import CorpusReading
from auris.types import SAMPLE_RATE

DEFAULT_EPOCHS, DEFAULT_WARMUPS = 10, 5
"""Length of a run whose recipe has neither epochs nor max_steps: that many epochs, but at least
that many times its warm-up, so that the learning rate rises to its maximum and falls again."""

DEFAULT_UNITS, DEFAULT_VOCABULARY = 384, 768
"""Sizes of the text vocabulary where a recipe has none; of fewer texts, as many as they yield."""

LONGEST_WINDOW = MAX_WINDOW_FRAMES // CONV_BLOCK_FRAMES
"""Seconds of the longest attention window."""

FORMER_KEYS = {"hush_share": "silence_share"}
"""Present names of keys that older recipes have under another name."""

TextForm = Literal["spoken", "written"]
"""Whether texts are brought to `auris.text.normalize.spoken` or kept as they are written."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RecognizerRecipe(Recipe):
    """A run that trains a recognizer: which examples are made of the clips, and how many are held
    out."""

    val_split: Annotated[float, Field(ge=0, lt=1)] = 0.0
    use_compile: bool = False
    max_mel_length: Annotated[int, Field(ge=100, le=LARGEST)] = 2048
    augment_from_epoch: Size = 4
    join_shorter: NotNegative = 1.2
    join_most: Annotated[int, Field(ge=2, le=LARGEST)] = 6
    join_copies: Steps = 2
    long_share: Share = 0.0
    long_seconds: Positive = 40.0
    silence_share: Annotated[float, Field(ge=0, le=10)] = 0.0
    context_share: Share = 0.0
    gradient_checkpointing: bool = False
    corpus: CorpusReading = CorpusReading()

    @property
    def of_part(self) -> RecognizerRecipe:
        """The recipe with the audio of a part of a batch of a run that reads a corpus."""
        return replace(self, batch_seconds=self.batch_seconds / self.corpus.batch_parts)

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
        super().__post_init__()
        if self.use_compile:
            needed = f"has to hold a row of max_mel_length ({self.max_mel_length} frames)"
            self._require(self.rows > 0, "batch_seconds", needed)
            rule = "has to be false with use_compile"
            self._require(not self.gradient_checkpointing, "gradient_checkpointing", rule)

    @classmethod
    def _with_present_keys(cls, values: dict[str, Any]) -> dict[str, Any]:
        present = _with_batch_seconds(_with_present_names(values), cls.max_mel_length)
        if not isinstance(present.get("corpus", CorpusReading()), CorpusReading):
            present["corpus"] = CorpusReading.of(present["corpus"])
        return present


def _with_present_names(values: dict[str, Any]) -> dict[str, Any]:
    for former, name in FORMER_KEYS.items():
        if {former, name} <= values.keys():
            raise TrainingError(
                "A recipe may hold every key once",
                f"it has {name} under its present and its former name",
                "remove one of them",
            )
    return {FORMER_KEYS.get(name, name): value for name, value in values.items()}


def _with_batch_seconds(values: dict[str, Any], default_frames: int) -> dict[str, Any]:
    """The values with batch_seconds in place of batch_size, which counts clips."""
    if "batch_size" not in values:
        return values
    size, frames = values.pop("batch_size"), values.get("max_mel_length", default_frames)
    if type(size) is not int or not 0 < size <= LARGEST or "batch_seconds" in values:
        both = ", together with batch_seconds" if "batch_seconds" in values else ""
        rule = "has to be a positive integer, and replaces batch_seconds"
        raise wrong_value("batch_size", rule, f"{size!r}{both}")
    if type(frames) is int and frames <= LARGEST:  # Others are refused with max_mel_length.
        values["batch_seconds"] = size * frames / 100
    return values


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ShapedRecipe(RecognizerRecipe):
    """A run that begins with fresh weights; the recipe has their shapes.

    `middle_layer`: Lee and Watanabe, "Intermediate loss regularization for CTC-based speech
    recognition" (2021).
    """

    sample_rate: int = SAMPLE_RATE
    win_length: int = WINDOW
    hop_length: int = HOP
    n_fft: int | None = None
    mel_bins: Size = 128
    downsample_time: int = TOKEN_FRAMES
    target_hz: float = 100 / TOKEN_FRAMES
    window_seconds: Annotated[int, Field(ge=1, le=LONGEST_WINDOW)] = LONGEST_WINDOW
    d_model: Size = 192
    n_layers: Size = 4
    n_heads: Size = 3
    d_ff: Size = 768
    conv_channels: Size = 64
    dropout: Share = 0.1
    middle_layer: Steps = 0
    middle_weight: Annotated[float, Field(ge=0, lt=1)] = 0.3

    frontend: ClassVar[Frontend] = "slaney400"

    def __post_init__(self) -> None:
        super().__post_init__()
        fixed = {
            "sample_rate": SAMPLE_RATE,
            "win_length": WINDOW,
            "hop_length": HOP,
            "n_fft": FRONTENDS[self.frontend].n_fft,
            "downsample_time": TOKEN_FRAMES,
            "target_hz": 100 / TOKEN_FRAMES,
        }
        for name, value in fixed.items():
            self._require(getattr(self, name) in (value, None), name, f"has to be {value}")
        self._require(
            self.middle_layer < self.n_layers, "middle_layer", "has to lie below n_layers"
        )
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
            window_frames=CONV_BLOCK_FRAMES * self.window_seconds,
            **family,
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CtcRecipe(ShapedRecipe):
    """A run of `auris train ctc`: AuT-Tiny, of the RMSNorm family."""

    stem: Literal["conv2d", "conv1d"] = "conv2d"
    batch_norm: bool = False
    units: Size | None = None
    projector_dim: Size = 256

    frontend: ClassVar[Frontend] = "htk1024"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.context_share == 0, "context_share", "has to be 0 for CTC")

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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AsrRecipe(ShapedRecipe):
    """A run of `auris train asr`: a Qwen3-ASR model in the official architecture.

    Before `decoder_from_step` the CTC loss alone trains the encoder: a decoder learns nothing from
    the states of an untrained encoder.
    """

    vocabulary: Size | None = None
    hidden: Size = 256
    decoder_layers: Size = 4
    decoder_heads: Size = 4
    kv_heads: Size = 2
    head_dim: Size = 64
    decoder_ff: Size = 768
    decoder_from_step: Steps = 0
    ctc_weight: Share = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        before = self.max_steps is None or self.decoder_from_step < self.max_steps
        self._require(before, "decoder_from_step", "has to come before max_steps")

    @property
    def with_head(self) -> bool:
        """Whether the run trains a CTC head."""
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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TuneRecipe(RecognizerRecipe):
    """A run of `auris train asr --model`, which fine-tunes a checkpoint."""

    lr: Positive = 2e-5
    warmup_steps: Steps = 20
    augment_from_epoch: Size = 1_000_000
    text: TextForm = "written"
    ctc_weight: Share = 0.0
    lora_rank: Annotated[int, Field(ge=0, le=1 << 12)] = 0
    lora_alpha: Positive = 16.0

    decoder_from_step: ClassVar[int] = 0

    @property
    def with_head(self) -> bool:
        """Whether the run trains a CTC head."""
        return self.ctc_weight > 0
