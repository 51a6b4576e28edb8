"""What happens to the words next to the cuts of a long recording.

The words of all chunks in a row are aligned with the reference. A cut lies between two of them; a
word that is missing there, is there twice or has other borders than in the reference may be an
effect of the cut. A model makes such mistakes elsewhere, too, so both shares are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from auris.evaluation.wer import require_jiwer

__all__ = ["CutScore", "score_cuts"]


@dataclass(frozen=True)
class CutScore:
    """The words next to cuts.

    Attributes:
        cuts: boundaries between two words of different chunks.
        lost: words of the reference that are missing right at a cut.
        doubled: words of the reference that are in the text on both sides of a cut.
        broken: words of the reference with a part on each side of a cut.
        glued: words next to a cut that join two words of the reference.
        next_to_cuts: wrong and lost words next to cuts, divided by the words of the text there;
            above 1 where more are wrong and lost than there are words.
        elsewhere: wrong and missing words elsewhere, divided by the words of the text there.
    """

    cuts: int
    lost: int
    doubled: int
    broken: int
    glued: int
    next_to_cuts: float
    elsewhere: float


@dataclass(frozen=True)
class _AlignedWords:
    """Words of a text, aligned with those of the reference.

    Attributes:
        text, reference: the words.
        partner: for every word of the text the index of its word in the reference, or None.
        missing: by index in the text, the indices of words that the reference has before it.
    """

    text: Sequence[str]
    reference: Sequence[str]
    partner: Sequence[int | None]
    missing: dict[int, list[int]]

    def wrong(self, word: int) -> bool:
        """Whether a word of the text is not its word in the reference."""
        partner = self.partner[word]
        return partner is None or self.reference[partner] != self.text[word]

    def doubled(self, cut: int) -> bool:
        """Whether the word after a cut repeats that before it, which the reference has once."""
        partners = self.partner[cut - 1], self.partner[cut]
        return self.text[cut - 1] == self.text[cut] and None in partners

    def broken(self, cut: int) -> bool:
        """Whether the words on both sides of a cut are one word of the reference."""
        joined = self.text[cut - 1] + self.text[cut]
        partners = (self.partner[cut - 1], self.partner[cut])
        return any(self.reference[p] == joined for p in partners if p is not None)

    def glued(self, word: int) -> bool:
        """Whether a word of the text is two words of the reference."""
        partner = self.partner[word]
        if partner is None:
            return False
        pairs = [self.reference[max(first, 0) : first + 2] for first in (partner - 1, partner)]
        return any(len(pair) == 2 and "".join(pair) == self.text[word] for pair in pairs)


def score_cuts(reference: Sequence[str], chunks: Sequence[Sequence[str]]) -> CutScore:
    """Count the effects of cuts.

    Args:
        reference: the words that are spoken, normalized.
        chunks: the words in the text of every chunk, normalized in the same way.

    Raises:
        MissingExtra: jiwer is not installed.
    """
    text = [word for chunk in chunks for word in chunk]
    cuts, end = set(), 0
    for chunk in chunks:
        end += len(chunk)
        cuts.add(end)
    cuts -= {0, len(text)}
    words = _aligned(reference, text)
    around = {word for cut in cuts for word in (cut - 1, cut)}
    lost = sum(len(words.missing.get(cut, ())) for cut in cuts)
    others = [word for word in range(len(text)) if word not in around]
    missing = sum(map(len, words.missing.values())) - lost
    return CutScore(
        cuts=len(cuts),
        lost=lost,
        doubled=sum(map(words.doubled, cuts)),
        broken=sum(map(words.broken, cuts)),
        glued=sum(map(words.glued, around)),
        next_to_cuts=_share(sum(map(words.wrong, around)) + lost, len(around)),
        elsewhere=_share(sum(map(words.wrong, others)) + missing, len(others)),
    )


def _share(part: int, total: int) -> float:
    return part / total if total else 0.0


def _aligned(reference: Sequence[str], text: Sequence[str]) -> _AlignedWords:
    partner: list[int | None] = [None] * len(text)
    missing: dict[int, list[int]] = {}
    for edit in _edits(reference, text):
        referred = range(edit.ref_start_idx, edit.ref_end_idx)
        if edit.type == "delete":
            missing.setdefault(edit.hyp_start_idx, []).extend(referred)
        elif edit.type != "insert":
            partner[edit.hyp_start_idx : edit.hyp_end_idx] = referred
    return _AlignedWords(text, reference, partner, missing)


def _edits(reference: Sequence[str], text: Sequence[str]) -> Sequence[Any]:
    jiwer = require_jiwer()
    if not reference or not text:  # jiwer refuses an empty reference; no word has a partner.
        return ()
    edits: Sequence[Any] = jiwer.process_words(" ".join(reference), " ".join(text)).alignments[0]
    return edits
