"""Models run by PyTorch on cpu, cuda or mps.

The compute dtype is that of the weights; scores leave in float32 whatever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from auris.backends.base import Cache, Choice, Positions, TextRules, best_of
from auris.backends.cuda_graphs import CapturedPasses
from auris.backends.devices import STATIC_STEP, captures_passes, static_step_name
from auris.backends.memory import keep_freed_memory, within_memory
from auris.backends.native_decoder import NativeDecoder, native_weights
from auris.backends.native_encoder import NativeEncoder, NativeStem
from auris.backends.packed_layers import Packed, PackedEmbedding
from auris.backends.static_step import PassRunner, PlainPasses, SlotStep, StaticSteps
from auris.checkpoints.load import Model
from auris.config import AutConfig
from auris.errors import UnsupportedOption
from auris.models.aligner import Aligner
from auris.models.attention import KERNELS, Kernel, kernel_choice
from auris.models.aut_ctc import AutCtc
from auris.models.cache import KVCache
from auris.models.qwen_asr import QwenAsr


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
        model: weights in their compute dtype, on their device. Where a decoder's are packed, its
            cache is in bfloat16; where they are in a half-precision dtype that is not the compute
            dtype, native code runs the decoder.
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
        self.decoder_dtype = self.dtype
        if isinstance(model, QwenAsr):
            self.decoder_dtype = model.decoder.norm.weight.dtype
        self.quantized = any(isinstance(m, PackedEmbedding) for m in model.modules())
        self.native_decoder: NativeDecoder | None = None
        self.static: StaticSteps | None = None
        if isinstance(model, QwenAsr) and static:
            self.static = self._static_steps(model)
        elif isinstance(model, QwenAsr) and native_weights(model.decoder) is not None:
            prompts = self.decoder_dtype != self.dtype
            self.native_decoder = NativeDecoder(model.decoder, prompts)
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
        if captures_passes(self.device):
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
    def weights(self) -> str:
        """Of which kind the weights are, those of a decoder where there is one: "int4", "int8" or
        the name of a floating-point dtype."""
        packed = {m.packing.dtype for m in self.model.modules() if isinstance(m, Packed)}
        # With int4 some matrices are in int8.
        return min(packed, default=str(self.decoder_dtype).removeprefix("torch."))

    @property
    def decode_step(self) -> str:
        """What computes the tokens of a text, in words."""
        if self.static is not None:
            return static_step_name(self.device)
        return "PyTorch" if self.native_decoder is None else "native"

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
        head: nn.Module | None = self.ctc_head
        if isinstance(self.model, AutCtc):
            head = self.model.head
        elif head is None:
            raise UnsupportedOption(
                "CTC scores need a model with a CTC head",
                "this one has none",
                "decode token by token, or use another model",
            )
        else:
            head = nn.Sequential(self._decoding.projector, head)
        with within_memory():
            return [head(clip).float() for clip in states]

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
            if self.native_decoder is not None and self.native_decoder.takes(counts):
                states = self.native_decoder.extend(storage, embedded, rows, every=tail != 1)
                logits = self.native_decoder.scores(_ends(states, tail))
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
        step, counts = self.native_decoder, [len(item) for item in inputs]
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
        dtype = torch.promote_types(self.dtype, self.decoder_dtype)
        ids = [token for item in inputs if not isinstance(item, Tensor) for token in item]
        looked_up = decoder.embed(torch.tensor(ids, dtype=torch.int64, device=self.device))
        embedded, used = [], 0
        for item in inputs:
            if isinstance(item, Tensor):
                embedded.append(item.to(self.device, dtype))
            else:
                embedded.append(looked_up[used : used + len(item)])
                used += len(item)
        return embedded
