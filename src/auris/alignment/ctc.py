"""Times of words from a CTC head: the best path through the trellis of the text's units.

Source: Kürzinger et al., "CTC-segmentation of large corpora for German end-to-end speech
recognition" (2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from auris.audio.segmentation import split
from auris.backends.base import Backend
from auris.checkpoints.validation import check_language
from auris.config import AutCtcConfig, QwenAsrConfig, token_border
from auris.decoding.ctc import CtcPath, forced, frames_needed
from auris.errors import AlignmentError
from auris.recognition.fallback import check_scores
from auris.recognition.recognizer import encode_samples
from auris.text.normalize import spoken
from auris.text.tokenizer import Tokenizer
from auris.text.words import WordSpan, split_words
from auris.types import SAMPLE_RATE, Samples, Segment, Word

MAX_WORDS_PER_UNIT = 3
"""A unit that more words share gives none of them a time."""

UNIT_TAIL_SECONDS = 0.08
"""Seconds that are added to a word after the frame of its last unit: the score of a unit is highest
where it is recognized, one frame before its end. `auris benchmark words` measures this."""


@dataclass(frozen=True)
class Spelling:
    """A text in the units of a model.

    Attributes:
        ids: the units.
        words: the words of the text.
        unit_words: for every unit the indices of the words whose letters it writes; none for a unit
            of punctuation alone.
    """

    ids: tuple[int, ...]
    words: tuple[str, ...]
    unit_words: tuple[tuple[int, ...], ...]


def spell(tokenizer: Tokenizer, text: str, language: str | None) -> Spelling:
    """A text in the units of a vocabulary, encoded as a whole if the units can write all of it.

    If they cannot, as lower-case letters cannot write "Hello!", it is encoded word by word, each
    word as it is or as it is spoken. A word that cannot be written either way has no units.
    """
    text = tokenizer.normalized(text)
    spans = split_words(text, language)
    ids = tokenizer.encode(text)
    if _bytes(tokenizer, ids) == text.encode():
        return _spelling(tokenizer, ids, text, spans)
    written = [_writable(tokenizer, span.text) for span in spans]
    ids = [unit for units in written for unit in units]
    owners = [(word,) for word, units in enumerate(written) for _ in units]
    return Spelling(tuple(ids), tuple(span.text for span in spans), tuple(owners))


def spell_ids(tokenizer: Tokenizer, ids: Sequence[int], language: str | None) -> Spelling | None:
    """Units that a model wrote, with their words; None if they end inside a character."""
    try:
        text = _bytes(tokenizer, ids).decode()
    except UnicodeDecodeError:
        return None
    return _spelling(tokenizer, ids, text, split_words(text, language))


def _bytes(tokenizer: Tokenizer, ids: Sequence[int]) -> bytes:
    contents = map(tokenizer.content, ids)
    return b"".join(part.encode() if isinstance(part, str) else part for part in contents)


def _writable(tokenizer: Tokenizer, word: str) -> list[int]:
    """Units of a word as it is or as it is spoken; none if they write something else."""
    for spelled in (word, spoken(word)):
        if spelled:
            ids = tokenizer.encode(spelled)
            if tokenizer.decode(ids) == spelled:
                return ids
    return []


def _spelling(
    tokenizer: Tokenizer, ids: Sequence[int], text: str, spans: Sequence[WordSpan]
) -> Spelling:
    """Units whose bytes are those of the text, each with the words that it overlaps."""
    offsets = [0, *accumulate(len(letter.encode()) for letter in text)]
    words = [(offsets[span.start], offsets[span.end]) for span in spans]
    unit_words, begin, first = [], 0, 0
    for unit in ids:
        end = begin + len(_bytes(tokenizer, [unit]))
        while first < len(words) and words[first][1] <= begin:
            first += 1
        overlapped = []
        for index in range(first, len(words)):
            if words[index][0] >= end:
                break
            if max(words[index][0], begin) < min(words[index][1], end):
                overlapped.append(index)
        unit_words.append(tuple(overlapped))
        begin = end
    return Spelling(tuple(ids), tuple(span.text for span in spans), tuple(unit_words))


@dataclass(frozen=True)
class _Frames:
    """CTC scores [N, K] of a recording, and begin and end of every frame in seconds."""

    logprobs: Tensor
    begins: list[float]
    ends: list[float]


class CtcAlignment:
    """Aligns words by a model with a CTC head.

    Args:
        transcribes: whether this model also writes the segments whose words are aligned, so that
            their tokens are its units. Tokens of another model are other units.
    """

    def __init__(
        self,
        backend: Backend,
        config: AutCtcConfig | QwenAsrConfig,
        tokenizer: Tokenizer,
        transcribes: bool = False,
    ) -> None:
        self.backend, self.config, self.tokenizer = backend, config, tokenizer
        self.transcribes = transcribes
        self.blank = config.blank if isinstance(config, AutCtcConfig) else config.decoder.vocab

    def check(self, language: str | None) -> None:
        if isinstance(self.config, AutCtcConfig):
            check_language(self.config, language)

    def words(self, samples: Samples, text: str, language: str | None) -> list[Word]:
        return self._align(samples, spell(self.tokenizer, text, self._language(language)))

    def segment_words(
        self, samples: Samples, segment: Segment, states: Tensor | None = None
    ) -> list[Word]:
        language = self._language(segment.language)
        spelling: Spelling | None = None
        # What the head has written itself is aligned in its own units, which need not be those
        # that its text would be cut into.
        if self.transcribes and isinstance(self.config, AutCtcConfig):
            spelling = spell_ids(self.tokenizer, segment.tokens, language)
        if spelling is None:
            spelling = spell(self.tokenizer, segment.text, language)
        return self._align(samples, spelling, states if self.transcribes else None)

    def _language(self, language: str | None) -> str | None:
        return self.config.language if isinstance(self.config, AutCtcConfig) else language

    def _align(
        self, samples: Samples, spelling: Spelling, states: Tensor | None = None
    ) -> list[Word]:
        if not spelling.ids:
            return [Word(word, None, None) for word in spelling.words]
        classes = sorted(set(spelling.ids))
        columns = {unit: column for column, unit in enumerate(classes)}
        frames = self._score(samples, [*classes, self.blank], states)
        check_scores([float(frames.logprobs.sum())])
        path = forced(frames.logprobs, [columns[unit] for unit in spelling.ids], len(classes))
        if path is None:
            raise AlignmentError(
                f"The text needs {frames_needed(spelling.ids)} frames of 80 ms",
                f"the recording has {len(frames.logprobs)}",
                "check that text and recording belong together",
            )
        return _words(spelling, path, frames)

    def _score(self, samples: Samples, classes: Sequence[int], states: Tensor | None) -> _Frames:
        """Scores of some classes; the recording is cut into chunks as for transcription.

        Args:
            states: of the encoder for all samples, used where these are one chunk.
        """
        logprobs, begins, ends = [], [], []
        for chunk in split([samples]):
            if states is None or len(chunk.samples) < len(samples):
                states = encode_samples(self.backend, self.config, chunk.samples)
            (logits,) = self.backend.ctc_logits([states])
            logprobs.append(logits.log_softmax(-1)[:, list(classes)].cpu())
            start, seconds = chunk.start / SAMPLE_RATE, len(chunk.samples) / SAMPLE_RATE
            borders = [min(token_border(index), seconds) for index in range(len(logits))]
            begins += [start + border for border in borders]
            # The last frame ends with the chunk.
            ends += [start + border for border in [*borders[1:], seconds]]
        return _Frames(torch.cat(logprobs), begins, ends)


@dataclass
class _DraftWord:
    """A word that is being aligned: its share of every unit that writes it."""

    spans: list[tuple[float, float]]
    logprobs: list[float]
    shared: int = 1

    def finish(self, text: str) -> Word:
        if not self.spans:
            return Word(text, None, None)
        confidence = math.exp(math.fsum(self.logprobs) / len(self.logprobs))
        if self.shared > MAX_WORDS_PER_UNIT:
            return Word(text, None, None, confidence)
        return Word(text, self.spans[0][0], self.spans[-1][1], confidence, self.shared > 1)


def _words(spelling: Spelling, path: CtcPath, frames: _Frames) -> list[Word]:
    """Words from the frames of their units; a unit of several words is divided evenly."""
    drafts = [_DraftWord([], []) for _ in spelling.words]
    for unit, unit_words in enumerate(spelling.unit_words):
        if not unit_words:
            continue
        begin, end = frames.begins[path.first[unit]], frames.ends[path.last[unit]]
        step = (end - begin) / len(unit_words)
        steps = [*(begin + n * step for n in range(len(unit_words))), end]
        for word, span in zip(unit_words, pairwise(steps), strict=True):
            drafts[word].spans.append(span)
            drafts[word].logprobs.append(path.logprobs[unit])
            drafts[word].shared = max(drafts[word].shared, len(unit_words))
    words = [draft.finish(text) for draft, text in zip(drafts, spelling.words, strict=True)]
    return _lengthened(words, frames.ends[-1])


def _lengthened(words: list[Word], end: float) -> list[Word]:
    """Words that end `UNIT_TAIL_SECONDS` later, but not after the next word or the recording."""
    following = end
    for index in reversed(range(len(words))):
        word = words[index]
        if word.start is not None and word.end is not None:
            tail = min(word.end + UNIT_TAIL_SECONDS, following)
            words[index] = replace(word, end=max(word.end, tail))
            following = word.start
    return words
