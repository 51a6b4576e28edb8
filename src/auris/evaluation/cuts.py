"""What becomes of the words beside the cuts of a long recording.

The words of all pieces in a row are aligned with what was said. A cut lies between two of them;
what is missing there, stands there twice or has other borders than the words that were said may be
the cut's doing. A model makes such mistakes elsewhere, too, so both shares are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from auris.evaluation.wer import require_jiwer

__all__ = ["CutScore", "score_cuts"]


@dataclass(frozen=True)
class CutScore:
    """The words beside cuts.

    Attributes:
        cuts: places between two words that lie in different pieces.
        lost: words that were said and are missing right at a cut.
        doubled: words that were said once and stand on both sides of a cut.
        broken: words of which each side of a cut has a part.
        glued: words beside a cut that are two words that were said.
        beside: wrong words beside cuts and lost ones, by the words that were read beside cuts;
            above 1 where more are wrong and lost than were read.
        elsewhere: wrong words elsewhere and those missing there, by the words that were read there.
    """

    cuts: int
    lost: int
    doubled: int
    broken: int
    glued: int
    beside: float
    elsewhere: float


@dataclass(frozen=True)
class _Marked:
    """Words that were read, beside those that were said.

    Attributes:
        read, said: the words.
        place: of every word read, the word said in its place; None where there is none.
        missing: by place among the words read, the words said that are missing before it.
    """

    read: Sequence[str]
    said: Sequence[str]
    place: Sequence[int | None]
    missing: dict[int, list[int]]

    def wrong(self, word: int) -> bool:
        """Whether a word that was read was not said."""
        place = self.place[word]
        return place is None or self.said[place] != self.read[word]

    def doubled(self, cut: int) -> bool:
        """Whether the word behind a cut is that before it, which was said once."""
        places = self.place[cut - 1], self.place[cut]
        return self.read[cut - 1] == self.read[cut] and None in places

    def broken(self, cut: int) -> bool:
        """Whether the words beside a cut are one that was said."""
        whole = self.read[cut - 1] + self.read[cut]
        places = [p for p in (self.place[cut - 1], self.place[cut]) if p is not None]
        return any(self.said[place] == whole for place in places)

    def glued(self, word: int) -> bool:
        """Whether a word that was read is two that were said."""
        place = self.place[word]
        if place is None:
            return False
        pairs = [self.said[max(first, 0) : first + 2] for first in (place - 1, place)]
        return any(len(pair) == 2 and "".join(pair) == self.read[word] for pair in pairs)


def score_cuts(said: Sequence[str], pieces: Sequence[Sequence[str]]) -> CutScore:
    """Count what happened at cuts.

    Args:
        said: the words that were said, normalized.
        pieces: the words read in every piece, normalized alike.

    Raises:
        MissingExtra: jiwer is not installed.
    """
    read = [word for piece in pieces for word in piece]
    cuts, end = set(), 0
    for piece in pieces:
        end += len(piece)
        cuts.add(end)
    cuts -= {0, len(read)}
    marked = _marked(said, read)
    around = {word for cut in cuts for word in (cut - 1, cut)}
    lost = sum(len(marked.missing.get(cut, ())) for cut in cuts)
    others = [word for word in range(len(read)) if word not in around]
    dropped = sum(map(len, marked.missing.values())) - lost
    return CutScore(
        cuts=len(cuts),
        lost=lost,
        doubled=sum(map(marked.doubled, cuts)),
        broken=sum(map(marked.broken, cuts)),
        glued=sum(map(marked.glued, around)),
        beside=_share(sum(map(marked.wrong, around)) + lost, len(around)),
        elsewhere=_share(sum(map(marked.wrong, others)) + dropped, len(others)),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _marked(said: Sequence[str], read: Sequence[str]) -> _Marked:
    place: list[int | None] = [None] * len(read)
    missing: dict[int, list[int]] = {}
    for chunk in _alignment(said, read):
        said_here = range(chunk.ref_start_idx, chunk.ref_end_idx)
        if chunk.type == "delete":
            missing.setdefault(chunk.hyp_start_idx, []).extend(said_here)
        elif chunk.type != "insert":
            place[chunk.hyp_start_idx : chunk.hyp_end_idx] = said_here
    return _Marked(read, said, place, missing)


def _alignment(said: Sequence[str], read: Sequence[str]) -> Sequence[Any]:
    """The edits between two rows of words."""
    jiwer = require_jiwer()
    if not said or not read:  # jiwer refuses these, and no word stands in the place of another.
        return ()
    edits: Sequence[Any] = jiwer.process_words(" ".join(said), " ".join(read)).alignments[0]
    return edits
