"""Beam search: several hypotheses of one text at a time, each in a row of the cache.

All hypotheses of a search have the same number of tokens. At every step each is extended by its
best next tokens, and the best of all these are followed. A hypothesis that ends is compared with
others that ended by its score divided by a power of its length, since every token costs
log-probability. The hypotheses of a search have the prompt in common: when one of them takes over
the row of another, only the positions that they do not have in common are copied.

Hotwords have rows of their own. The beam is that of a search without hotwords. Hypotheses outside
it are followed as long as a hotword, or the beginning of one, makes up for what they lack. At the
end, such a text is chosen if it has a hotword and the better score. So a text without a hotword is
exactly that of a search without hotwords.

Source: Wu et al., "Google's neural machine translation system" (2016), section 7, for the
normalization by length.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

from auris.backends.base import Choice
from auris.decoding.best_first import best_first
from auris.decoding.repetition import Repetition
from auris.decoding.requests import Request, Step
from auris.decoding.sampling import BestTokens, best_tokens, ids_logprobs
from auris.decoding.scoring import (
    Scores,
    State,
    TokenScorer,
    WeightedScorer,
    raised_candidates,
    text_score,
)
from auris.types import FinishReason

MOST_OUTSIDE = 3
"""Hypotheses with hotwords that are followed outside the beam."""

ACCEPTED_SHARE = 0.75
"""Share of the bonus of hotwords that counts when a text is chosen. The whole bonus keeps a
hypothesis in the search; the frames have to agree with it better than that."""

SCORED_TOKENS = 16
"""Next tokens of a hypothesis that a scorer sees in addition to those that the beam needs."""

HOTWORD_TOKENS = 64
"""Next tokens of a hypothesis that may be part of a hotword, in addition to those that the scorer
sees: the parts of a rare name are often far from the best ones."""

LEAST_ENDING = 6.0
"""A text that ended counts if its score is at most this much lower than that of the best
hypothesis."""

NOT_SCORED = object()
"""The state of hotwords after a token that they could not raise."""


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A text that a search follows, or one that ended.

    Attributes:
        search: the search that it belongs to.
        choices: its tokens, without the stop token. The margin of a token that was not the best
            one is negative.
        score: log-probability of all tokens, also of the stop token, and what the scorer added.
        state: of the scorer.
        repetition: detects loops in its tokens.
        bonus, bonus_state: what hotwords added, and their state.
        in_beam: whether a search without hotwords would follow it, too.
        probe_logprob: of the probe, once its position was reached.
        end: of a text that ended, its stop token, or the token that would have followed.
        finish: why it ended; None while it is followed.
    """

    search: BeamSearch
    choices: tuple[Choice, ...]
    score: float
    state: State
    repetition: Repetition
    bonus: float
    bonus_state: State
    in_beam: bool = True
    probe_logprob: float | None = None
    end: Choice | None = None
    finish: FinishReason | None = None

    @property
    def length(self) -> int:
        """Its tokens, with a stop token that ended it."""
        return len(self.choices) + (self.finish == "stop")

    @property
    def rank(self) -> tuple[bool, float]:
        """Orders texts that ended; those that did not end by themselves come last."""
        return self.finish == "stop", self.search.normalized(self.score, self.length)


_Key: TypeAlias = tuple[int, int, int]
"""A hypothesis by its number, a next token of it, and the number of the token."""


class _Extension(NamedTuple):
    """One more token of the hypothesis `parent`, with the scores and states that it leads to."""

    parent: int
    token: int
    logprob: float
    margin: float
    score: float
    state: State
    bonus: float
    bonus_state: State


class _NextTokens(NamedTuple):
    """The best next tokens of hypotheses.

    Attributes:
        hypotheses: that they follow.
        best: the tokens of all hypotheses.
        bonuses: by the number of a hypothesis and that of its token, what hotwords add to it and
            their state after it, if they may add something.
        limits: the most that scores with tokens of the beam may be, [hypotheses, n].
    """

    hypotheses: Sequence[Hypothesis]
    best: BestTokens
    bonuses: dict[int, dict[int, tuple[float, State]]]
    limits: Scores

    def key(self, parent: int, number: int) -> _Key:
        return parent, self.best.tokens.item(parent, number), number

    def bonus(self, parent: int, number: int) -> tuple[float, State]:
        """What hotwords add to a token of a hypothesis, and their state after it."""
        return self.bonuses.get(parent, {}).get(number, (0.0, NOT_SCORED))


