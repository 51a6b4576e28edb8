"""Models run by PyTorch on cpu, cuda or mps; no other module names devices.

The compute dtype is that of the weights; scores leave in float32 whatever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from enum import Enum
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from auris.backends.base import Cache, Choice, Positions, TextRules, best_of
from auris.backends.cuda_graphs import CapturedPasses
from auris.backends.memory import keep_freed_memory, within_memory
from auris.backends.native_decoder import NativeDecoder, native_weights
from auris.backends.native_encoder import NativeEncoder, NativeStem
from auris.backends.packed_layers import PackedEmbedding
from auris.backends.static_step import PassRunner, PlainPasses, SlotStep, StaticSteps
from auris.checkpoints.load import Model
from auris.checkpoints.quantization_config import PACKED_DTYPES
from auris.config import AutConfig
from auris.errors import DeviceError, UnknownDevice, UnsupportedOption, UsageError
from auris.models.aligner import Aligner
from auris.models.attention import KERNELS, Kernel, kernel_choice
from auris.models.aut_ctc import AutCtc
from auris.models.cache import KVCache
from auris.models.qwen_asr import QwenAsr


class Device(str, Enum):
    """What a model runs on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"
    METAL = "metal"
    """MPS, as others call it."""

    def __str__(self) -> str:
        return str(self.value)


