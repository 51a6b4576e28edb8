"""Speakers of words, and segments that are divided between them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from auris.diarization.labels import SpeakerTimes, with_speakers
from auris.types import Segment, SpeakerTurn, Word
from tests.tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
TEXT = "the quick fox. (over the) dog"
WORDS = ("the", "quick", "fox", "over", "the", "dog")


def segment(text: str = TEXT, words: tuple[str, ...] = WORDS) -> Segment:
    """A word each second, from second 10 on."""
    tokens = tuple(TOKENIZER.encode(text))
    count = len(words)
    return Segment(
        start=10.0,
        end=10.0 + count,
        text=text,
        language="English",
        tokens=tokens,
        logprobs=tuple(-0.1 * n for n in range(len(tokens))),
        finish_reason="length",
        words=tuple(Word(word, 10.0 + n, 10.9 + n) for n, word in enumerate(words)),
        token_confidences=tuple(0.5 for _ in tokens),
        word_confidences=tuple((word, (n + 1) / 10) for n, word in enumerate(words)),
        confidence=0.35,
    )


def times(*turns: tuple[float, float, str]) -> SpeakerTimes:
    return SpeakerTimes.of([SpeakerTurn(*turn) for turn in turns])


def test_a_segment_of_one_speaker_stays_whole() -> None:
    (part,) = with_speakers(segment(), times((9.0, 20.0, "Ann")), TOKENIZER)
    assert part.speaker == "Ann"
    assert {word.speaker for word in part.words or ()} == {"Ann"}
    assert replace(part, speaker=None, words=None) == replace(segment(), words=None)


def test_a_segment_is_divided_where_the_speaker_changes() -> None:
    first, second = with_speakers(segment(), times((9, 13, "Ann"), (13, 20, "Bob")), TOKENIZER)
    assert (first.speaker, second.speaker) == ("Ann", "Bob")
    assert (first.text, second.text) == ("the quick fox.", "(over the) dog")
    assert (first.start, first.end, second.start, second.end) == (10.0, 12.9, 13.0, 16.0)
    assert [word.text for word in second.words or ()] == ["over", "the", "dog"]
    assert first.word_confidences + second.word_confidences == segment().word_confidences
    assert first.confidence == pytest.approx(0.2)
    assert (first.finish_reason, second.finish_reason) == ("stop", "length")


def test_nothing_is_lost_or_doubled() -> None:
    whole = segment()
    parts = with_speakers(
        whole, times((9, 11, "Ann"), (11, 13, "Bob"), (13, 14, "Ann"), (14, 20, "Cleo")), TOKENIZER
    )
    assert [part.speaker for part in parts] == ["Ann", "Bob", "Ann", "Cleo"]
    assert " ".join(part.text for part in parts) == whole.text
    assert sum((part.tokens for part in parts), ()) == whole.tokens
    assert sum((part.logprobs for part in parts), ()) == whole.logprobs
    spans = [(part.start, part.end) for part in parts]
    assert spans == sorted(spans)
    assert (spans[0][0], spans[-1][1]) == (whole.start, whole.end)
    assert all(end <= after for (_, end), (after, _) in pairwise(spans))
    decoded = [TOKENIZER.decode(part.tokens).strip() for part in parts]
    assert decoded[0].startswith("the")
    assert decoded[-1].endswith("dog")


def test_cleaned_up_words_are_divided_where_equal_words_lie() -> None:
    spoken = replace(segment(), text="The 2 fox. Over the dog!")
    first, second = with_speakers(spoken, times((9, 13, "Ann"), (13, 20, "Bob")), TOKENIZER)
    assert first.text + " " + second.text == spoken.text


def test_text_without_spaces_is_divided() -> None:
    words = tuple("今天天气很好")
    parts = with_speakers(
        replace(segment("今天天气,很好。", words), language="Chinese"),
        times((9, 14, "Ann"), (14, 20, "Bob")),
        TOKENIZER,
    )
    assert [part.text for part in parts] == ["今天天气,", "很好。"]


def test_words_without_times_follow_the_word_before() -> None:
    given = segment()
    words = list(given.words or ())
    words[3] = Word("over", None, None)
    parts = with_speakers(
        replace(given, words=tuple(words)), times((9, 13, "Ann"), (13, 20, "Bob")), TOKENIZER
    )
    assert [part.text for part in parts] == ["the quick fox. (over", "the) dog"]


def test_without_words_a_segment_has_the_speaker_of_most_of_it() -> None:
    plain = replace(segment(), words=None)
    (part,) = with_speakers(plain, times((9, 12, "Ann"), (12, 20, "Bob")), TOKENIZER)
    assert (part.speaker, part.text) == ("Bob", plain.text)


def test_text_outside_all_turns_has_the_nearest_speaker() -> None:
    far = times((0, 2, "Ann"), (40, 50, "Bob"))
    assert with_speakers(segment(), far, TOKENIZER)[0].speaker == "Ann"
    assert with_speakers(segment(), times(), TOKENIZER)[0].speaker is None


def test_silence_has_no_speaker() -> None:
    silent = replace(segment(), text="", words=(), no_speech=True)
    assert with_speakers(silent, times((9, 20, "Ann")), TOKENIZER) == [silent]


def test_overlapping_speech_goes_on_with_the_speaker_before() -> None:
    both = times((9, 20, "Ann"), (12, 15, "Bob"))
    assert [part.speaker for part in with_speakers(segment(), both, TOKENIZER)] == ["Ann"]
    assert both.speaker(12.2, 12.8, "Bob") == "Bob"
