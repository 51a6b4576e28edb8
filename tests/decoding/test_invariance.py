"""Results of requests with audio do not depend on the batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import get_args

import pytest
import torch

from auris.audio.features import log_mel
from auris.backends.torch import TorchBackend
from auris.decoding.loop import decode
from auris.decoding.requests import Request
from auris.decoding.sampling import Sampling
from auris.models.attention import Kernel
from auris.models.qwen_asr import QwenAsr
from auris.text.prompt import prompt_ids
from tests.ties import Ties
from tests.tiny_models import qwen_config, tiny_model, tiny_tokenizer, tone_speech

CLIPS = [(0.3, None, ""), (9.7, "English", ""), (2.0, None, "kitchen lights " * 9)]
CLIPS += [(8.0, "Chinese", "fox"), (1.0, None, ""), (17.2, None, "music"), (4.4, "English", "")]
"""Seconds, forced language and context: prompts of very different lengths."""

BUDGETS = [9, 30, 1, 17, 25, 12, 2]


@dataclass
class Decoded:
    """Tokens of one request, and their margins, for the tie rule."""

    tokens: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@cache
def model(seed: int) -> QwenAsr:
    built = tiny_model(qwen_config(tied=seed == 2), seed=seed)
    assert isinstance(built, QwenAsr)
    return built


def say(
    seed: int,
    rows: int,
    kernel: Kernel = "auto",
    keys: list[int] | None = None,
    sampling: Sampling | None = None,
) -> dict[int, Decoded]:
    """Decode the clips; encoding happens as requests are admitted."""
    backend = TorchBackend(model(seed), kernel)
    tokenizer = tiny_tokenizer()

    def request(key: int) -> Request:
        seconds, language, context = CLIPS[key]
        (states,) = backend.encode([log_mel(tone_speech(seconds, key))])
        prompt = backend.embed(prompt_ids(tokenizer, len(states), language, context), states)
        return Request(key, prompt, BUDGETS[key], sampling or Sampling())

    said = {key: Decoded() for key in keys or range(len(CLIPS))}
    for step in decode(backend, (request(key) for key in said), {0, 1}, rows):
        one = said[step.key]
        one.margins.append(step.margin)
        if step.token is not None:
            one.tokens.append(step.token)
            one.logprobs.append(step.logprob)
    return said


@cache
def alone(seed: int) -> dict[int, Decoded]:
    return {key: say(seed, 1, "math", [key])[key] for key in range(len(CLIPS))}


def test_the_compared_texts_are_long_and_different() -> None:
    texts = [said.tokens for said in alone(1).values()]
    assert len({tuple(text) for text in texts}) > 5
    assert len({token for text in texts for token in text}) > 15


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kernel", get_args(Kernel))
def test_every_batch_and_kernel_gives_the_same_text(seed: int, kernel: Kernel) -> None:
    ties = Ties()
    for rows in (1, 2, 3, 7):
        for key, said in say(seed, rows, kernel).items():
            wanted = alone(seed)[key]
            ties.same(
                said.tokens, wanted.tokens, said.margins, f"clip {key}, {rows} rows, {kernel}"
            )
            if said.tokens == wanted.tokens:
                assert said.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)
    print(f"{ties.count} ties")
    assert ties.count <= 1


def test_results_do_not_depend_on_the_order_of_requests() -> None:
    ties = Ties()
    for order in ([6, 5, 4, 3, 2, 1, 0], [5, 0, 3], [1, 2, 6, 0]):
        for key, said in say(1, 2, keys=order).items():
            ties.same(said.tokens, alone(1)[key].tokens, said.margins, f"clip {key} in {order}")
    assert ties.count <= 1


def test_samples_do_not_depend_on_the_batch() -> None:
    """The same seed samples the same tokens in any batch; rounding changes a sample very rarely."""
    sampling = Sampling(temperature=1.0, seed=11)
    single, batch = say(1, 1, sampling=sampling), say(1, 4, sampling=sampling)
    assert [said.tokens for said in single.values()] == [said.tokens for said in batch.values()]
    other = say(1, 1, sampling=Sampling(temperature=1.0, seed=12))
    assert [said.tokens for said in single.values()] != [said.tokens for said in other.values()]


def test_half_precision_gives_finite_scores() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        backend = TorchBackend(tiny_model(seed=1).to(dtype))
        (states,) = backend.encode([log_mel(tone_speech(9.7, 1))])
        prompt = backend.embed(prompt_ids(tiny_tokenizer(), len(states)), states)
        steps = list(decode(backend, [Request(0, prompt, 8)], {0, 1}))
        assert steps[-1].finish is not None
        assert all(
            torch.isfinite(torch.tensor([step.logprob, step.margin])).all() for step in steps
        )