@dataclass(eq=False)
class BeamSearch:
    """The search for the text of one request.

    Attributes:
        request: its beam is larger than 1, or it has hotwords.
        stops: ids that end a text.
        prefill_seconds, seconds: time of the passes over the prompt, and of the others.
        ended: hypotheses of the beam that ended.
        ended_outside: others that ended, with hotwords.
    """

    request: Request
    stops: Collection[int]
    prefill_seconds: float
    seconds: float = 0.0
    ended: list[Hypothesis] = field(default_factory=list)
    ended_outside: list[Hypothesis] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._scorer = self.request.scorer or WeightedScorer(())
        self._hotwords = self.request.hotwords or WeightedScorer(())
        # Of each hypothesis, those that may be in the beam.
        scored = SCORED_TOKENS if self.request.scorer is not None else 0
        self._beam_tokens = self.request.beam_size + len(self.stops) + scored

    def start(self, prefix: Sequence[Step] = ()) -> Hypothesis:
        """The hypothesis that the search begins with: a forced prefix, or an empty text."""
        state, bonus_state, repetition = self._scorer.start(), self._hotwords.start(), Repetition()
        choices, probe_logprob = [], None
        for step in prefix:
            assert step.token is not None
            _, state = self._scorer.follow(state, step.token, 0.0)
            _, bonus_state = self._hotwords.follow(bonus_state, step.token, 0.0)
            repetition.add(step.token)
            choices.append(Choice(step.token, step.logprob, step.margin))
            probe_logprob = probe_logprob if step.probe_logprob is None else step.probe_logprob
        return Hypothesis(
            self, tuple(choices), 0.0, state, repetition, 0.0, bonus_state, True, probe_logprob
        )

    def normalized(self, score: float, length: int) -> float:
        """The score of a text, comparable with those of other lengths."""
        return score / float(max(length, 1) ** self.request.length_penalty)

    def extend(
        self, hypotheses: Sequence[Hypothesis], logits: Tensor
    ) -> list[tuple[int, Hypothesis]]:
        """The hypotheses to follow next, each with the index of the one that it extends.

        Args:
            hypotheses: those that are followed now, all of the same length.
            logits: float32 [len(hypotheses), vocab], behind each.

        Returns:
            at most `request.beam_size` of them, and with hotwords `MOST_OUTSIDE` others; none once
            the search is over.
        """
        parents = self._with_probe(hypotheses, logits)
        candidates = self._next_tokens(parents, logits)
        following: list[tuple[int, Hypothesis]] = []
        used: set[tuple[int, int]] = set()
        if any(parent.in_beam for parent in parents):
            beam = self._best_first(candidates)
            following, used = self._follow_best(parents, beam, self.request.beam_size, self.ended)
            if self._is_over([child for _, child in following]):
                following = []
        if self.request.hotwords is not None:
            raised = self._raised(candidates, used)
            outside, _ = self._follow_best(parents, raised, MOST_OUTSIDE, self.ended_outside)
            following += [
                (parent, replace(child, in_beam=False))
                for parent, child in outside
                if self._may_win(child, following)
            ]
        return following

    def _follow_best(
        self,
        parents: Sequence[Hypothesis],
        extensions: Iterable[_Extension],
        most: int,
        ended: list[Hypothesis],
    ) -> tuple[list[tuple[int, Hypothesis]], set[tuple[int, int]]]:
        """Hypotheses of the best extensions, at most `most`, and the parents and tokens of the
        extensions that were used. Hypotheses that end are appended to `ended`; their extensions
        count as used."""
        following: list[tuple[int, Hypothesis]] = []
        ending: set[int] = set()
        used: set[tuple[int, int]] = set()
        for extension in extensions:
            used.add((extension.parent, extension.token))
            child = self._child(parents[extension.parent], extension)
            if child.finish is None:
                following.append((extension.parent, child))
                if len(following) == most:
                    break
            elif child.finish == "loop":
                ended.append(child)
            elif extension.parent not in ending:
                # Several stop tokens, and several tokens beyond the budget, give the same text.
                ending.add(extension.parent)
                ended.append(child)
        return following, used

    def _may_win(self, outside: Hypothesis, following: Sequence[tuple[int, Hypothesis]]) -> bool:
        """Whether a hypothesis outside the beam is worth a row: its score with what hotwords added
        is that of one in the beam, or of a text that ended."""
        rivals = [child.score for _, child in following if child.in_beam]
        if rivals:
            return outside.score + outside.bonus >= min(rivals)
        best = max((one.rank for one in self.ended), default=(False, 0.0))
        length = len(outside.choices)
        return self.normalized(outside.score + outside.bonus, length) >= best[1]

    def steps(self) -> list[Step]:
        """The steps of the text that was chosen, once the search is over."""
        best = max(self.ended, key=lambda one: one.rank)
        # A stop token that is far too unlikely does not make up for a text that was truncated.
        truncated = [one for one in self.ended if one.finish == "length"]
        likely = [one for one in truncated if one.score - LEAST_ENDING > best.score]
        best = max(likely, key=lambda one: one.score, default=best)
        if self.request.hotwords is not None:
            best = self._best_with_hotwords(best, self.request.hotwords.without_locations())
        return self._steps(best)

    def _best_with_hotwords(self, best: Hypothesis, hotwords: TokenScorer) -> Hypothesis:
        """The best text with what hotwords add to it.

        A text of the beam may have a hotword where the search would not have raised it, so that
        all texts are scored alike in the end. A text is compared with one of its own length that
        is as good as the best one: what hotwords add then counts as much in a long text.

        Args:
            best: without hotwords.
            hotwords: scores whole texts.
        """
        ended = [one for one in (*self.ended, *self.ended_outside) if one.finish == "stop"]
        bonuses = {one: ACCEPTED_SHARE * _bonus_of(one, hotwords) for one in (best, *ended)}
        candidates = [one for one in ended if bonuses[one] > 0]
        if best.finish == "length":  # As without hotwords: it is better than unlikely endings.
            least = best.score + bonuses[best] - LEAST_ENDING
            candidates = [one for one in candidates if one.score + bonuses[one] >= least]
        mean = self.normalized(best.score, best.length)

        def rank(text: Hypothesis) -> tuple[bool, float]:
            usual = mean * float(max(text.length, 1) ** self.request.length_penalty)
            return text.finish == "stop", text.score + bonuses[text] - usual

        return max([best, *candidates], key=rank)

    def cancelled_steps(self, hypotheses: Sequence[Hypothesis]) -> list[Step]:
        """The steps of the best text so far."""
        in_beam = [one for one in hypotheses if one.in_beam]
        best = max(in_beam or hypotheses, key=lambda one: one.score)
        return self._steps(replace(best, end=Choice(-1, 0.0, 0.0), finish="cancelled"))

    def _steps(self, text: Hypothesis) -> list[Step]:
        key = self.request.key
        steps = [
            Step(key, choice.token, choice.logprob, choice.margin, None, 0.0, prefill=False)
            for choice in text.choices
        ]
        if text.end is None:
            steps[-1] = replace(steps[-1], finish=text.finish)
        else:
            end = text.end
            steps.append(Step(key, None, end.logprob, end.margin, text.finish, 0.0, prefill=False))
        steps[-1] = replace(steps[-1], seconds=self.seconds)
        seconds = steps[0].seconds + self.prefill_seconds
        steps[0] = replace(
            steps[0], seconds=seconds, prefill=True, probe_logprob=text.probe_logprob
        )
        return steps

    def _with_probe(self, hypotheses: Sequence[Hypothesis], logits: Tensor) -> Sequence[Hypothesis]:
        """The same hypotheses with their probe, if its position is the next one."""
        probe = self.request.probe
        if probe is None or probe.position != len(hypotheses[0].choices):
            return hypotheses
        probes = ids_logprobs(logits, probe.ids)
        pairs = zip(hypotheses, probes, strict=True)
        return [replace(one, probe_logprob=logprob) for one, logprob in pairs]

    def _next_tokens(self, parents: Sequence[Hypothesis], logits: Tensor) -> _NextTokens:
        """The best next tokens of hypotheses."""
        hotwords = self.request.hotwords
        if hotwords is None:
            best = best_tokens(logits, self._beam_tokens)
            return _NextTokens(parents, best, {}, self._limits(parents, best))
        scored = [row for row, one in enumerate(parents) if hotwords.may_add(one.bonus_state)]
        best = best_tokens(logits, self._beam_tokens + (HOTWORD_TOKENS if scored else 0))
        bonuses = {
            row: raised_candidates(hotwords, parents[row].bonus_state, best.of(row), self.stops)
            for row in scored
        }
        return _NextTokens(parents, best, bonuses, self._limits(parents, best))

    def _limits(self, hypotheses: Sequence[Hypothesis], best: BestTokens) -> Scores:
        """The most that the scores of hypotheses with one more token may be, [hypotheses, n]."""
        count = self._beam_tokens  # There are more where there are hotwords.
        tokens = best.tokens[:, :count]
        most = self._scorer.most([one.state for one in hypotheses], tokens)
        scores = np.array([[one.score] for one in hypotheses])
        with np.errstate(invalid="ignore"):
            limits: Scores = scores + best.logprobs[:, :count] + most
        for stop in self.stops:
            limits[tokens == stop] = np.inf
        return limits

    def _best_first(self, candidates: _NextTokens) -> Iterator[_Extension]:
        """The extensions of the beam, the best ones first."""
        rows = [row for row, one in enumerate(candidates.hypotheses) if one.in_beam]
        limits = candidates.limits[rows]
        order = (divmod(one, limits.shape[1]) for one in (-limits).argsort(axis=None).tolist())
        limited = (
            (limits.item(row, number), candidates.key(rows[row], number)) for row, number in order
        )
        return best_first(limited, partial(self._extension, candidates), lambda one: one.score)

    def _raised(
        self, candidates: _NextTokens, used: Collection[tuple[int, int]]
    ) -> Iterator[_Extension]:
        """Extensions with hotwords which are not used, the best ones with their bonus first."""
        limited: list[tuple[float, _Key]] = []
        count = candidates.limits.shape[1]
        for parent, hypothesis in enumerate(candidates.hypotheses):
            beam_numbers = range(count) if hypothesis.bonus > 0 else ()
            for number in {*beam_numbers, *candidates.bonuses.get(parent, ())}:
                bonus, _ = candidates.bonus(parent, number)
                total, key = hypothesis.bonus + bonus, candidates.key(parent, number)
                counts = total > 0 and (bonus > 0 or number < count)
                if counts and key[:2] not in used:
                    most = candidates.limits.item(parent, number) if number < count else np.inf
                    limited.append((most + total, key))
        limited.sort(key=lambda one: -one[0])
        extended = partial(self._extension, candidates)
        return best_first(limited, extended, lambda one: one.score + one.bonus)

    def _extension(self, candidates: _NextTokens, key: _Key) -> _Extension:
        """The extension of a hypothesis by one of its next tokens."""
        parent, token, number = key
        hypothesis, best = candidates.hypotheses[parent], candidates.best
        logprob, margin = best.logprobs.item(parent, number), best.margins.item(parent, number)
        score, state = 0.0, hypothesis.state
        if token in self.stops:
            score = self._scorer.end(state)
        else:
            score, state = self._scorer.follow(state, token, min(margin, 0.0))
        bonus, bonus_state = candidates.bonus(parent, number)
        total, total_bonus = hypothesis.score + logprob + score, hypothesis.bonus + bonus
        return _Extension(parent, token, logprob, margin, total, state, total_bonus, bonus_state)

    def _child(self, parent: Hypothesis, extension: _Extension) -> Hypothesis:
        """A hypothesis with one more token, or the end of it."""
        choice = Choice(extension.token, extension.logprob, extension.margin)
        if choice.token in self.stops:
            return replace(
                parent,
                score=extension.score,
                bonus=extension.bonus,
                end=choice,
                finish="stop",
            )
        if len(parent.choices) == self.request.max_new_tokens:
            bonus = parent.bonus + self._hotwords.end(parent.bonus_state)
            return replace(parent, bonus=bonus, end=choice, finish="length")
        bonus_state = extension.bonus_state
        if bonus_state is NOT_SCORED:
            margin = min(choice.margin, 0.0)
            _, bonus_state = self._hotwords.follow(parent.bonus_state, choice.token, margin)
        repetition = parent.repetition.copy()
        looping = repetition.add(choice.token) is not None
        return Hypothesis(
            search=self,
            choices=(*parent.choices, choice),
            score=extension.score,
            state=extension.state,
            repetition=repetition,
            bonus=extension.bonus,
            bonus_state=bonus_state,
            in_beam=parent.in_beam,
            probe_logprob=parent.probe_logprob,
            finish="loop" if looping else None,
        )

    def _is_over(self, following: Sequence[Hypothesis]) -> bool:
        """Whether enough likely hypotheses ended, or none of the others would be better if all its
        next tokens were certain. What a scorer might add later is not foreseen."""
        if not following:
            return True
        limit = max(one.score for one in following)
        # Whatever a model writes, its stop token is a candidate at every step.
        likely = [one for one in self.ended if one.score >= limit - LEAST_ENDING]
        if len(likely) >= self.request.beam_size:
            return True
        best = max((one.rank for one in self.ended), default=(False, 0.0))
        return best[0] and best[1] >= self.normalized(limit, self.request.max_new_tokens + 1)


def _bonus_of(text: Hypothesis, hotwords: TokenScorer) -> float:
    """What hotwords add to a text as a whole."""
    margins = [min(choice.margin, 0.0) for choice in text.choices]
    return text_score(hotwords, [choice.token for choice in text.choices], margins)
