"""Comparison with transformers, the reference implementation, layer by layer and text by text.

Both run the same weights in float32 on the same clip. `Parity.compare` compares every stage that
has a counterpart, so that a difference names the layer in which it begins; `Parity.agree` compares
the transcripts of a recording, and `compare_set` those of a test set.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from auris.audio.features import log_mel
from auris.audio.io import load
from auris.audio.segmentation import split
from auris.backends.torch import TorchBackend
from auris.config import token_budget
from auris.decoding.loop import decode
from auris.decoding.requests import Request, Step
from auris.diagnostics.reference import Reference
from auris.errors import AudioError, UnsupportedOption
from auris.models.qwen_asr import QwenAsr
from auris.pipeline import AsrPipeline
from auris.recognition.load import load_model, make_recognizer
from auris.recognition.qwen import QwenRecognizer
from auris.text.prompt import prompt_ids
from auris.text.reply import parse_reply
from auris.text.words import join_texts
from auris.types import SAMPLE_RATE, Samples, Segment

LOGIT_LIMIT = 1e-4
"""Largest difference of any state or logit in float32, whatever the batch, kernel or chunking."""

STATE_EPS = 16
"""Rounding steps of float32 by which states of the first stage may differ, of their largest value.

The implementations add in different orders, so the error of a stage is some rounding steps (2**-23)
of the largest value in its sums. Errors of stages are independent and add up as the square root of
their number: stage n may differ by `STATE_EPS * sqrt(n)` steps. Measured were up to 4.9 steps at
stage 1 and 14 at stage 8 (random weights), and 4.7 at stage 14 (`tiny`); one weight matrix that is
rounded to bfloat16 gives thousands. Where one value of a residual stream is far larger than the
others, the errors of the others show after the next norm.
"""

COSINE_LIMIT = 0.99999
MEL_LIMIT = 1e-5
"""Largest difference of a mel value; a mean square of 1e-10."""

EPS = torch.finfo(torch.float32).eps

COMPARISON_SECONDS = 12.37
PEAK = 0.9

TIE_MARGIN = 2e-4
"""Two best logits nearer than this are a tie: rounding decides between them."""

Verdict = Literal["identical", "tie", "different"]
"""How two transcripts compare, the best first."""

VERDICTS: tuple[Verdict, ...] = ("identical", "tie", "different")


@dataclass(frozen=True)
class ParityRow:
    """One comparison.

    Attributes:
        stage: what was compared.
        error: largest absolute difference, or the number of differing tokens or texts.
        cosine: of the two flattened values; 1 for tokens and texts.
        ok: whether they agree within the limits.
        note: further information.
        size: largest absolute value of the reference; 0 for tokens and texts.
        limit: largest difference that is allowed; 0 for tokens and texts.
    """

    stage: str
    error: float
    cosine: float
    ok: bool
    note: str = ""
    size: float = 0.0
    limit: float = 0.0


@dataclass(frozen=True)
class Agreement:
    """The texts of a recording, or of a chunk, by both implementations.

    Attributes:
        verdict: "identical" if tokens, language and text are the same; "tie" if the two best logits
            at the first token that differs are nearer than `TIE_MARGIN`; else "different".
        ours, theirs: the texts.
        seconds: length of the audio.
        tokens: number of tokens of ours.
        note: where and how they differ.
    """

    verdict: Verdict
    ours: str
    theirs: str
    seconds: float
    tokens: int
    note: str = ""


@dataclass(frozen=True)
class SetAgreement:
    """One test set.

    Attributes:
        clips, seconds, tokens: what was compared.
        identical, ties, different: numbers of clips with these verdicts.
        differences: the clips with ties and differences, by file.
        failed: files that could not be read, with the reason; they are not compared.
    """

    name: str
    clips: int
    seconds: float
    tokens: int
    identical: int
    ties: int
    different: int
    differences: Mapping[str, Agreement]
    failed: Mapping[str, str]


def compare_states(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[ParityRow]:
    """Rows for the outputs of stages, in their order, by the rule of `STATE_EPS`."""
    rows = []
    for number, (stage, states) in enumerate(ours.items(), 1):
        size = float(theirs[stage].abs().max())
        limit = STATE_EPS * math.sqrt(number) * EPS * size
        rows.append(_row(stage, states, theirs[stage], limit))
    return rows


def _row(stage: str, ours: Tensor, theirs: Tensor, limit: float) -> ParityRow:
    if ours.shape != theirs.shape:
        return ParityRow(
            stage, float("inf"), 0.0, False, f"{list(ours.shape)}, {list(theirs.shape)}"
        )
    error = float((ours - theirs).abs().max())
    flat = ours.flatten().double(), theirs.flatten().double()
    cosine = float(torch.cosine_similarity(*flat, dim=0))
    size = float(theirs.abs().max())
    ok = error <= limit and cosine > COSINE_LIMIT
    return ParityRow(stage, error, cosine, ok, size=size, limit=limit)


def noise_clip(seconds: float, seed: int = 0) -> Samples:
    """Noise whose loudness wanders, for comparisons without a recording: float32 [S]."""
    generator = torch.Generator().manual_seed(seed)
    count = round(seconds * SAMPLE_RATE)
    loudness = torch.linspace(0.0, 6.0 * seconds, count).sin().abs()
    samples: Samples = (0.1 * loudness * torch.randn(count, generator=generator)).numpy()
    return samples


def comparison_clip() -> Samples:
    """The sound that implementations are compared on where no recording is given: float32 [S].

    A gliding voice and noise, with a peak near full scale. The last second is a partial one, so
    that padding is compared, too.
    """
    noise = torch.from_numpy(noise_clip(COMPARISON_SECONDS))
    time = torch.arange(len(noise), dtype=torch.float64) / SAMPLE_RATE
    phase = math.tau * (140 * time + 8 * (4 * time).sin())
    voice = sum((number * phase).cos() / number for number in range(1, 20))
    sound = noise + 0.1 * (1 + (3 * time).sin()) * voice
    samples: Samples = (PEAK * sound / sound.abs().max()).float().numpy()
    return samples


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """Index of the first token that differs, where the end counts as a token; None if none does."""
    pairs = enumerate(zip_longest(ours, theirs))
    return next((index for index, (one, other) in pairs if one != other), None)


def token_difference(steps: Sequence[Step], theirs: Sequence[int]) -> tuple[int | None, bool]:
    """Where two greedy texts first differ (None if nowhere), and whether that is a tie.

    `theirs` has no stop token.
    """
    first = first_difference(_tokens(steps), theirs)
    return first, first is not None and steps[first].margin < TIE_MARGIN


def _tokens(steps: Sequence[Step]) -> list[int]:
    return [step.token for step in steps if step.token is not None]


@contextmanager
def _recorded(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collects the outputs of modules while they run; batch axes of one are dropped."""
    outputs: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        outputs[name] = tensor.detach().reshape(-1, tensor.shape[-1])

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(partial(record, name)).remove)
        yield outputs


