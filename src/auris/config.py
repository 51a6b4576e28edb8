"""Model configurations, and the numbers of audio tokens and text tokens.

A configuration has the shapes of a model under the names of this package; `auris.checkpoints` knows
other spellings. It is checked when it is made, so a model is never built from impossible numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auris.errors import ConfigError

CONV_BLOCK_FRAMES = 100
"""Mel frames (10 ms each) of a conv block: one second."""

LARGEST_SIZE = 1 << 20
"""Largest size in a configuration. It is far larger than any model needs, and small enough that a
wrong number is an error at once."""

LARGEST = {"layers": 1 << 10, "rope_theta": 1e30}
"""Sizes with other limits."""

MAX_WINDOW_FRAMES = 800
"""Widest attention window of the encoder, in mel frames: eight seconds."""

Frontend = Literal["slaney400", "htk1024"]
"""The log-mel of a model: Qwen3-ASR's, or AuT-Tiny's with its finer FFT."""

TOKENS_PER_SECOND = 16
"""Token budget for every second of audio, about three times the fastest speech."""

BASE_TOKENS = 64
"""Additional token budget of a chunk, for the language tag and for very short chunks."""


def _halved(length: int) -> int:
    """Length after a convolution of stride 2 with a kernel of 2 * padding + 1."""
    return (length + 1) // 2


def audio_tokens(frames: int) -> int:
    """Number of encoder tokens for `frames` mel frames.

    Each conv block of 100 frames is convolved separately and gives 13 tokens, 100 / 8 rounded up.
    The last conv block of r frames gives ceil(ceil(ceil(r / 2) / 2) / 2).
    """
    full, rest = divmod(frames, CONV_BLOCK_FRAMES)
    return full * CONV_BLOCK_TOKENS + _halved(_halved(_halved(rest)))


CONV_BLOCK_TOKENS = _halved(_halved(_halved(CONV_BLOCK_FRAMES)))
"""Tokens of a whole conv block: 13."""

FRAME_SECONDS = 0.01
TOKEN_FRAMES = 8
"""Mel frames from one token to the next inside a conv block: three convolutions of stride 2."""


def token_budget(seconds: float) -> int:
    """Maximum number of tokens of a chunk's text, unless a caller sets another budget."""
    return BASE_TOKENS + int(TOKENS_PER_SECOND * seconds)


def token_centre(index: int) -> float:
    """Seconds from the beginning of a clip to the centre of encoder token `index`.

    Kernels are centred, so token j of a conv block is centred on its mel frame 8 j. The last token
    of a conv block and the first of the next are 40 ms apart, all others 80 ms.
    """
    block, position = divmod(index, CONV_BLOCK_TOKENS)
    return FRAME_SECONDS * (block * CONV_BLOCK_FRAMES + position * TOKEN_FRAMES)


def token_border(index: int) -> float:
    """Seconds from the beginning of a clip to the border between tokens `index` - 1 and `index`,
    midway between their centres."""
    return (token_centre(index - 1) + token_centre(index)) / 2 if index > 0 else 0.0


def _require(
    holds: bool, rule: str, actual: str, remedy: str = "correct the checkpoint's config.json"
) -> None:
    if not holds:
        raise ConfigError(rule, actual, remedy)


def _require_sizes(owner: str, **sizes: float) -> None:
    for name, size in sizes.items():
        most = LARGEST.get(name, LARGEST_SIZE)
        _require(
            0 < size <= most,
            f"{name} of the {owner} has to be positive and at most {most}",
            f"it is {size}",
        )


def _require_fields(owner: str, config: object, *names: str) -> None:
    _require_sizes(owner, **{name: getattr(config, name) for name in names})


