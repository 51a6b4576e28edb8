"""Prefix beam search over the frames of a CTC head, with scores from outside the model.

Sources: Graves and Jaitly, "Towards end-to-end speech recognition with recurrent neural networks"
(2014); Hannun, Maas, Jurafsky and Ng, "First-pass large vocabulary continuous speech recognition
using bi-directional recurrent DNNs" (2014), algorithm 1.
"""

from __future__ import annotations

import heapq
import math
from operator import attrgetter

from torch import Tensor

from auris.decoding.ctc import CtcPath, forced
from auris.decoding.scoring import State, TokenScorer, WeightedScorer

LEAST_MARGIN = -7.0
"""Units whose log-probability is lower than that of a frame's best class by more are ignored."""

MOST_UNITS = 16
"""Units of a frame that extend hypotheses, the most probable ones."""

WIDTH = 7.0
"""Extensions of hypotheses are ignored whose paths, before they are scored, are less probable than
the best hypothesis by more."""

NEVER = -math.inf


class _Prefix:
    """The units of a hypothesis, as a node of a tree.

    Attributes:
        parent: the hypothesis without its last unit.
        unit: the last unit; -1 for no units at all.
        children: hypotheses with one more unit that were in the beam.
        score: of the scorer, for all units.
        state: of the scorer.
        margin: of the unit in the frame where it was scored.
        blank, last: log-probabilities of all paths so far that end with a blank, or the last unit.
        next_blank, next_last: the same with the frame that is being added.
        either: of all paths.
        total: of all paths, with the score.
    """

    __slots__ = (
        "blank",
        "children",
        "either",
        "last",
        "margin",
        "next_blank",
        "next_last",
        "parent",
        "score",
        "state",
        "total",
        "unit",
    )

    def __init__(
        self, parent: _Prefix | None, unit: int, score: float, state: State, margin: float
    ) -> None:
        self.parent = parent
        self.unit = unit
        self.children: dict[int, _Prefix] = {}
        self.score = score
        self.state = state
        self.margin = margin
        self.blank = self.last = NEVER
        self.next_blank = self.next_last = NEVER
        self.either = self.total = NEVER

    def advance(self) -> None:
        """Move on to the next frame."""
        self.blank, self.last = self.next_blank, self.next_last
        self.next_blank = self.next_last = NEVER
        self.either = _add(self.blank, self.last)
        self.total = self.either + self.score

    def units(self) -> tuple[int, ...]:
        """All units, in the order of time."""
        units = []
        node: _Prefix | None = self
        while node is not None and node.parent is not None:
            units.append(node.unit)
            node = node.parent
        return tuple(reversed(units))


def _add(left: float, right: float) -> float:
    """The log-probability of either of two events."""
    if left < right:
        left, right = right, left
    return left if right == NEVER else left + math.log1p(math.exp(right - left))


def beam_search(
    logits: Tensor,
    blank: int,
    beam_size: int,
    scorer: TokenScorer | None = None,
    least_margin: float = LEAST_MARGIN,
    most_units: int = MOST_UNITS,
    width: float = WIDTH,
) -> CtcPath:
    """The units with the largest probability of all their paths, with the scorer's score.

    Args:
        logits: [N, units + 1], one row a frame, of any floating type; N may be 0.
        blank: class index of the blank.
        beam_size: hypotheses that are followed at a time.
        scorer: what is added to log-probabilities; None for nothing.
        least_margin, most_units, width: which units of a frame extend which hypotheses.

    Returns:
        The units, placed in time on their most probable path.
    """
    logprobs = logits.float().log_softmax(-1)
    scorer = WeightedScorer(()) if scorer is None else scorer
    root = _Prefix(None, -1, 0.0, scorer.start(), 0.0)
    root.blank = root.either = root.total = 0.0
    beam = [root]
    if len(logprobs):
        best, classes = logprobs.topk(min(most_units + 1, logprobs.shape[1]), -1)
        for row, values, units in zip(
            logprobs.tolist(), best.tolist(), classes.tolist(), strict=True
        ):
            least = values[0] + least_margin
            candidates = [
                (unit, value)
                for unit, value in zip(units, values, strict=True)
                if unit != blank and value >= least
            ]
            beam = _step(beam, row, blank, candidates, values[0], beam_size, width, scorer)
    best_prefix = max(beam, key=lambda prefix: prefix.total + scorer.end(prefix.state))
    path = forced(logprobs, best_prefix.units(), blank)
    assert path is not None
    return path


def _step(
    beam: list[_Prefix],
    row: list[float],
    blank: int,
    candidates: list[tuple[int, float]],
    best: float,
    beam_size: int,
    width: float,
    scorer: TokenScorer,
) -> list[_Prefix]:
    """The hypotheses after one more frame, the best ones first.

    Args:
        row: log-probability of every class.
        candidates: units that extend hypotheses and their log-probabilities, falling.
        best: log-probability of the best class.
    """
    touched: dict[_Prefix, None] = dict.fromkeys(beam)
    for prefix in beam:
        prefix.next_blank = prefix.either + row[blank]
        if prefix.unit >= 0:
            prefix.next_last = _add(prefix.next_last, prefix.last + row[prefix.unit])
    least = max(_add(p.next_blank, p.next_last) + p.score for p in beam) - width
    for prefix in beam:
        left = least - prefix.score - prefix.either
        own = [pair for pair in candidates if pair[1] >= left]
        if not own:
            continue
        units, margins = [unit for unit, _ in own], [value - best for _, value in own]
        extended = scorer.extend(prefix.state, units, margins)
        for (unit, value), (score, state) in zip(own, extended, strict=True):
            before = prefix.blank if unit == prefix.unit else prefix.either
            if before == NEVER:
                continue
            child = prefix.children.get(unit)
            if child is None:
                child = _Prefix(prefix, unit, prefix.score + score, state, value - best)
            elif value - best > child.margin:
                child.score, child.state = prefix.score + score, state
                child.margin = value - best
            child.next_last = _add(child.next_last, before + value)
            touched[child] = None
    for prefix in touched:
        prefix.advance()
    chosen = list(touched)
    if len(chosen) > beam_size:
        chosen = heapq.nlargest(beam_size, chosen, key=attrgetter("total"))
    for prefix in chosen:
        if prefix.parent is not None:
            prefix.parent.children[prefix.unit] = prefix
    return chosen
