"""Requests to the decode loop, and the steps that it answers with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from auris.decoding.sampling import Probe, Sampling
from auris.decoding.scoring import HotwordScorer, TokenScorer
from auris.types import FinishReason

MOST_BEAM_SIZE = 16
"""Largest beam: every hypothesis takes a row of the cache."""

LENGTH_PENALTY = 1.0
"""Default power of the length by which scores are divided: 1 compares means, 0 compares sums."""


def never() -> bool:
    """The default of `cancelled`: always False."""
    return False


@dataclass(frozen=True)
class Request:
    """A prompt to continue.

    Attributes:
        key: names the request in its steps.
        prompt: token ids, or embeddings [L, hidden].
        preamble: token ids of the beginning of the prompt, which prompts of other requests may
            share.
        max_new_tokens: most tokens to add, at least 1; the stop token does not count.
        sampling: how tokens are chosen.
        prefixes: forced prefixes, token ids each; None does not force any. If the model begins with
            one of them or of `allowed_prefixes` by itself, that one is taken, else the most
            likely of `prefixes`.
        allowed_prefixes: see `prefixes`.
        share: the part of a batch that the request takes. The shares of one batch add up to at most
            1, unless there is only one request.
        probe: a probability to compute during decoding.
        draft: a guessed text, which saves passes and never changes the text; ignored if tokens are
            sampled or the beam is larger than 1.
        cancelled: called before every pass; once it returns True, the request ends.
        scorer: what is added to log-probabilities where tokens are chosen; None adds nothing.
            Tokens are not sampled then.
        hotwords: adds to log-probabilities in a search, see `auris.decoding.beam`; None for none.
        beam_size: hypotheses that are followed at a time; 1 takes the best token at every step.
            The steps of a larger beam come at its end.
        length_penalty: power of the length by which the scores of complete hypotheses are divided.
    """

    key: int
    prompt: Sequence[int] | Tensor
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    prefixes: tuple[tuple[int, ...], ...] | None = None
    allowed_prefixes: tuple[tuple[int, ...], ...] = ()
    share: float = 0.0
    probe: Probe | None = None
    cancelled: Callable[[], bool] = never
    draft: tuple[int, ...] = ()
    preamble: tuple[int, ...] = ()
    scorer: TokenScorer | None = None
    hotwords: HotwordScorer | None = None
    beam_size: int = 1
    length_penalty: float = LENGTH_PENALTY

    @property
    def needs_search(self) -> bool:
        """Whether several hypotheses are followed."""
        return self.beam_size > 1 or self.hotwords is not None


@dataclass(frozen=True)
class Step:
    """One token of one request, or its end. The last step of a loop has a token.

    Attributes:
        key: of the request.
        token: the token, or None if the text ended without another token.
        logprob, margin: of the chosen token, see `Choice`; of the stop token at a stop; 0 if the
            request was cancelled.
        finish: why the request ended, or None while it goes on.
        seconds: this request's share of the pass that gave the token.
        prefill: whether that pass read the prompt.
        probe_logprob: the natural-log probability of the request's probe, at its position.
    """

    key: int
    token: int | None
    logprob: float
    margin: float
    finish: FinishReason | None
    seconds: float
    prefill: bool
    probe_logprob: float | None = None
