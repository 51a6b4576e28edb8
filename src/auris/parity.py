"""Layer by layer against transformers, the reference implementation.

Both run the same weights in float32 on the same clip; every stage that has a counterpart is
compared, so that a difference names the layer in which it begins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auris.audio.mel import log_mel
from auris.backends.torch import TorchBackend
from auris.checkpoints.load import open_checkpoint
from auris.config import QwenAsrConfig
from auris.decoding.loop import Request, Step, decode
from auris.errors import MissingExtra, UnsupportedOption
from auris.export import convert
from auris.models.qwen_asr import QwenAsr
from auris.pipeline import AsrPipeline
from auris.recognizers import QwenRecognizer
from auris.text.prompt import prompt_ids
from auris.text.reply import parse_reply
from auris.types import SAMPLE_RATE, Samples

__all__ = ["LOGIT_LIMIT", "TIE_GAP", "Parity", "Row", "noise_clip", "token_difference"]

LOGIT_LIMIT = 1e-4
"""Largest difference of any state or logit in float32."""

COSINE_LIMIT = 0.99999
MEL_LIMIT = 1e-5
"""Largest difference of a mel value; a mean square of 1e-10."""

TIE_GAP = 2e-4
"""Two best logits nearer than this are a tie: rounding decides between them."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        stage: what was compared.
        error: largest absolute difference, or the number of differing tokens or texts.
        cosine: of the two flattened values; 1 for tokens and texts.
        ok: whether they agree within the stated limits.
        note: what a reader should know besides.
    """

    stage: str
    error: float
    cosine: float
    ok: bool
    note: str = ""


def _row(stage: str, ours: Tensor, theirs: Tensor, limit: float = LOGIT_LIMIT) -> Row:
    if ours.shape != theirs.shape:
        return Row(stage, float("inf"), 0.0, False, f"{list(ours.shape)}, {list(theirs.shape)}")
    error = float((ours - theirs).abs().max())
    cosine = float(
        torch.cosine_similarity(ours.flatten().double(), theirs.flatten().double(), dim=0)
    )
    return Row(stage, error, cosine, error <= limit and cosine > COSINE_LIMIT)


def noise_clip(seconds: float, seed: int = 0) -> Samples:
    """Noise whose loudness wanders, for comparisons without a recording: float32 [S]."""
    generator = torch.Generator().manual_seed(seed)
    count = round(seconds * SAMPLE_RATE)
    loudness = torch.linspace(0.0, 6.0 * seconds, count).sin().abs()
    samples: Samples = (0.1 * loudness * torch.randn(count, generator=generator)).numpy()
    return samples


def token_difference(steps: Sequence[Step], theirs: Sequence[int]) -> tuple[int | None, bool]:
    """Where two greedy texts first differ, and whether that is a tie.

    Args:
        steps: ours, up to and including the final one.
        theirs: ids without the stop token; cut where the budget ended.

    Returns:
        index of the first difference or None, and whether the two best logits there were nearer
        than `TIE_GAP`.
    """
    ours = [step.token for step in steps if step.token is not None]
    if ours == list(theirs):
        return None, False
    first = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    return first, steps[first].gap < TIE_GAP


@contextmanager
def _recorded(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collects the outputs of modules while they run; batch axes of one are dropped."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            outputs[name] = tensor.detach().reshape(-1, tensor.shape[-1])

        return hook

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(keep(name)).remove)
        yield outputs


def _our_modules(model: QwenAsr) -> dict[str, nn.Module]:
    encoder, decoder = model.encoder, model.decoder
    return {
        **{f"encoder layer {i}": layer for i, layer in enumerate(encoder.layers)},
        "encoder norm": encoder.norm,
        "projector": model.projector,
        **{f"decoder layer {i}": layer for i, layer in enumerate(decoder.layers)},
        "decoder norm": decoder.norm,
    }


def _their_modules(model: Any) -> dict[str, nn.Module]:
    tower, language = model.model.audio_tower, model.model.language_model
    return {
        **{f"encoder layer {i}": layer for i, layer in enumerate(tower.layers)},
        "encoder norm": tower.ln_post,
        "projector": model.model.multi_modal_projector,
        **{f"decoder layer {i}": layer for i, layer in enumerate(language.layers)},
        "decoder norm": language.norm,
    }


class Parity:
    """One checkpoint in both implementations, float32 on the CPU.

    Args:
        directory: a Qwen3-ASR model in any layout. transformers reads the hf layout only, so
            another one is converted into a temporary directory first.

    Raises:
        MissingExtra: transformers is not installed, or too old to know the model.
        UnsupportedOption: the model is no Qwen3-ASR.
        AurisError: the checkpoint cannot be loaded.
    """

    def __init__(self, directory: str | Path) -> None:
        try:
            from transformers import AutoProcessor, Qwen3ASRForConditionalGeneration
        except ImportError:
            raise MissingExtra(
                "Comparing with the reference needs transformers 5.23 or newer",
                "it is not installed, or older",
                "run pip install 'auris-asr[reference]'",
            ) from None
        checkpoint = open_checkpoint(directory)
        if not isinstance(checkpoint.config, QwenAsrConfig):
            raise UnsupportedOption(
                "The reference knows Qwen3-ASR models only",
                "this is an AuT model with a CTC head",
                "check it without --reference",
            )
        self.config = checkpoint.config
        pipeline = AsrPipeline.from_pretrained(directory, device="cpu", dtype="float32")
        assert isinstance(pipeline.recognizer, QwenRecognizer)
        assert isinstance(pipeline.backend.model, QwenAsr)
        self.recognizer = pipeline.recognizer
        self.backend: TorchBackend = pipeline.backend
        self.model: QwenAsr = pipeline.backend.model
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(directory)
            if checkpoint.layout != "hf":
                source = convert(directory, Path(scratch) / "hf", "hf")
            self.processor = AutoProcessor.from_pretrained(source)
            loaded = Qwen3ASRForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
            self.reference = loaded.eval()

    @torch.inference_mode()
    def compare(
        self,
        samples: Samples,
        language: str | None = None,
        context: str = "",
        max_new_tokens: int = 64,
    ) -> list[Row]:
        """Every stage for one clip.

        Args:
            samples: float32 [S] at 16 kHz.
            language: English name to force, or None.
            context: words to expect.
            max_new_tokens: how far to follow the greedy text.
        """
        inputs = self.processor.apply_transcription_request(
            samples, language=language, prompt=context, sampling_rate=SAMPLE_RATE
        )
        mel = log_mel(samples, self.config.frontend, self.config.encoder.mel_bins)
        heard = int(inputs["input_features_mask"].sum())
        rows = [_row("mel", mel, inputs["input_features"][0, :, :heard], MEL_LIMIT)]
        ours, ids, steps = self._ours(mel, language, context, max_new_tokens)
        theirs, text_ids = self._theirs(inputs, max_new_tokens)
        differing = sum(a != b for a, b in zip(ids, inputs["input_ids"][0].tolist(), strict=False))
        differing += abs(len(ids) - inputs["input_ids"].shape[1])
        rows.append(Row("prompt", differing, 1.0, differing == 0))
        rows += [_row(stage, ours[stage], theirs[stage]) for stage in ours]
        return [*rows, *self._texts(steps, text_ids, language)]

    def _ours(
        self, mel: Tensor, language: str | None, context: str, budget: int
    ) -> tuple[dict[str, Tensor], list[int], list[Step]]:
        backend = self.backend
        with _recorded(_our_modules(self.model)) as outputs:
            (states,) = backend.encode([mel])
            ids = prompt_ids(self.recognizer.tokenizer, len(states), language, context)
            prompt = backend.embed(ids, states)
            cache = backend.new_cache(1, len(ids))
            backend.admit(cache)
            logits = backend.extend(cache, [prompt], positions="all")
        steps = list(decode(backend, [Request(0, prompt, budget)], self.recognizer.stops))
        return {**outputs, "logits": logits[0]}, ids, steps

    def _theirs(self, inputs: Any, budget: int) -> tuple[dict[str, Tensor], list[int]]:
        with _recorded(_their_modules(self.reference)) as outputs:
            logits = self.reference(**inputs).logits
        stops = sorted(self.recognizer.stops)
        generated = self.reference.generate(
            **inputs, do_sample=False, max_new_tokens=budget, eos_token_id=stops
        )
        ids: list[int] = generated[0, inputs["input_ids"].shape[1] :].tolist()
        end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
        return {**outputs, "logits": logits[0]}, ids[:end]

    def _texts(self, steps: list[Step], theirs: list[int], language: str | None) -> list[Row]:
        first, tie = token_difference(steps, theirs)
        note = "" if first is None else f"first difference at token {first}"
        tokens = Row("tokens", 0.0 if first is None else 1.0, 1.0, first is None or tie, note)
        if tie:
            note = tokens.note + ", where the two best logits tie"
            return [Row("tokens", tokens.error, 1.0, True, note)]
        ours = [step.token for step in steps if step.token is not None]
        reply = parse_reply(self.recognizer.tokenizer.decode(ours), language)
        decoded = self.processor.tokenizer.decode(theirs, skip_special_tokens=True)
        parsed = self.processor.parse_output(decoded)
        same = reply.text == parsed["transcription"]
        same = same and (language is not None or reply.language == parsed["language"])
        return [tokens, Row("text", float(not same), 1.0, same)]
