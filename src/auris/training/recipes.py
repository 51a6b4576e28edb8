"""Recipes: everything about a training run that is not its data, as one JSON file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from auris.audio.features import FRONTENDS, HOP, WINDOW
from auris.config import (
    CHUNK_FRAMES,
    MAX_WINDOW_FRAMES,
    TOKEN_FRAMES,
    AutConfig,
    AutCtcConfig,
    DecoderConfig,
    Frontend,
    ProjectorConfig,
    QwenAsrConfig,
)
from auris.errors import ConfigError, TrainingError
from auris.training.recipe_values import checked_values, read_values
from auris.types import SAMPLE_RATE

__all__ = ["AsrRecipe", "CtcRecipe", "Recipe", "TextForm", "TuneRecipe"]

MOST_EPOCHS, MOST_RANK = 10_000, 1 << 12

NEVER_NEGATIVE = "wd warmup_steps decay_steps join_copies join_shorter average_over"
SHARES = {"silence_share": 10, "long_share": 1, "context_share": 1}
"""Keys from 0 on, and keys from 0 to a limit."""

DEFAULT_EPOCHS = 10
"""Length of a run whose recipe has neither epochs nor max_steps."""

DEFAULT_UNITS, DEFAULT_VOCABULARY = 384, 768
"""Sizes of the text vocabulary where a recipe has none; of fewer texts, as many as they yield."""

TextForm = Literal["spoken", "written"]
"""Whether texts are brought to `auris.text.normalize.spoken` or kept as they are written."""

AnyRecipe = TypeVar("AnyRecipe", bound="Recipe")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every run has: how long and on what a model is trained.

    Attributes:
        lr, wd, warmup_steps: AdamW with linear warm-up, then half a cosine down to 0.
        decay_steps: length of that half cosine; None for all steps after the warm-up.
        epochs, max_steps: length of the run; at most one of them, by default 10 epochs.
        batch_seconds: audio in a batch, over all processes together.
        gradient_accumulation_steps: batches whose gradients are averaged in one step.
        max_grad_norm: gradients are scaled down to this norm.
        seed: of weights, order, dropout and augmentation.
        val_split: share of the clips that is kept from training and scored as the set `val`.
        use_compile: compile the network; every batch then has one shape: as many rows of
            max_mel_length as batch_seconds allows, padded with silence.
        max_mel_length: longest clip of a compiled run in mel frames of 10 ms; longer ones are cut
            and named in the data report.
        augment_from_epoch: first epoch (from 1) with speed, room, noise, gain and SpecAugment,
            with joined clips and with clips without speech; a model that has not found the
            alignment yet rarely finds it through noise.
        join_shorter, join_most, join_copies: see `auris.training.sampler.short_rows`.
        long_share: share of the clips that an epoch also uses joined, up to `long_seconds`, one
            speaker after another.
        long_seconds: longest such row.
        silence_share: examples without speech (silence, noise, music), as a share of the clips.
        context_share: share of the examples without a prompt of their own that get a context drawn
            from the texts of the run; see `auris.training.contexts`.
        checkpoint_steps: steps between checkpoints; one is also written after every epoch.
        average_over: checkpoints that the mean of the newest ones goes over; 0 keeps no mean.
        bf16: compute in bfloat16 where torch's autocast does; weights stay float32.
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
    def rows(self) -> int:
        """Clips in a batch of a compiled run."""
        return round(100 * self.batch_seconds) // self.max_mel_length

    @property
    def idle_weights(self) -> bool:
        """Whether some weights get no gradient in some steps."""
        return False

    @property
    def text_form(self) -> TextForm:
        """What transcripts are brought to."""
        return "spoken"

    def __post_init__(self) -> None:
        self._require_positive(
            "lr batch_seconds max_grad_norm augment_from_epoch checkpoint_steps join_most "
            "long_seconds gradient_accumulation_steps"
        )
        for name in NEVER_NEGATIVE.split():
            self._require((getattr(self, name) or 0) >= 0, f"{name} must not be negative", name)
        self._require(0 <= self.val_split < 1, "val_split has to lie in [0, 1)", "val_split")
        self._require(
            self.max_mel_length >= 100, "max_mel_length has to be at least 100", "max_mel_length"
        )
        if self.use_compile:
            self._require(
                self.rows > 0,
                f"batch_seconds has to hold a row of max_mel_length ({self.max_mel_length} frames)",
                "batch_seconds",
            )
        for name, most in SHARES.items():
            self._require(0 <= getattr(self, name) <= most, f"{name} lies in 0..{most}", name)
        self._require(self.join_most > 1, "join_most has to be at least 2", "join_most")
        self._require(0 <= self.seed < 1 << 63, "seed has to be from 0 to 2**63 - 1", "seed")
        self._require(
            (self.epochs or 0) <= MOST_EPOCHS, f"epochs are at most {MOST_EPOCHS}", "epochs"
        )
        if self.epochs is None and self.max_steps is None:
            object.__setattr__(self, "epochs", DEFAULT_EPOCHS)
        lengths = [length for length in (self.epochs, self.max_steps) if length is not None]
        if len(lengths) != 1 or lengths[0] <= 0:
            raise TrainingError(
                "epochs or max_steps of a recipe has to be positive, and one of them absent",
                f"they are {self.epochs} and {self.max_steps}",
                "correct the recipe",
            )

    def _require_positive(self, names: str) -> None:
        for name in names.split():
            self._require(getattr(self, name) > 0, f"{name} has to be positive", name)

    def _require(self, holds: bool, rule: str, name: str) -> None:
        if not holds:
            found = f"it is {getattr(self, name)}"
            raise TrainingError(f"in a recipe {rule}", found, "correct the recipe")

    @classmethod
    def read(cls: type[AnyRecipe], path: Path) -> AnyRecipe:
        """The recipe of a JSON file.

        Raises:
            TrainingError: it is no JSON object, has unknown keys, or impossible values.
        """
        return cls.of(read_values(path))

    @classmethod
    def of(cls: type[AnyRecipe], values: Any) -> AnyRecipe:
        """The recipe of a JSON object; absent keys have the defaults above.

        Raises:
            TrainingError: unknown keys, wrong types, or impossible values.
        """
        types = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        return cls(**checked_values(values, types, cls.max_mel_length))

    def to_dict(self) -> dict[str, Any]:
        """Every key with its value, as plain JSON."""
        return dataclasses.asdict(self)

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

    Attributes:
        mel_bins, d_model, n_layers, n_heads, d_ff, conv_channels, dropout: the encoder.
        middle_layer, middle_weight: layer whose states the CTC head scores too, 0 for none, and the
            share of that loss in the CTC loss. Lee and Watanabe, "Intermediate loss
            regularization for CTC-based speech recognition" (2021).
        window_seconds: attention window of the encoder, 1 to 8 whole seconds.
        sample_rate, win_length, hop_length, n_fft: of the log-mel: 16000, 400, 160, and 1024
            (`CtcRecipe`) or 400 (`AsrRecipe`). Others are refused.
        downsample_time, target_hz: mel frames to a token, and tokens a second: 8 and 12.5. Others
            are refused.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
            0 <= self.middle_layer < max(self.n_layers, 1),
            "middle_layer has to lie below n_layers",
            "middle_layer",
        )
        self._require(
            0 <= self.middle_weight < 1, "middle_weight has to lie in [0, 1)", "middle_weight"
        )
        fixed = {
            "sample_rate": SAMPLE_RATE,
            "win_length": WINDOW,
            "hop_length": HOP,
            "downsample_time": TOKEN_FRAMES,
            "target_hz": 100 / TOKEN_FRAMES,
            "n_fft": FRONTENDS[self.frontend].n_fft,
        }
        for name, value in fixed.items():
            given = getattr(self, name)
            self._require(given in (value, None), f"{name} has to be {value:g}", name)
        longest = MAX_WINDOW_FRAMES // CHUNK_FRAMES
        self._require(
            1 <= self.window_seconds <= longest,
            f"window_seconds has to lie in 1..{longest}",
            "window_seconds",
        )

    @property
    def frontend(self) -> Frontend:
        """The log-mel of the model."""
        return "slaney400"

    def _check_shapes(self, build: Callable[[], object]) -> None:
        try:
            build()
        except ConfigError as error:
            raise TrainingError(error.rule, error.found, "correct the recipe") from error

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
    """A run of `auris train ctc`: AuT-Tiny, of the RMSNorm family.

    Attributes:
        stem: "conv2d" (AuT's own, of conv_channels) or "conv1d" (over time only, a ninth of its
            arithmetic at 64 channels).
        batch_norm: norm the stem's convolutions over the batch; folded into them on export.
        units: size of the text vocabulary; by default 384, or as many as the texts yield.
        projector_dim: width of the projector, kept for joining the encoder to a decoder.
    """

    stem: Literal["conv2d", "conv1d"] = "conv2d"
    batch_norm: bool = False
    units: int | None = None
    projector_dim: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.stem in ("conv2d", "conv1d"), "stem is conv2d or conv1d", "stem")
        self._require(self.units is None or self.units > 0, "units has to be positive", "units")
        self._require_positive("projector_dim")
        self._require(self.context_share == 0, "context_share is 0 for CTC", "context_share")
        self._check_shapes(self.model_config)

    @property
    def idle_weights(self) -> bool:
        """The projector takes no part in CTC."""
        return True

    @property
    def frontend(self) -> Frontend:
        """The log-mel of the model."""
        return "htk1024"

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

    Attributes:
        vocabulary: tokens of the byte-level BPE, without the control tokens; by default 768, or as
            many as the texts yield.
        hidden, decoder_layers, decoder_heads, kv_heads, head_dim, decoder_ff: the decoder.
        decoder_from_step: first step (from 0) that also trains the decoder. Before it, the CTC
            loss alone shapes the encoder: a decoder learns nothing from states that say nothing.
        ctc_weight: share of the CTC loss once the decoder is trained, in 0..1.
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
        self._require(
            self.vocabulary is None or self.vocabulary > 0,
            "vocabulary has to be positive",
            "vocabulary",
        )
        self._require_positive("hidden decoder_layers decoder_heads kv_heads head_dim decoder_ff")
        self._require(self.decoder_from_step >= 0, "steps are not negative", "decoder_from_step")
        self._require(
            self.max_steps is None or self.decoder_from_step < self.max_steps,
            "decoder_from_step has to come before max_steps",
            "decoder_from_step",
        )
        self._require(0 <= self.ctc_weight <= 1, "ctc_weight has to lie in 0..1", "ctc_weight")
        self._check_shapes(lambda: self.model_config(None, 0))

    @property
    def with_head(self) -> bool:
        """Whether CTC has a part in the run."""
        return self.ctc_weight > 0 or self.decoder_from_step > 0

    @property
    def idle_weights(self) -> bool:
        """The decoder, before its step."""
        return self.decoder_from_step > 0

    def model_config(self, vocabulary: int | None, audio_token_id: int) -> QwenAsrConfig:
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
    """A run of `auris train asr --model`: a whole checkpoint, trained further.

    Attributes:
        text: "written" keeps the transcripts as they are; "spoken" brings them to lower-case words.
        ctc_weight: share of the CTC loss, for checkpoints that have a CTC head.
        lora_rank: rank of low-rank adapters on every linear layer of the decoder; the rest of the
            model then stays as it is. 0 trains all weights.
        lora_alpha: adapters are scaled by lora_alpha / lora_rank.
    """

    lr: float = 2e-5
    warmup_steps: int = 20
    augment_from_epoch: int = 1_000_000
    text: TextForm = "written"
    ctc_weight: float = 0.0
    lora_rank: int = 0
    lora_alpha: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.text in get_args(TextForm), "text is spoken or written", "text")
        self._require(0 <= self.ctc_weight <= 1, "ctc_weight has to lie in 0..1", "ctc_weight")
        self._require(
            0 <= self.lora_rank <= MOST_RANK, f"lora_rank has to lie in 0..{MOST_RANK}", "lora_rank"
        )
        self._require_positive("lora_alpha")

    @property
    def text_form(self) -> TextForm:
        """As the recipe says."""
        return self.text
