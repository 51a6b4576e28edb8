"""The recipe of a run that joins a trained encoder to a decoder."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic.dataclasses import dataclass

from auris.config import AutConfig, DecoderConfig, Frontend, ProjectorConfig, QwenAsrConfig
from auris.errors import UsageError
from auris.training.base_recipe import STRICT, Share, Size, Steps
from auris.training.recipes import DEFAULT_VOCABULARY, AsrRecipe, RecognizerRecipe, TextForm

SHAPES = {
    "hidden": AsrRecipe.hidden,
    "decoder_layers": AsrRecipe.decoder_layers,
    "decoder_heads": AsrRecipe.decoder_heads,
    "kv_heads": AsrRecipe.kv_heads,
    "head_dim": AsrRecipe.head_dim,
    "decoder_ff": AsrRecipe.decoder_ff,
}
"""Keys with the shapes of a new decoder, and what their absence means."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DecoderRecipe(RecognizerRecipe):
    """A run of `auris train asr --encoder`: a trained encoder, a projector and a decoder.

    The projector is trained first, while encoder and decoder are frozen; from `decoder_from_step`
    on the decoder, too; from `encoder_from_step` on the encoder, at `encoder_rate` times the
    learning rate. The shapes of the encoder are those of its model.
    """

    text: TextForm = "spoken"
    dropout: Share = 0.1
    projector: Literal["linear", "mlp"] | None = None
    vocabulary: Size | None = None
    hidden: Size | None = None
    decoder_layers: Size | None = None
    decoder_heads: Size | None = None
    kv_heads: Size | None = None
    head_dim: Size | None = None
    decoder_ff: Size | None = None
    decoder_from_step: Steps = 200
    encoder_from_step: Steps = 1000
    encoder_rate: Share = 0.1
    ctc_weight: Share = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
            self.encoder_from_step >= self.decoder_from_step,
            "encoder_from_step",
            f"has to be at least decoder_from_step ({self.decoder_from_step})",
        )
        self._require(self.dropout < 1, "dropout", "has to be below 1")

    @property
    def with_head(self) -> bool:
        """Whether the run trains a CTC head."""
        return self.ctc_weight > 0 or self.decoder_from_step > 0

    def check_no_shapes(self, *more: str) -> None:
        """Refuse keys with the shapes of a decoder, and `more` keys, where a model has them."""
        given = [name for name in ("vocabulary", *SHAPES, *more) if getattr(self, name) is not None]
        if given:
            raise UsageError(
                "A recipe has no shapes of what a trained model is used for",
                f"it has {', '.join(given)}, and the run begins with a trained decoder",
                "remove these keys",
            )

    def learning_rate(self, step: int, steps: int) -> float:
        """As of every recipe; the rate also rises anew where a part begins to be trained."""
        rate = super().learning_rate(step, steps)
        begun = [n for n in (self.decoder_from_step, self.encoder_from_step) if 0 < n <= step]
        since = step - max(begun, default=-self.warmup_steps) + 1
        return rate * min(1.0, since / max(1, self.warmup_steps))

    def stages(self, steps: int) -> str:
        """What is trained in which of the steps of a run."""
        parts = ["projector", "decoder", "encoder"]
        firsts = [0, self.decoder_from_step, self.encoder_from_step, steps]
        lines = []
        for number, (first, end) in enumerate(pairwise(firsts), 1):
            last = min(end, steps)
            if first < last:
                trained = ", ".join(parts[:number])
                lines.append(f"steps {first + 1} to {last} train: {trained}")
        return "; ".join(lines)

    def decoder_config(self, vocabulary: int | None = None) -> DecoderConfig:
        """Shapes of a new decoder.

        Args:
            vocabulary: tokens with the control tokens; by default those of the recipe.
        """
        shapes = {name: getattr(self, name) or default for name, default in SHAPES.items()}
        return DecoderConfig(
            vocab=vocabulary or self.vocabulary or DEFAULT_VOCABULARY,
            hidden=shapes["hidden"],
            layers=shapes["decoder_layers"],
            heads=shapes["decoder_heads"],
            kv_heads=shapes["kv_heads"],
            head_dim=shapes["head_dim"],
            ffn=shapes["decoder_ff"],
            rope_theta=1e6,
        )

    def model_config(
        self, encoder: AutConfig, frontend: Frontend, decoder: DecoderConfig, audio_token_id: int
    ) -> QwenAsrConfig:
        """Shapes of the joined model."""
        hidden = None if self.projector == "linear" else encoder.d_model
        return QwenAsrConfig(
            encoder=encoder,
            projector=ProjectorConfig(decoder.hidden, hidden=hidden),
            decoder=decoder,
            audio_token_id=audio_token_id,
            frontend=frontend,
        )
