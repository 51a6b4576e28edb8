"""Training of Qwen3-ASR models: the official prompt, the reply as target, CTC as a second loss."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auris.backends.torch import TorchBackend
from auris.checkpoints.config_writer import unofficial
from auris.checkpoints.export import export
from auris.checkpoints.inference_defaults import InferenceDefaults
from auris.checkpoints.layouts import LayoutName
from auris.config import CONV_BLOCK_TOKENS, token_budget
from auris.decoding.loop import decode
from auris.decoding.requests import Request
from auris.decoding.sampling import Sampling
from auris.errors import MissingExtra
from auris.models.cache import UncachedRows
from auris.models.qwen_asr import QwenAsr
from auris.text.prompt import END_OF_TEXT, TEXT_TAG, TURN_END, prompt_ids
from auris.text.reply import parse_reply
from auris.text.tokenizer import Tokenizer
from auris.training.data import TrainedOn
from auris.training.decoder_recipe import DecoderRecipe
from auris.training.examples import TrainingBatch
from auris.training.recipes import AsrRecipe, TuneRecipe
from auris.training.tasks import Task, ctc_loss

IGNORED = -100
"""Label of what is not learned: prompt and padding."""

Side = Literal["left", "right"]

ADAPTED = ["qkv", "out", "gate_up", "down"]
"""The decoder's linear layers, which get low-rank adapters."""


@dataclass(frozen=True)
class Dialogues:
    """Prompts with their replies, as one padded batch.

    Attributes:
        ids: int64 [B, T].
        labels: int64 [B, T], the ids of the reply at their positions, else `IGNORED`.
        learned: int64 [N], places of the ids of replies in labels[:, 1:], flattened. They are found
            before the batch is moved, so that nothing waits for the device.
        rows: lengths, positions and mask of the batch.
    """

    ids: Tensor
    labels: Tensor
    learned: Tensor
    rows: UncachedRows

    def to(self, device: torch.device) -> Dialogues:
        """The same on a device."""
        ids, labels, learned = (each.to(device) for each in (self.ids, self.labels, self.learned))
        return Dialogues(ids, labels, learned, self.rows.to(device))


def dialogues(
    prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], pad: int, side: Side
) -> Dialogues:
    """Join every prompt with its reply and pad on `side`; exactly the replies are labelled."""
    counts = [len(p) + len(r) for p, r in zip(prompts, replies, strict=True)]
    width = max(counts)
    ids = torch.full((len(counts), width), pad)
    labels = torch.full((len(counts), width), IGNORED)
    for row, (prompt, reply, count) in enumerate(zip(prompts, replies, counts, strict=True)):
        first = width - count if side == "left" else 0
        middle, last = first + len(prompt), first + count
        ids[row, first:middle] = torch.tensor(prompt)
        ids[row, middle:last] = labels[row, middle:last] = torch.tensor(reply)
    learned = (labels[:, 1:] != IGNORED).flatten().nonzero().flatten()
    return Dialogues(ids, labels, learned, UncachedRows.of(counts, side, ids.device))


def reply_ids(tokenizer: Tokenizer, language: str, text: Sequence[int]) -> list[int]:
    """Ids of a reply: the language, the tag, the text, the end of the turn."""
    language_ids = tokenizer.encode(f"language {language}")
    return [*language_ids, tokenizer.id(TEXT_TAG), *text, tokenizer.id(TURN_END)]