@dataclass(frozen=True)
class AutConfig:
    """Shapes of an AuT audio encoder.

    Attributes:
        mel_bins: height of the log-mel.
        layers, d_model, heads, ffn: the transformer.
        conv_channels: channels of each of the three stride-2 convolutions of the conv2d stem;
            conv1d has widths of its own and does not use it.
        window_frames: attention window in mel frames, a multiple of 100 from 100 to 800.
        norm: "layer" (LayerNorm, the published family) or "rms" (RMSNorm, AuT-Tiny).
        norm_eps: epsilon of the norms.
        dropout: applied in training only.
        stem: "conv2d" (over time and frequency, the published one) or "conv1d" (over time only,
            cheaper); both yield the tokens of `audio_tokens`.
        batch_norm: whether a batch norm follows each convolution of the stem; in training only,
            since files hold models with batch norms folded (`auris.models.folding`).
    """

    mel_bins: int
    layers: int
    d_model: int
    heads: int
    ffn: int
    conv_channels: int
    window_frames: int = MAX_WINDOW_FRAMES
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-5
    dropout: float = 0.0
    stem: Literal["conv2d", "conv1d"] = "conv2d"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        _require_fields(
            "audio encoder",
            self,
            *("mel_bins", "layers", "d_model", "heads", "ffn", "conv_channels", "norm_eps"),
        )
        _require(
            self.d_model % self.heads == 0 and self.d_model % 2 == 0,
            "d_model of the audio encoder has to be even and a multiple of its heads",
            f"d_model is {self.d_model} with {self.heads} heads",
        )
        _require(
            self.window_frames
            in range(CONV_BLOCK_FRAMES, MAX_WINDOW_FRAMES + 1, CONV_BLOCK_FRAMES),
            "the attention window (n_window_infer) has to be a multiple of 100 frames from 100 "
            "to 800, since windows are made of conv blocks of one second",
            f"it is {self.window_frames}",
            "choose 100, 200, ... or 800",
        )
        _require(
            self.norm in ("layer", "rms"),
            "the encoder's norm has to be 'layer' or 'rms'",
            f"it is {self.norm!r}",
        )
        _require(
            0.0 <= self.dropout < 1.0,
            "dropout has to lie in [0, 1)",
            f"it is {self.dropout}",
            "correct the config",
        )
        _require(
            self.stem in ("conv2d", "conv1d"),
            "the encoder's stem has to be 'conv2d' or 'conv1d'",
            f"it is {self.stem!r}",
        )

    @property
    def window_tokens(self) -> int:
        """Attention window in tokens: 104 for eight seconds."""
        return self.window_frames // CONV_BLOCK_FRAMES * CONV_BLOCK_TOKENS

    @property
    def conv_height(self) -> int:
        """Frequency rows left after the three convolutions of the conv2d stem."""
        return _halved(_halved(_halved(self.mel_bins)))


@dataclass(frozen=True)
class ProjectorConfig:
    """From encoder width to decoder width.

    Attributes:
        out: output width.
        hidden: width between two linear layers with GELU, or None for a single linear layer.
        bias: whether the linear layers have biases.
        layer_norm: whether a LayerNorm follows.
    """

    out: int
    hidden: int | None = None
    bias: bool = True
    layer_norm: bool = False

    def __post_init__(self) -> None:
        _require_sizes("projector", out=self.out)
        if self.hidden is not None:
            _require_sizes("projector", hidden=self.hidden)