def _stages(
    encoder: Any, encoder_norm: nn.Module, projector: nn.Module, decoder: Any
) -> dict[str, nn.Module]:
    """Modules whose outputs are compared."""
    return {
        **{f"encoder layer {i}": layer for i, layer in enumerate(encoder.layers)},
        "encoder norm": encoder_norm,
        "projector": projector,
        **{f"decoder layer {i}": layer for i, layer in enumerate(decoder.layers)},
        "decoder norm": decoder.norm,
    }


class Parity:
    """One checkpoint in both implementations, float32 on the CPU.

    Args:
        model: a Qwen3-ASR model in any layout, named as for `AsrPipeline.from_pretrained`.
        threads: CPU threads of the process; torch's own choice by default.

    Raises:
        MissingExtra: transformers is not installed, or too old to know the model.
        UnsupportedOption: the model is no Qwen3-ASR.
        AurisError: the checkpoint cannot be loaded.
    """

    def __init__(
        self, model: str | Path | None, threads: int | None = None, revision: str | None = None
    ) -> None:
        loaded = load_model(
            model, device="cpu", dtype="float32", threads=threads, revision=revision
        )
        # The reference has no calibration by which a text could be judged no speech.
        recognizer = make_recognizer(
            loaded.backend, loaded.checkpoint, loaded.tokenizer, calibrated=False
        )
        self.pipeline = AsrPipeline.over(recognizer, loaded.model, loaded.backend)
        if not isinstance(recognizer, QwenRecognizer):
            raise UnsupportedOption(
                "transformers knows Qwen3-ASR models only",
                "this is an AuT model with a CTC head",
                "choose a Qwen3-ASR model",
            )
        self.recognizer = recognizer
        self.config = self.recognizer.config
        self.backend: TorchBackend = self.pipeline.backend
        assert isinstance(self.backend.model, QwenAsr)
        self.model: QwenAsr = self.backend.model
        self.reference = Reference(self.pipeline.model.directory, "float32")

    @torch.inference_mode()
    def compare(
        self,
        samples: Samples,
        language: str | None = None,
        context: str = "",
        max_new_tokens: int = 64,
    ) -> list[ParityRow]:
        """Every stage for one clip, float32 [S] at 16 kHz; `language` is an English name."""
        inputs = self.reference.inputs(samples, language, context)
        mel = self._mel(samples)
        frames = int(inputs["input_features_mask"].sum())
        rows = [_row("mel", mel, inputs["input_features"][0, :, :frames], MEL_LIMIT)]
        mine, theirs_model = self.model, self.reference.model.model
        ours_by_stage = _stages(mine.encoder, mine.encoder.norm, mine.projector, mine.decoder)
        with _recorded(ours_by_stage) as ours:
            ids, prompt = self._prompt(mel, language, context)
            cache = self.backend.new_cache(1, len(prompt))
            self.backend.admit(cache)
            ours["logits"] = self.backend.extend(cache, [prompt], positions="all")[0]
        tower, projector = theirs_model.audio_tower, theirs_model.multi_modal_projector
        theirs_by_stage = _stages(tower, tower.ln_post, projector, theirs_model.language_model)
        with _recorded(theirs_by_stage) as theirs:
            theirs["logits"] = self.reference.model(**inputs).logits[0]
        differing = sum(a != b for a, b in zip_longest(ids, inputs["input_ids"][0].tolist()))
        rows.append(ParityRow("prompt", differing, 1.0, differing == 0))
        rows += compare_states(ours, theirs)
        steps = self._steps(prompt, max_new_tokens)
        theirs_ids = self.reference.generate(inputs, max_new_tokens, self.recognizer.stops)
        return [*rows, *self._texts(steps, theirs_ids, language)]

    @torch.inference_mode()
    def agree(self, source: str | Path) -> Agreement:
        """Both transcripts of one recording; the model chooses the language.

        Ours is made without the inference defaults of the model. The reference, which takes a clip
        as a whole, gets the chunks of our transcript one at a time, with their token budgets.

        Raises:
            AudioError: the recording cannot be read.
        """
        transcript = self.pipeline.transcribe(source)
        chunks = [chunk.samples for chunk in split([load(source).samples])]
        pairs = list(zip(chunks, transcript.segments, strict=True))
        parts = {ours.start: self._agree(samples, ours) for samples, ours in pairs}
        theirs = join_texts(part.theirs for part in parts.values())
        verdict = max((part.verdict for part in parts.values()), key=VERDICTS.index)
        notes = [f"at {start:.1f} s: {part.note}" for start, part in parts.items() if part.note]
        looped = any(_looped(ours) for ours in transcript.segments)
        if verdict == "identical" and transcript.text != theirs and not looped:
            verdict, notes = "different", ["every chunk is the same, the joined text is not"]
        tokens = sum(part.tokens for part in parts.values())
        return Agreement(
            verdict, transcript.text, theirs, transcript.seconds, tokens, "; ".join(notes)
        )

    def _agree(self, samples: Samples, ours: Segment) -> Agreement:
        """Our segment compared with what the reference makes of its chunk."""
        seconds = len(samples) / SAMPLE_RATE
        inputs, budget = self.reference.inputs(samples), token_budget(seconds)
        theirs = self.reference.generate(inputs, budget, self.recognizer.stops)
        reply = self.reference.reply(theirs)
        looped = _looped(ours)
        tokens = ours.retries[0].tokens if ours.retries else ours.tokens
        first = first_difference(tokens, theirs[: len(tokens)] if looped else theirs)
        verdict: Verdict = "identical"
        note = ""
        if first is not None:
            verdict, note = self._difference(samples, first, theirs)
        elif looped:
            # The reference continues to its budget; the first decoding is the same.
            note = "a loop, which only the reference continues"
        elif (ours.text, ours.language) != (reply.text, reply.language):
            verdict, note = "different", "the same tokens are read differently"
        return Agreement(verdict, ours.text, reply.text, seconds, len(tokens), note)

    def _difference(self, samples: Samples, first: int, theirs: list[int]) -> tuple[Verdict, str]:
        """Whether the difference at token `first` is a tie, and a note about it."""
        # A transcript has no margins, so the chunk is decoded again. If this decoding differs
        # elsewhere or nowhere, the pipeline is the cause, and it is no tie.
        _, prompt = self._prompt(self._mel(samples))
        steps = self._steps(prompt, token_budget(len(samples) / SAMPLE_RATE))
        again, tie = token_difference(steps, theirs)
        if again != first:
            return "different", f"token {first}, by the pipeline alone"
        return "tie" if tie else "different", f"token {first}, margin {steps[first].margin:.2g}"

    def _mel(self, samples: Samples) -> Tensor:
        return log_mel(samples, self.config.frontend, self.config.encoder.mel_bins)

    def _prompt(
        self, mel: Tensor, language: str | None = None, context: str = ""
    ) -> tuple[list[int], Tensor]:
        """Ids [L] of our prompt, and its embeddings [L, hidden]."""
        (states,) = self.backend.encode([mel])
        ids = prompt_ids(self.recognizer.tokenizer, len(states), language, context)
        return ids, self.backend.embed(ids, states)

    def _steps(self, prompt: Tensor, budget: int) -> list[Step]:
        return list(decode(self.backend, [Request(0, prompt, budget)], self.recognizer.stops))

    def _texts(self, steps: list[Step], theirs: list[int], language: str | None) -> list[ParityRow]:
        first, tie = token_difference(steps, theirs)
        note = "" if first is None else f"first difference at token {first}"
        if tie:
            note += ", where the two best logits tie"
        same = first is None
        tokens = ParityRow("tokens", float(not same), 1.0, same or tie, note)
        if tie:
            return [tokens]
        ours = parse_reply(self.recognizer.tokenizer.decode(_tokens(steps)), language)
        reply = self.reference.reply(theirs)
        same = ours.text == reply.text
        same = same and (language is not None or ours.language == reply.language)
        return [tokens, ParityRow("text", float(not same), 1.0, same)]


def _looped(segment: Segment) -> bool:
    """Whether the first decoding of a chunk was stopped, or given up."""
    return segment.finish_reason == "loop" or bool(segment.retries)


def compare_set(both: Parity, name: str, files: Iterable[Path]) -> SetAgreement:
    """Transcribe the clips of a set with both implementations and compare the texts."""
    clips: dict[str, Agreement] = {}
    failed: dict[str, str] = {}
    for file in files:
        try:
            clips[str(file)] = both.agree(file)
        except AudioError as error:
            failed[str(file)] = str(error)
    verdicts = Counter(clip.verdict for clip in clips.values())
    return SetAgreement(
        name=name,
        clips=len(clips),
        seconds=sum(clip.seconds for clip in clips.values()),
        tokens=sum(clip.tokens for clip in clips.values()),
        identical=verdicts["identical"],
        ties=verdicts["tie"],
        different=verdicts["different"],
        differences={file: clip for file, clip in clips.items() if clip.verdict != "identical"},
        failed=failed,
    )
