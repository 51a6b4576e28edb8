"""When the words of a partial text end, by the scores of a CTC head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from auris.config import token_border
from auris.decoding.ctc import forced
from auris.recognition.confidence import ScoredWord

TAIL_FRAMES = 1
"""Frames that are added to a word after that of its last unit, where the unit scores highest."""


def ends_of_words(
    words: Sequence[ScoredWord], tokens: Sequence[int], scores: Tensor | None
) -> list[float | None]:
    """When each word ends, in seconds of the chunk; None if it is not known.

    Args:
        words: in the order of the text.
        tokens: of the text, which are also the units of the head.
        scores: unit scores [N, units + 1] of the chunk, blank last; None without a head.
    """
    unknown: list[float | None] = [None] * len(words)
    indices = sorted({index for word in words for index in word.tokens})
    if scores is None or not indices:
        return unknown
    classes = sorted({tokens[index] for index in indices})
    columns = {unit: column for column, unit in enumerate(classes)}
    logprobs = scores.float().log_softmax(-1)[:, [*classes, scores.shape[-1] - 1]]
    path = forced(logprobs, [columns[tokens[index]] for index in indices], len(classes))
    if path is None:
        return unknown
    ends = dict(zip(indices, path.last, strict=True))
    return [
        token_border(ends[word.tokens[-1]] + 1 + TAIL_FRAMES) if word.tokens else None
        for word in words
    ]
