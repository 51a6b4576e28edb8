"""Finds the phrases of a list that the frames of a CTC head may say.

A phrase of thousands is said in few chunks. The search then has to look for the phrases only that
fit the frames somewhere, and may do so more eagerly.

The score of a phrase at some frames is the log-probability of its best path there, minus that of
the best path without it. The units may be letters or parts of words; a trie over the bytes of the
phrases holds all ways to write each phrase, and the beginnings of phrases are scored at all frames
at once, from the shortest to the longest. Those that are too improbable are dropped.

Source: Andrusenko et al., "Fast context-biasing for CTC and transducer ASR models with CTC-based
word spotter" (2024), for the idea.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.decoding.hotwords import Location, spellings
from auris.decoding.scoring import TokenBytes

LOSS_PER_BYTE = 1.75
"""Log-probability that a phrase may lack for each of its bytes."""

SHORT_LOSS_PER_BYTE, SHORT_GAIN = 2.25, 3.0
"""What a short phrase may lack for each byte, and what it has to have in addition: short phrases
fit frames by chance far more often than long ones."""

MORE_AT_FIRST = 2.0
"""What the beginning of a phrase may lack in addition to that."""

SHORT_LIST = 100
"""Phrases of a list up to which all are equally likely to be said. Those of a longer list are less
likely, so that the list as a whole is not found more often where none is said."""

LENGTH_SHARE = 1.5
"""How much the logarithm of the length of a longer list counts against each of its phrases."""

LEAST_DEVIATION, DEVIATION_SHARE = 3, 10
"""By how many tokens the offset of a phrase may be wrong, and in addition one of how many
before."""

MISSING_SHARE = 2
"""One of so many tokens before a phrase may be missing in the best path, which leaves out unclear
ones."""

ROOT = 0
SPACE = b" "

Scores = NDArray[np.float64]


class UnitTable:
    """The units of a CTC head by the bytes that they write.

    Args:
        token_bytes: the bytes of a unit.
        units: how many there are without the blank, which follows them.
    """

    def __init__(self, token_bytes: TokenBytes, units: int) -> None:
        self.blank = units
        self.by_bytes: dict[bytes, list[int]] = {}
        self.lengths = [len(token_bytes(unit)) for unit in range(units)]
        for unit in range(units):
            if data := token_bytes(unit):
                self.by_bytes.setdefault(data, []).append(unit)

    @cached_property
    def beginnings(self) -> frozenset[bytes]:
        """The beginnings of all units."""
        return frozenset(data[:end] for data in self.by_bytes for end in range(1, len(data) + 1))


@dataclass(frozen=True)
class Spot:
    """Where the frames may say a phrase.

    Attributes:
        score: of the phrase, 0 or less; that of a phrase of a long list is lower.
        length: bytes of the phrase.
        locations: where, in a text that differs from the best path.
    """

    score: float
    length: int
    locations: tuple[Location, ...]

    def joined(self, other: Spot | None) -> Spot:
        """This phrase in two spellings, with the score of the better one."""
        if other is None:
            return self
        return Spot(max(self.score, other.score), self.length, self.locations + other.locations)


def _near(offset: int) -> range:
    deviation = LEAST_DEVIATION + offset // DEVIATION_SHARE
    return range(offset - deviation, offset + deviation + offset // MISSING_SHARE + 1)


def _joined_locations(spans: Iterable[tuple[float, int, int]]) -> tuple[Location, ...]:
    """Locations of a phrase; those that are near each other as one, with the tokens of the best.

    Args:
        spans: score, begin and end of each, in order.
    """
    locations: list[Location] = []
    best = -math.inf
    for score, begin, end in spans:
        near = frozenset(_near(begin))
        if locations and min(near) <= max(locations[-1].offsets) + 1:
            last = locations.pop()
            near |= last.offsets
            if score <= best:
                score, begin, end = best, last.begin, last.end
        locations.append(Location(begin, end, near))
        best = score
    return tuple(locations)


class PhraseSpotter:
    """The phrases of one list.

    Args:
        phrases: words and phrases, in their own letter case.
        table: the units.
    """

    def __init__(self, phrases: Iterable[str], table: UnitTable) -> None:
        self._table = table
        self._children: list[dict[int, int]] = [{}]
        self._depths = [0]
        self._phrases: dict[int, str] = {}
        # Of each node, units that lead to others, these nodes and their depths: [3, K].
        self._edges: dict[int, NDArray[np.intp]] = {}
        count = 0
        for phrase in phrases:
            count += 1
            for text in spellings(phrase):
                self._add(text.encode(), phrase)
        self._prior = LENGTH_SHARE * math.log(max(count / SHORT_LIST, 1.0))
        self._more_at_first = max(MORE_AT_FIRST - self._prior, 0.0)

    def _add(self, text: bytes, phrase: str) -> None:
        node = ROOT
        for byte in text:
            child = self._children[node].setdefault(byte, len(self._children))
            if child == len(self._children):
                self._children.append({})
                self._depths.append(self._depths[node] + 1)
            node = child
        if node != ROOT:
            self._phrases.setdefault(node, phrase)

    def _least_score(self, length: int) -> float:
        """Least score of a phrase with a number of bytes."""
        least_of_short = SHORT_GAIN + self._prior - SHORT_LOSS_PER_BYTE * length
        return max(-LOSS_PER_BYTE * length, least_of_short)

    def find(self, logits: NDArray[np.floating[Any]]) -> dict[str, Spot]:
        """The phrases that may be said, and where each fits best.

        Args:
            logits: [N, units + 1], one row a frame, blank last.
        """
        spots: dict[str, Spot] = {}
        if not len(logits):
            return spots
        frames = _FrameScores(logits, self._table.blank)
        waiting: dict[int, list[tuple[NDArray[np.intp], Scores]]] = {
            0: [(np.array([ROOT]), np.zeros((1, frames.count + 1)))]
        }
        while waiting:
            depth = min(waiting)
            nodes, ends = _best_of_each(waiting.pop(depth))
            best = ends.max(1)
            least = self._least_score(depth)
            for index, node in enumerate(nodes.tolist()):
                if node in self._phrases and best[index] >= least:
                    phrase = self._phrases[node]
                    frame_ends = np.flatnonzero(ends[index] >= least)
                    scores = ends[index][frame_ends]
                    locations = frames.locations(frame_ends, scores, depth, self._table.lengths)
                    spot = Spot(float(best[index]) - self._prior, depth, locations)
                    spots[phrase] = spot.joined(spots.get(phrase))
            edges = [self._edges_of(node) for node in nodes.tolist()]
            sources = np.repeat(np.arange(len(nodes)), [one.shape[1] for one in edges])
            units, targets, depths = np.concatenate(edges, 1)
            limits = -self._more_at_first - LOSS_PER_BYTE * depths
            possible = best[sources] + frames.best[units] >= limits
            units, sources, targets, depths = (
                one[possible] for one in (units, sources, targets, depths)
            )
            longer_ends = frames.append(ends[sources], units)
            likely = longer_ends.max(1, initial=-np.inf) >= limits[possible]
            for longer in set(depths[likely].tolist()):
                chosen = likely & (depths == longer)
                waiting.setdefault(longer, []).append((targets[chosen], longer_ends[chosen]))
        return spots

    def _edges_of(self, node: int) -> NDArray[np.intp]:
        known = self._edges.get(node)
        if known is not None:
            return known
        edges: list[tuple[int, int, int]] = []
        # A phrase that does not begin the text follows a space, which its first unit may write.
        paths = [(node, b"")] if node != ROOT else [(node, b""), (node, SPACE)]
        while paths:
            last, data = paths.pop()
            for byte, child in self._children[last].items():
                longer = data + bytes((byte,))
                own = self._table.by_bytes.get(longer, ())
                edges += [(unit, child, self._depths[child]) for unit in own]
                if longer in self._table.beginnings:
                    paths.append((child, longer))
        self._edges[node] = np.array(edges, np.intp).reshape(-1, 3).T
        return self._edges[node]


class _FrameScores:
    """The scores of some frames.

    Args:
        logits: [N, units + 1].
        blank: the column of the blank.

    Attributes:
        count: N.
        best: of each unit, the best score of all frames, [units + 1].
    """

    def __init__(self, logits: NDArray[np.floating[Any]], blank: int) -> None:
        scores = (logits - logits.max(1, keepdims=True)).astype(np.float64)
        self.count = len(scores)
        self.best: Scores = scores.max(0)
        # Sums of the scores of the first frames, [units + 1, N + 1].
        self._sums: Scores = np.zeros((scores.shape[1], self.count + 1))
        np.cumsum(scores.T, 1, out=self._sums[:, 1:])
        self._blank = self._sums[blank]
        best_units = scores.argmax(1)
        begins = best_units != np.concatenate(([blank], best_units[:-1]))
        self._path = np.where(begins & (best_units != blank), best_units, -1)

    def locations(
        self, ends: NDArray[np.intp], scores: Scores, length: int, lengths: Sequence[int]
    ) -> tuple[Location, ...]:
        """Where a phrase may be in a text.

        Args:
            ends: frames up to the end of the phrase, for all of its possible ends.
            scores: of the phrase with each end.
            length: bytes of the phrase; the best path writes about as many instead.
            lengths: bytes of each unit.
        """
        units = self._path[self._path >= 0].tolist()
        counts = np.concatenate(([0], np.cumsum(self._path >= 0)))[ends]
        spans = []
        for count in np.unique(counts).tolist():
            begin, left = count, length
            while begin and left > 0:
                begin -= 1
                left -= lengths[units[begin]]
            spans.append((float(scores[counts == count].max()), begin, max(count, begin + 1)))
        return _joined_locations(spans)

    def append(self, ends: Scores, units: NDArray[np.intp]) -> Scores:
        """Scores of texts with one more unit, and any number of blanks after it, [K, N + 1].

        Args:
            ends: scores of the texts by the number of frames that they take, [K, N + 1].
            units: [K].
        """
        sums = self._sums[units]
        longer_ends = np.full_like(ends, -np.inf)
        before = np.maximum.accumulate(ends[:, :-1] - sums[:, :-1], 1)
        longer_ends[:, 1:] = before + sums[:, 1:] - self._blank[1:]
        longer_ends = np.maximum.accumulate(longer_ends, 1)
        longer_ends += self._blank
        return longer_ends


def _best_of_each(
    parts: list[tuple[NDArray[np.intp], Scores]],
) -> tuple[NDArray[np.intp], Scores]:
    """The best scores of each node, of several ways to it."""
    nodes = np.concatenate([one for one, _ in parts])
    scores = np.concatenate([one for _, one in parts])
    order = np.argsort(nodes, kind="stable")
    distinct, firsts = np.unique(nodes[order], return_index=True)
    return distinct, np.maximum.reduceat(scores[order], firsts, axis=0)