@dataclass(frozen=True)
class DecoderConfig:
    """Shapes of a Qwen3 decoder. `head_dim` is given, never hidden / heads."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    rope_theta: float
    rms_eps: float = 1e-6
    tied: bool = True

    def __post_init__(self) -> None:
        _require_fields(
            "decoder",
            self,
            *("vocab", "hidden", "layers", "heads", "kv_heads", "head_dim", "ffn"),
            *("rope_theta", "rms_eps"),
        )
        _require(
            self.heads % self.kv_heads == 0,
            "the decoder's heads have to be a multiple of its key-value heads",
            f"there are {self.heads} and {self.kv_heads}",
        )
        _require_sizes("decoder", **{"heads * head_dim": self.heads * self.head_dim})
        _require(
            self.head_dim % 2 == 0,
            "head_dim has to be even, since rotary positions rotate pairs",
            f"it is {self.head_dim}",
        )


@dataclass(frozen=True)
class PromptedConfig:
    """A model with audio slots in its prompt: encoder, projector, decoder, the id of a slot."""

    encoder: AutConfig
    projector: ProjectorConfig
    decoder: DecoderConfig
    audio_token_id: int
    frontend: Frontend = "slaney400"

    def __post_init__(self) -> None:
        _require(
            self.projector.out == self.decoder.hidden,
            "the projector's output width (output_dim) has to equal the decoder's hidden size",
            f"they are {self.projector.out} and {self.decoder.hidden}",
        )
        _require(
            0 <= self.audio_token_id < self.decoder.vocab,
            "audio_token_id has to lie inside the vocabulary",
            f"it is {self.audio_token_id} of {self.decoder.vocab}",
        )


@dataclass(frozen=True)
class QwenAsrConfig(PromptedConfig):
    """A Qwen3-ASR model, which continues a prompt."""


@dataclass(frozen=True, kw_only=True)
class AlignerConfig(PromptedConfig):
    """A forced aligner, whose head scores times at the marks in a prompt.

    Attributes:
        classes: number of times that it can score, from 0 on.
        timestamp_token_id: the id of a mark.
        segment_ms: milliseconds from one time to the next.
        head_bias: whether the head has a bias.
    """

    classes: int
    timestamp_token_id: int
    segment_ms: float
    head_bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_fields("aligner", self, "classes", "segment_ms")
        _require(
            0 <= self.timestamp_token_id < self.decoder.vocab,
            "timestamp_token_id has to lie inside the vocabulary",
            f"it is {self.timestamp_token_id} of {self.decoder.vocab}",
        )
        _require(
            self.decoder.tied,
            "the decoder of an aligner has to have no vocabulary head of its own",
            "it has one",
        )


@dataclass(frozen=True)
class AutCtcConfig:
    """An AuT encoder with a CTC head on its output.

    Attributes:
        units: number of text units; the head has one more class, the blank, which is last.
        projector: the projector that joins the encoder to a decoder, where there is one.
        language: English name of the one language that the model writes.
    """

    encoder: AutConfig
    units: int
    projector: ProjectorConfig | None = None
    frontend: Frontend = "htk1024"
    language: str = "English"

    def __post_init__(self) -> None:
        _require_sizes("CTC head", units=self.units)

    @property
    def blank(self) -> int:
        """Class index of the blank."""
        return self.units


ModelConfig = QwenAsrConfig | AutCtcConfig | AlignerConfig


@dataclass(frozen=True)
class SpeakerConfig:
    """Shapes of a speaker encoder, and the limit that belongs to its embeddings.

    Attributes:
        encoder: shapes of the audio encoder.
        middle_layer: number of a layer whose states are pooled, too; 0 for none.
        attention: width of the network that weights the states in time.
        embedding: numbers of an embedding.
        frontend: of the log-mel.
        threshold: groups of embeddings whose mean cosine similarity is lower are two speakers.
        axes: directions in which it is known how embeddings vary; 0 for none.
    """

    encoder: AutConfig
    middle_layer: int
    attention: int
    embedding: int
    frontend: Frontend
    threshold: float
    axes: int = 0

    def __post_init__(self) -> None:
        _require_fields("speaker encoder", self, "attention", "embedding")
        _require(
            0 <= self.middle_layer < self.encoder.layers,
            "middle_layer of the speaker encoder has to lie below its layers",
            f"it is {self.middle_layer} of {self.encoder.layers}",
        )
        _require(
            -1.0 <= self.threshold <= 1.0,
            "threshold of the speaker encoder has to be a cosine from -1 to 1",
            f"it is {self.threshold}",
        )
        _require(
            0 <= self.axes <= self.embedding,
            "axes of the speaker encoder may not exceed its embedding",
            f"there are {self.axes}, and embedding is {self.embedding}",
        )

    @property
    def depths(self) -> tuple[int, ...]:
        """Numbers of layers after which states are pooled."""
        last = self.encoder.layers
        return (self.middle_layer, last) if self.middle_layer else (last,)