DEVICES = ("cpu", "cuda", "mps")
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def available_devices() -> list[str]:
    """Devices of this machine, the fastest first."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def pick_device(name: str | torch.device) -> torch.device:
    """The device that `name` means here; "auto" is the fastest there is, "metal" is "mps".

    Raises:
        UnknownDevice: there is no such device.
        DeviceError: the machine has none.
    """
    name = "mps" if str(name) == Device.METAL else str(name)
    present = available_devices()
    if name == "auto":
        return torch.device(present[0])
    kind = name.partition(":")[0]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or kind not in DEVICES:
        raise UnknownDevice(
            f"The device has to be auto, {', '.join(DEVICES)} or metal",
            f"it is {name!r}",
            f"choose --device {present[0]}",
        )
    if kind not in present:
        raise DeviceError(
            "The device has to be one that this machine has",
            f"it is {name!r} and there is {', '.join(present)}",
            f"choose --device {present[0]}, or install a torch build for the device",
        )
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            "The index of a CUDA device has to be below their number",
            f"it is {name!r}, and there are {torch.cuda.device_count()} devices",
            "choose a lower index",
        )
    return device


def pick_dtype(name: str, device: torch.device, stored: torch.dtype) -> torch.dtype:
    """The compute dtype that `name` means on a device.

    "auto" is the stored dtype, except float32 for half-precision weights on a CPU without
    arithmetic for them: there the half formats are emulated and slower.

    Raises:
        UnknownDevice: the name is no dtype.
    """
    if name == "auto":
        if stored == torch.float16 and device.type == "cpu":
            return torch.float32
        if stored == torch.bfloat16 and device.type == "cpu" and not _cpu_has_bfloat16():
            return torch.float32
        return stored
    if name not in DTYPES:
        raise UnknownDevice(
            f"The dtype has to be auto, {', '.join([*DTYPES, *PACKED_DTYPES])}",
            f"it is {name!r}",
            "choose one of these with --dtype",
        )
    return DTYPES[name]


def _cpu_has_bfloat16() -> bool:
    """Whether torch multiplies bfloat16 matrices by oneDNN here; builds without it emulate them."""
    return torch.backends.mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


STATIC_STEP = "AURIS_STATIC_STEP"
"""A variable of the environment: whether decoders take the static step."""


def runs_static_step(device: torch.device, setting: str | None) -> bool:
    """Whether a decoder on a device takes the static step: on CUDA, unless the setting says
    otherwise. Elsewhere it has no advantage, and runs to be compared with other steps.

    Args:
        setting: the value of `STATIC_STEP`: "1", "0", or empty or None for the default.

    Raises:
        UsageError: it is something else.
    """
    if setting not in (None, "", "0", "1"):
        raise UsageError(f"{STATIC_STEP} has to be 0 or 1", f"it is {setting!r}", "correct it")
    return setting == "1" if setting else device.type == "cuda"


def static_step_name(device: torch.device) -> str:
    """What the static step is on a device, in words."""
    passes = "captured as CUDA graphs" if device.type == "cuda" else "not captured"
    return f"PyTorch, static step, {passes}"


def _tail(positions: Positions) -> int | None:
    """How many of the last new positions are scored; None: all."""
    if isinstance(positions, int):
        return positions
    return 1 if positions == "last" else None


def _ends(states: Sequence[Tensor], tail: int | None) -> Tensor:
    """States [T_i, hidden] as one batch: all of them, or the last `tail` of each on the right."""
    if tail is None:
        return pad_sequence(list(states), batch_first=True)
    ends = [row[-tail:] for row in states]
    return torch.stack([pad(row, (0, 0, tail - len(row), 0)) for row in ends])


class TorchBackend:
    """A model on a device, behind the `Backend` protocol.

    Args:
        model: weights in their compute dtype, on their device; where a decoder's are packed, its
            cache is in bfloat16.
        kernel: attention kernel, see `auris.models.attention.KERNELS`.
        ctc_head: a CTC head on the audio embeddings of a model with a decoder.
        exact: whether `best` gives exact log-probabilities; see `Backend.best`.
        static: whether the decoder takes the static step, see `runs_static_step`.

    Raises:
        UnsupportedOption: there is no such kernel, or no static step for packed weights.
    """

    def __init__(
        self,
        model: Model,
        kernel: Kernel = "auto",
        ctc_head: nn.Linear | None = None,
        exact: bool = False,
        static: bool = False,
    ) -> None:
        if kernel != "auto" and kernel not in KERNELS:
            raise UnsupportedOption(
                f"The attention kernel has to be auto, {', '.join(KERNELS)}",
                f"it is {kernel!r}",
                "choose one of these",
            )
        self.model = model.eval()
        self.kernel = kernel
        self.ctc_head = ctc_head
        self.exact = exact
        weight = next(model.parameters())
        self.device = weight.device
        self.dtype = weight.dtype
        self.quantized = any(isinstance(m, PackedEmbedding) for m in model.modules())
        self.native_step: NativeDecoder | None = None
        self.static: StaticSteps | None = None
        if isinstance(model, QwenAsr) and static:
            self.static = self._static_steps(model)
        elif isinstance(model, QwenAsr) and native_weights(model.decoder) is not None:
            self.native_step = NativeDecoder(model.decoder)
        self.native_encoder: NativeEncoder | None = None
        if NativeEncoder.runs(model.encoder):
            self.native_encoder = NativeEncoder(model.encoder)
        self.native_stem: NativeStem | None = None
        if NativeStem.runs(model.encoder.stem):
            self.native_stem = NativeStem(model.encoder)
        elif self.device.type == "cpu":
            keep_freed_memory()

    def _static_steps(self, model: QwenAsr) -> StaticSteps:
        if self.quantized:
            raise UnsupportedOption(
                "The static decode step runs weights in floating point",
                "these are in int8 or int4",
                f"leave {STATIC_STEP} unset, or choose another --dtype",
            )
        runner: Callable[[], PassRunner] = PlainPasses
        if self.device.type == "cuda":
            runner = partial(CapturedPasses, self.device)
        return StaticSteps(model.decoder, self.kernel, runner)

    def with_window(self, config: AutConfig) -> TorchBackend:
        """A backend of the same weights, whose encoder attends inside the windows of `config`."""
        model, encoder = copy(self.model), copy(self.model.encoder)
        encoder.config = config
        model._modules = {**self.model._modules, "encoder": encoder}
        other = copy(self)
        other.model = model
        if self.native_encoder is not None:
            other.native_encoder = copy(self.native_encoder)
            other.native_encoder.window = config.window_tokens
        return other

    @property
    def decode_step(self) -> str:
        """What computes the tokens of a text, in words."""
        if self.static is not None:
            return static_step_name(self.device)
        return "PyTorch" if self.native_step is None else "native"

    @property
    def _decoding(self) -> QwenAsr:
        if not isinstance(self.model, QwenAsr):
            raise UnsupportedOption(
                "Token by token decoding needs a model with a decoder",
                "this one has another head",
                "use ctc_logits or mark_logits, or another model",
            )
        return self.model

    # Sums of PyTorch change with the rows of a product, and another sum may be rounded to another
    # integer. So what PyTorch computes of a quantized encoder it computes clip by clip.

    @torch.inference_mode()
    def encode(self, mels: Sequence[Tensor]) -> list[Tensor]:
        return self.encode_layers(self.encode_stem(mels))

    @torch.inference_mode()
    def encode_stem(self, mels: Sequence[Tensor]) -> list[Tensor]:
        encoder = self.model.encoder
        with within_memory():
            moved = [mel.to(self.device) for mel in mels]
            if self.quantized or self.native_stem is not None:
                # The projection of a native stem is PyTorch's, too.
                return [encoder.tokens([mel], self.native_stem)[0] for mel in moved]
            tokens, lengths = encoder.tokens(moved)
        return list(tokens.split(lengths))

    @torch.inference_mode()
    def encode_layers(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        lengths = [len(clip) for clip in tokens]
        with kernel_choice(self.kernel), within_memory():
            if self.quantized and self.native_encoder is None:
                encoder = self.model.encoder
                return [encoder.encode_layers(clip, [len(clip)]) for clip in tokens]
            layers = self.native_encoder or self.model.encoder
            states = layers.encode_layers(torch.cat(list(tokens)), lengths)
        return list(states.split(lengths))

    @torch.inference_mode()
    def ctc_logits(self, states: Sequence[Tensor]) -> list[Tensor]:
        if isinstance(self.model, AutCtc):
            return [self.model.head(clip).float() for clip in states]
        if self.ctc_head is None:
            raise UnsupportedOption(
                "CTC scores need a model with a CTC head",
                "this one has none",
                "decode token by token, or use another model",
            )
        return [self.ctc_head(self._decoding.projector(clip)).float() for clip in states]

    @torch.inference_mode()
    def mark_logits(self, ids: Sequence[int], states: Tensor) -> Tensor:
        if not isinstance(self.model, Aligner):
            raise UnsupportedOption(
                "Scores of times need a forced aligner",
                "this is another model",
                "use ctc_logits, or another model",
            )
        with kernel_choice(self.kernel), within_memory():
            scores: Tensor = self.model(ids, states)
        return scores.float()

    @torch.inference_mode()
    def embed(self, ids: Sequence[int], states: Tensor | None) -> Tensor:
        return self._decoding.embed(ids, states)

    def new_cache(self, rows: int, capacity: int) -> KVCache:
        config = self._decoding.config.decoder
        dtype = torch.bfloat16 if self.quantized else self.dtype
        with torch.inference_mode(), within_memory():
            return KVCache(config, rows, capacity, dtype, self.device)

    def static_step(
        self, texts: int, rows: int, capacity: int, rules: TextRules
    ) -> SlotStep | None:
        if self.static is None:
            return None
        with within_memory():
            return self.static.take(texts, rows, capacity, rules)

    @torch.inference_mode()
    def admit(self, cache: Cache, count: int = 1) -> range:
        with within_memory():
            return cast(KVCache, cache).admit(count)

    @torch.inference_mode()
    def drop(self, cache: Cache, row: int) -> None:
        cast(KVCache, cache).drop(row)

    def truncate(self, cache: Cache, row: int, length: int) -> None:
        cast(KVCache, cache).truncate(row, length)

    @torch.inference_mode()
    def copy_tail(self, cache: Cache, source: int, row: int, start: int) -> None:
        cast(KVCache, cache).copy_tail(source, row, start)

    @torch.inference_mode()
    def copy_row(self, source: Cache, source_row: int, cache: Cache, row: int, length: int) -> None:
        with within_memory():
            cast(KVCache, cache).copy_row(row, cast(KVCache, source), source_row, length)

    @torch.inference_mode()
    def extend(
        self,
        cache: Cache,
        inputs: Sequence[Sequence[int] | Tensor],
        rows: Sequence[int] | None = None,
        positions: Positions = "last",
    ) -> Tensor:
        decoder = self._decoding.decoder
        storage = cast(KVCache, cache)
        rows, embedded = self._inputs(storage, inputs, rows)
        counts = [len(item) for item in embedded]
        tail = _tail(positions)
        with kernel_choice(self.kernel), within_memory():
            if self.native_step is not None and self.native_step.takes(counts):
                states = self.native_step.extend(storage, embedded, rows, every=tail != 1)
                logits = self.native_step.scores(_ends(states, tail))
            else:
                packed = torch.cat(embedded)[None]
                states = decoder.states(packed, storage.rows(rows, counts))[0].split(counts)
                logits = decoder.logits(_ends(states, tail))
        return logits.float()

    @torch.inference_mode()
    def best(
        self,
        cache: Cache,
        inputs: Sequence[Sequence[int] | Tensor],
        rows: Sequence[int] | None = None,
    ) -> list[Choice]:
        step, counts = self.native_step, [len(item) for item in inputs]
        if step is None or not step.chooses or not step.takes(counts):
            return best_of(self.extend(cache, inputs, rows)[:, -1])
        storage = cast(KVCache, cache)
        rows = range(len(storage.lengths)) if rows is None else rows
        ids = [item[0] for item in inputs if len(item) == 1 and not isinstance(item, Tensor)]
        with within_memory():
            if 0 < len(ids) == len(inputs) == len(rows):
                return step.step(storage, ids, rows, self.exact)
            rows, embedded = self._inputs(storage, inputs, rows)
            return step.best(storage, embedded, rows, self.exact)

    def _inputs(
        self,
        cache: KVCache,
        inputs: Sequence[Sequence[int] | Tensor],
        rows: Sequence[int] | None,
    ) -> tuple[Sequence[int], list[Tensor]]:
        """Rows, and the embeddings [T_i, hidden] that extend them."""
        rows = range(len(cache.lengths)) if rows is None else rows
        counts = [len(item) for item in inputs]
        if len(counts) != len(rows) or min(counts, default=0) < 1:
            raise ValueError(f"{len(rows)} rows need as many inputs of length >= 1, got {counts}")
        return rows, self._embedded(inputs)

    def _embedded(self, inputs: Sequence[Sequence[int] | Tensor]) -> list[Tensor]:
        """Embeddings [T_i, hidden] of token ids, all looked up at once, and of embeddings."""
        decoder = self._decoding.decoder
        ids = [token for item in inputs if not isinstance(item, Tensor) for token in item]
        looked_up = decoder.embed(torch.tensor(ids, dtype=torch.int64, device=self.device))
        embedded, used = [], 0
        for item in inputs:
            if isinstance(item, Tensor):
                embedded.append(item.to(self.device, decoder.norm.weight.dtype))
            else:
                embedded.append(looked_up[used : used + len(item)])
                used += len(item)
        return embedded
