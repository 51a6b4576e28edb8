"""Settled words behind a cut without a pause: they are carried to the next chunk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from auris import AsrPipeline
from auris.config import token_border
from auris.recognition.requests import ChunkRequest, DecodeOptions, DecodeResult
from auris.streaming.decoder import StreamState
from auris.streaming.encoder import IncrementalEncoder
from auris.streaming.live_text import LiveChange, LiveText
from auris.streaming.settle import SettleRule
from auris.types import SAMPLE_RATE, Chunk, FinishReason, Segment

FRAMES = 40
"""Frames of the CTC head, of about 80 ms."""

EVERY = 10
"""Frames from one word to the next."""


class Stream:
    """The live text of a CTC model that writes certain words at certain times."""

    def __init__(self, pipeline: AsrPipeline) -> None:
        self._tokenizer = pipeline.recognizer.tokenizer
        config = pipeline.recognizer.config
        self._units = self._tokenizer.size
        self._state = StreamState(IncrementalEncoder(config))
        self.text = LiveText(self._tokenizer, self._state, SettleRule(0.5, 0.5))

    def partial(
        self, text: str, seconds: float, start: float = 0.0, reason: FinishReason = "stop"
    ) -> LiveChange:
        """A step whose words end one after the other, one in `EVERY` frames."""
        tokens: list[int] = []
        scores = torch.zeros(FRAMES, self._units + 1)
        scores[:, -1] = 5.0
        for number, word in enumerate(text.split()):
            ids = self._tokenizer.encode((" " if number else "") + word)
            for index, token in enumerate(ids):
                scores[EVERY * number + index, token] = 10.0
            tokens += ids
        self._state.logits = scores
        chunk = Chunk(round(start * SAMPLE_RATE), np.zeros(16, np.float32))
        request = ChunkRequest(0, chunk, DecodeOptions())
        result = DecodeResult(request, tuple(tokens), (-0.1,) * len(tokens), reason)
        return self.text.add_partial(result, self._segment(text, start, seconds), seconds)

    def searched(self, text: str, seconds: float) -> LiveChange:
        """A search of the chunk so far, whose words are certain."""
        certain = tuple((word, 1.0) for word in text.split())
        tokens = tuple(self._tokenizer.encode(text))
        segment = replace(
            self._segment(text, 0.0, seconds), tokens=tokens, word_confidences=certain
        )
        return self.text.add_searched(segment, seconds, self._state.logits)

    def final(self, text: str, start: float, end: float) -> LiveChange:
        """The end of a chunk."""
        return self.text.add_final(self._segment(text, start, end))

    def _segment(self, text: str, start: float, end: float) -> Segment:
        return Segment(start, end, text, "English", (), (), "stop")


def shown(final: str, carried: str, deltas: list[str], partial: str = "") -> str:
    """What a client of the three states shows."""
    return (final + carried + "".join(deltas) + partial).strip()


def test_words_behind_a_cut_stay_shown(pipelines: dict[str, AsrPipeline]) -> None:
    stream = Stream(pipelines["ctc"])
    steps = [stream.partial("one two three four", seconds) for seconds in (3.0, 3.5, 4.0)]
    deltas = [step.delta for step in steps]
    assert shown("", "", deltas) == "one two three four"
    # The cut lies between the ends of the second and of the third word.
    final = stream.final("one two", 0.0, token_border(EVERY + EVERY // 2))
    assert final.settled == "one two three four"
    assert (final.delta, final.carried) == ("", " three four")
    assert (final.settled_words, final.revised) == (2, 0)
    assert shown("one two", final.carried, []) == "one two three four"
    begun = stream.partial("three four five", 4.5, start=1.2)
    assert (begun.settled, begun.delta, begun.partial) == ("three four", "", " five")
    last = stream.final("three four five", 1.2, 4.5)
    assert (last.delta, last.carried, last.revised) == (" five", "", 0)


def test_the_update_of_a_stream_has_the_carried_words(pipelines: dict[str, AsrPipeline]) -> None:
    change = LiveChange("", "one", "", 1, 0, " two")
    stream = pipelines["ctc"].stream()
    stream.push(np.zeros(SAMPLE_RATE, np.float32))
    step = stream.next_step()
    assert step is not None
    segment = Segment(0.0, 1.0, "one", "English", (), (), "stop")
    stream._add_update(step, segment, None, change)
    (update,) = stream.updates()
    assert update.carried == update.to_dict()["carried"] == " two"


@pytest.mark.parametrize("end", [0.5, 3.9])
def test_a_cut_in_front_of_or_behind_all_words(
    pipelines: dict[str, AsrPipeline], end: float
) -> None:
    stream = Stream(pipelines["ctc"])
    for seconds in (3.0, 3.5, 4.0):
        stream.partial("one two", seconds)
    change = stream.final("one two" if end > 1 else "", 0.0, end)
    assert change.carried == ("" if end > 1 else " two")


@pytest.mark.parametrize("settled", [False, True])
def test_text_of_the_next_chunk_follows_the_words_in_front_of_the_cut(
    pipelines: dict[str, AsrPipeline], settled: bool
) -> None:
    """While the final text of a chunk is not known, the next one has the words behind its end."""
    stream = Stream(pipelines["ctc"])
    for seconds in (3.0, 3.5, 4.0) if settled else (1.0,):
        stream.partial("one two three four", seconds)
    stream.text.end_chunk(token_border(EVERY + EVERY // 2))
    text, change = stream.text.show_ahead("three four five")
    assert text == "one two three four five"
    assert change.partial == (" five" if settled else text)
    assert (change.delta, change.revised, change.carried) == ("", 0, "")
    final = stream.final("one two", 0.0, token_border(EVERY + EVERY // 2))
    assert final.carried == (" three four" if settled else "")


def test_without_a_word_in_front_of_the_cut_only_the_next_chunk_is_shown(
    pipelines: dict[str, AsrPipeline],
) -> None:
    stream = Stream(pipelines["ctc"])
    stream.partial("one", 2.0, start=1.0)
    stream.text.end_chunk(0.5)
    assert stream.text.show_ahead("two")[0] == "two"
    stream.final("", 0.0, 0.5)
    assert stream.text.show_ahead("two")[0] == "two"


def test_words_of_a_search_settle_although_a_later_text_is_shorter(
    pipelines: dict[str, AsrPipeline],
) -> None:
    """Steps go on during a search, and the text of a later one may be shorter."""
    stream = Stream(pipelines["ctc"])
    stream.partial("one two three four", 8.0)
    stream.partial("one", 8.5, reason="loop")
    found = stream.searched("one two three four", 8.0)
    assert (found.settled, found.delta) == ("one two three four",) * 2
    assert found.partial == ""
    assert stream.final("one two three four five", 0.0, 9.0).delta == " five"