class AsrTask(Task):
    """Training of a Qwen3-ASR model, with or without a CTC head on its audio embeddings.

    Args:
        head: classes of the vocabulary and a blank, the last, from audio embeddings.
        generation: content of the generation_config.json to write; greedy by default.
        defaults: inference defaults of the checkpoint that is trained further; None for fresh
            weights.
    """

    model: QwenAsr

    def __init__(
        self,
        model: QwenAsr,
        tokenizer: Tokenizer,
        recipe: AsrRecipe | TuneRecipe | DecoderRecipe,
        head: nn.Linear | None,
        generation: Mapping[str, Any] | None = None,
        defaults: InferenceDefaults | None = None,
    ) -> None:
        super().__init__(model, tokenizer, recipe, head is not None and recipe.with_head)
        self.head, self.generation, self.defaults = head, generation, defaults
        self.ctc_weight = recipe.ctc_weight
        self.decoder_from_step = recipe.decoder_from_step

    def audio_embeddings(self, mels: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
        """Audio embeddings [N, hidden] of all clips, and each clip's length."""
        states, lengths = self.model.encoder(mels)
        return self.model.projector(states), lengths

    def forward(self, batch: TrainingBatch, all_parts: bool = True) -> tuple[Tensor, Tensor]:
        """Sums [2] and counts [2]: CTC by unit and, with `all_parts`, the reply by token."""
        states, lengths = self.encode(batch.mels)
        embedded = [self.model.projector(one) for one in states]
        audio = embedded[-1]
        zero = audio.new_zeros((), dtype=torch.float32)
        ctc, reply, tokens = zero, zero, zero
        # With no weight it is not computed: an infinite loss times 0 is not a number.
        if self.head is not None and (self.ctc_weight > 0 or not all_parts):
            blank = self.head.out_features - 1
            for one, share in zip(embedded, self.depths.values(), strict=True):
                ctc = ctc + share * ctc_loss(self.head(one), lengths, batch.targets, blank)
        if all_parts:
            reply, tokens = self.reply_loss(audio, lengths, batch)
            ctc, reply = self.ctc_weight * ctc, (1.0 - self.ctc_weight) * reply
        units = zero + float(sum(map(len, batch.targets)))
        return torch.stack([ctc, reply]), torch.stack([units, tokens])

    def dialogues(
        self, lengths: Sequence[int], batch: TrainingBatch, side: Side = "right"
    ) -> Dialogues:
        """The official prompt of every example and the reply it should get."""
        tokenizer = self.tokenizer
        contexts = zip(lengths, batch.contexts, strict=True)
        prompts = [prompt_ids(tokenizer, length, context=context) for length, context in contexts]
        targets = zip(batch.languages, batch.targets, strict=True)
        replies = [reply_ids(tokenizer, language, target) for language, target in targets]
        return dialogues(prompts, replies, tokenizer.id(TURN_END), side)

    def reply_loss(
        self, audio: Tensor, lengths: Sequence[int], batch: TrainingBatch, side: Side = "right"
    ) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of the replies, and how many tokens they have."""
        talk = self.dialogues(lengths, batch, side).to(audio.device)
        slots = talk.ids == self.model.config.audio_token_id
        embedded = self.model.decoder.embed(talk.ids)
        embedded = embedded.masked_scatter(slots[..., None], audio.to(embedded.dtype))
        return self.token_loss(talk, embedded)

    def token_loss(self, talk: Dialogues, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of the labelled tokens of embedded dialogues, and their number."""
        decoder = self.model.decoder
        states = decoder.states(embedded, talk.rows)
        labels = talk.labels[:, 1:].flatten()[talk.learned]
        logits = decoder.logits(states[:, :-1].flatten(0, 1)[talk.learned])
        loss = F.cross_entropy(logits.float(), labels, reduction="sum")
        return loss, loss.new_tensor(float(len(labels)))

    def trains_all_parts(self, step: int) -> bool:
        """From the decoder's first step on."""
        return step >= self.decoder_from_step

    def write(self, mels: Sequence[Tensor], contexts: Sequence[str], all_parts: bool) -> list[str]:
        """The decoder's text, or the CTC head's while the decoder is not trained."""
        audio, lengths = self.audio_embeddings(mels)
        if not all_parts:
            assert self.head is not None
            return self.best_paths(self.head(audio), lengths, self.head.out_features - 1)
        # The cache has the weights' type, so keys must not come in another.
        with torch.autocast(audio.device.type, enabled=False):
            replies = self._replies(audio.float(), lengths, contexts)
        return [parse_reply(text, None).text for text in replies]

    def _replies(self, audio: Tensor, lengths: list[int], contexts: Sequence[str]) -> list[str]:
        """Greedy replies, by the engine's own loop."""
        backend = TorchBackend(self.model)
        requests: list[Request] = []
        for clip, context in zip(audio.split(lengths), contexts, strict=True):
            ids = prompt_ids(self.tokenizer, len(clip), context=context)
            prompt = self.model.embed_projected(ids, clip)
            budget = token_budget(len(clip) / CONV_BLOCK_TOKENS)
            requests.append(Request(len(requests), prompt, budget, Sampling()))
        tokens: list[list[int]] = [[] for _ in lengths]
        stops = frozenset([self.tokenizer.id(TURN_END), self.tokenizer.id(END_OF_TEXT)])
        for step in decode(backend, requests, stops, len(requests)):
            if step.token is not None:
                tokens[step.key].append(step.token)
        return [self.tokenizer.decode(ids) for ids in tokens]

    @property
    def layout(self) -> LayoutName:
        """That of transformers, unless transformers has no such model."""
        return "native" if unofficial(self.model.config) else "hf"

    def export(self, out: Path, dtype: torch.dtype, trained_on: TrainedOn) -> Path:
        """In `layout`, adapters merged; the CTC head in its own file.

        A calibration of the checkpoint is left out, since it was fitted to other weights.
        """
        return export(
            merged(self.model),
            self.model.config,
            self.tokenizer,
            out,
            layout=self.layout,
            dtype=dtype,
            generation=self.generation,
            ctc_head=self.head,
            defaults=_inference_defaults(self.defaults, trained_on),
        )


def _inference_defaults(
    before: InferenceDefaults | None, trained_on: TrainedOn
) -> InferenceDefaults:
    """The inference defaults of a model, with the languages and contexts that it was trained on."""
    if before is None:
        return InferenceDefaults(
            languages=trained_on.languages or None,
            contexts=trained_on.contexts,
            lower_case=trained_on.lower_case,
        )
    languages = before.languages
    if languages is not None:
        languages += tuple(name for name in trained_on.languages if name not in languages)
    return replace(
        before,
        languages=languages,
        contexts=trained_on.contexts or before.contexts,
        lower_case=before.lower_case and trained_on.lower_case,
    )


def adapt(model: QwenAsr, rank: int, alpha: float) -> None:
    """Freeze all weights and put adapters of a rank on the decoder's linear layers.

    LoRA: Hu et al., "LoRA: Low-rank adaptation of large language models" (2021), by peft.
    """
    peft = require_peft()
    model.requires_grad_(False)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=ADAPTED)
    peft.inject_adapter_in_model(config, model.decoder)


def merged(model: QwenAsr) -> QwenAsr:
    """The model itself with its adapters, if it has any, added to the weights they adapt and
    removed."""
    if not any("lora_" in name for name, _ in model.named_parameters()):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, m) for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge()
        parent, _, child = name.rpartition(".")
        base: nn.Module = layer.get_base_layer()
        setattr(model.get_submodule(parent), child, base)
    return model


def require_peft() -> Any:
    """The module peft, or MissingExtra."""
    try:
        if torch.distributed.is_available():
            # peft looks up a type in it, and torch 2.5 does not load it by itself.
            importlib.import_module("torch.distributed.tensor")
        import peft
    except ImportError as error:
        raise MissingExtra(
            "Low-rank adapters need peft",
            "it is not installed",
            "run pip install 'auris-asr[lora]', or set lora_rank to 0",
        ) from error
    return peft
