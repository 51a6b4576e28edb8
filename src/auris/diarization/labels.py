"""Speakers of words and segments: a word takes the speaker of its time, and a segment is divided
where the speaker changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from auris.recognition.confidence import scored_words
from auris.text.tokenizer import Tokenizer
from auris.text.words import WordSpan, split_words
from auris.types import Segment, SpeakerTurn, Word


@dataclass(frozen=True)
class SpeakerTimes:
    """The turns of a recording, for questions about spans of it."""

    turns: tuple[SpeakerTurn, ...]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]

    @classmethod
    def of(cls, turns: Sequence[SpeakerTurn]) -> SpeakerTimes:
        """The turns, which are ordered by their starts."""
        ends = np.array([turn.end for turn in turns])
        return cls(tuple(turns), np.array([turn.start for turn in turns]), ends)

    def speaker(self, start: float, end: float, before: str | None = None) -> str | None:
        """Who speaks most between two times, or else nearest to them; None without any turn.

        Args:
            before: the speaker before, who goes on where several speak as long.
        """
        if not self.turns:
            return None
        shared = np.minimum(self.ends, end) - np.maximum(self.starts, start)
        if shared.max() <= 0:  # A negative length is a distance.
            return self.turns[int(shared.argmax())].speaker
        lengths: dict[str, float] = {}
        for index in np.flatnonzero(shared > 0):
            speaker = self.turns[index].speaker
            lengths[speaker] = lengths.get(speaker, 0.0) + float(shared[index])
        longest = max(lengths.values())
        if before is not None and lengths.get(before, 0.0) >= longest:
            return before
        return max(lengths, key=lambda speaker: lengths[speaker])


def labelled(
    segments: Iterable[Segment], turns: Sequence[SpeakerTurn], tokenizer: Tokenizer, words: bool
) -> list[Segment]:
    """Segments with their speakers, see `with_speakers`.

    Args:
        words: whether they show the times of their words.
    """
    times = SpeakerTimes.of(turns)
    parts = [part for segment in segments for part in with_speakers(segment, times, tokenizer)]
    return parts if words else [replace(part, words=None) for part in parts]


def with_speakers(segment: Segment, times: SpeakerTimes, tokenizer: Tokenizer) -> list[Segment]:
    """A segment with its speaker; several where the speaker changes between its words.

    A segment without words that have times is not divided. Tokens are divided with the words that
    they write, and the reason why the decoding ended stays with the last part.
    """
    if not segment.text.strip():
        return [segment]
    words = _speaking(segment.words or (), times)
    if not any(word.speaker for word in words):
        return [replace(segment, speaker=times.speaker(segment.start, segment.end))]
    runs = [list(run) for _, run in groupby(words, key=lambda word: word.speaker)]
    if len(runs) == 1:
        return [replace(segment, words=tuple(words), speaker=words[0].speaker)]
    counts = [len(run) for run in runs]
    borders = [sum(counts[:number]) for number in range(1, len(counts))]
    texts = _divided_text(segment, words, borders)
    tokens = _token_borders(segment, words, borders, tokenizer)
    scores = _score_borders(segment, words, borders)
    parts = [
        _part(segment, run, text, token, score)
        for run, text, token, score in zip(
            runs,
            texts,
            _spans(tokens, len(segment.tokens)),
            _spans(scores, len(segment.word_confidences)),
            strict=True,
        )
    ]
    return _in_time(segment, [part for part in parts if part.text.strip()])


def _speaking(words: Sequence[Word], times: SpeakerTimes) -> list[Word]:
    """Words with their speakers; those without times take the one of the word before."""
    spoken: list[Word] = []
    speaker: str | None = None
    for word in words:
        if word.start is not None and word.end is not None:
            speaker = times.speaker(word.start, word.end, speaker)
        spoken.append(replace(word, speaker=speaker))
    first = next((word.speaker for word in spoken if word.speaker), None)
    return [word if word.speaker else replace(word, speaker=first) for word in spoken]


def _spans(borders: Sequence[int], end: int) -> list[tuple[int, int]]:
    edges = [0, *borders, end]
    return list(pairwise(edges))


def _divided_text(segment: Segment, words: Sequence[Word], borders: Sequence[int]) -> list[str]:
    """The text of each part; clean-up may have changed words, so equal ones are matched."""
    spans = split_words(segment.text, segment.language)
    matcher = SequenceMatcher(
        None, [word.text for word in words], [span.text for span in spans], autojunk=False
    )
    positions = {
        block.a + step: block.b + step
        for block in matcher.get_matching_blocks()
        for step in range(block.size)
    }
    cuts: list[int] = []
    for border in borders:
        number = next(
            (positions[n] for n in range(border, len(words)) if n in positions), len(spans)
        )
        cut = len(segment.text) if number == len(spans) else _beginning(segment.text, spans, number)
        cuts.append(max(cut, cuts[-1] if cuts else 0))
    return [segment.text[first:last].strip() for first, last in _spans(cuts, len(segment.text))]


def _beginning(text: str, spans: Sequence[WordSpan], number: int) -> int:
    """Where a word begins, with the separate marks before it; closing ones end the word before."""
    first = spans[number].start
    before = spans[number - 1].end if number else 0
    gap = text[before:first]
    separate = len(gap) - len(gap.rstrip()) == 0 and any(map(str.isspace, gap))
    return first - len(gap.split()[-1]) if separate else first


def _token_borders(
    segment: Segment, words: Sequence[Word], borders: Sequence[int], tokenizer: Tokenizer
) -> list[int]:
    """The number of the first token of the words at the borders."""
    text = " ".join(word for word, _ in segment.word_confidences)
    scored = scored_words(tokenizer, segment.tokens, text)
    letters = np.cumsum([0, *(len(word.text) for word in scored)])
    cuts: list[int] = []
    for border in borders:
        position = sum(len(word.text) for word in words[:border])
        number = int(np.searchsorted(letters, position))
        following = [word.tokens[0] for word in scored[number:] if word.tokens]
        cut = following[0] if following else len(segment.tokens)
        cuts.append(max(cut, cuts[-1] if cuts else 0))
    return cuts


def _score_borders(segment: Segment, words: Sequence[Word], borders: Sequence[int]) -> list[int]:
    """The number of the first of the words with confidences at the borders, by letters."""
    letters = np.cumsum([0, *(len(word) for word, _ in segment.word_confidences)])
    positions = [sum(len(word.text) for word in words[:border]) for border in borders]
    last = len(segment.word_confidences)
    return [min(int(np.searchsorted(letters, position)), last) for position in positions]


def _part(
    segment: Segment,
    words: Sequence[Word],
    text: str,
    token: tuple[int, int],
    score: tuple[int, int],
) -> Segment:
    tokens, scores = slice(*token), segment.word_confidences[slice(*score)]
    known = [confidence for _, confidence in scores if confidence is not None]
    times = [word for word in words if word.start is not None and word.end is not None]
    start, end = (times[0].start, times[-1].end) if times else (segment.start, segment.end)
    return replace(
        segment,
        start=segment.start if start is None else start,
        end=segment.end if end is None else end,
        text=text,
        words=tuple(words),
        speaker=words[0].speaker,
        tokens=segment.tokens[tokens],
        logprobs=segment.logprobs[tokens],
        token_confidences=segment.token_confidences[tokens],
        word_confidences=scores,
        confidence=sum(known) / len(known) if known else None,
        finish_reason="stop",
        retries=(),
    )


def _in_time(segment: Segment, parts: list[Segment]) -> list[Segment]:
    """The parts from the start to the end of the segment, in the order of time."""
    if not parts:
        return [segment]
    starts, time = [segment.start], segment.start
    for part in parts[1:]:
        time = min(max(part.start, time), segment.end)
        starts.append(time)
    following = [*starts[1:], segment.end]
    ends = [
        min(max(part.end, start), later)
        for part, start, later in zip(parts, starts, following, strict=True)
    ]
    ends[-1] = segment.end
    timed = [
        replace(part, start=start, end=end)
        for part, start, end in zip(parts, starts, ends, strict=True)
    ]
    timed[0] = replace(timed[0], retries=segment.retries)
    timed[-1] = replace(timed[-1], finish_reason=segment.finish_reason)
    return timed
