"""Replies against the parser of transformers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auris.text.languages import LANGUAGES
from auris.text.reply import Reply, collapse_repeats, ends_before_text, parse_reply, text_indices
from tests.tiny_models import tiny_tokenizer

COUNTS = st.sampled_from([1, 2, 19, 20, 21, 22, 39, 40, 41, 42, 45])
PATTERNS = st.sampled_from(["a", " ", "\n", "ab", "ha ", "aab", "aaab", "你好", "x" * 19 + "y"])
WIDE = st.integers(1, 22).map(lambda width: "abcdefghijklmnopqrstuvwxyz"[:width])
REPEATS = st.builds(lambda pattern, count: pattern * count, PATTERNS | WIDE, COUNTS)
PARTS = st.one_of(
    st.sampled_from(
        [
            "<asr_text>",
            "language ",
            "Language",
            "LANGUAGE ",
            "None",
            "none",
            "English",
            "assistant\n",
            "assistant",
            "\n",
            "\r\n",
            "\u2028",
            "\x1c",
            "\u3000",
            " ",
            "\t",
            "hello world",
            "İ",
            "<asr_text",
        ]
    ),
    REPEATS,
    st.text(max_size=5),
)
REPLIES = st.lists(PARTS, max_size=8).map("".join)
TAGGED = st.builds(
    lambda before, language, between, text: f"{before}language {language}{between}<asr_text>{text}",
    st.sampled_from(["", " ", "\n", "assistant\n", "x\n"]),
    st.sampled_from(["None", "none", "", " ", *LANGUAGES.values()]),
    st.sampled_from(["", " ", "\n", "\nmore", "None"]),
    REPLIES,
)


@pytest.fixture(scope="module")
def reference() -> Any:
    return pytest.importorskip("transformers.models.qwen3_asr.processing_qwen3_asr")


class TestAgainstTheReference:
    @settings(max_examples=400)
    @given(text=REPLIES | TAGGED)
    @example("language None\nmore<asr_text>x")
    @example("language \u3000<asr_text>x")
    @example("None<asr_text>x")
    @example("assistant\nassistant\nlanguage English<asr_text>a<asr_text>b")
    @example("language English<asr_text>assistant\nhello")
    def test_replies_equal_the_reference(self, reference: Any, text: str) -> None:
        expected = reference._parse_single_output(text)
        assert parse_reply(text) == Reply(expected["language"], expected["transcription"])

    @settings(max_examples=400)
    @given(text=st.lists(REPEATS | st.text("ab ", max_size=4), max_size=5).map("".join))
    def test_repeats_equal_the_reference(self, reference: Any, text: str) -> None:
        assert collapse_repeats(text) == reference._detect_and_fix_repetitions(text)

    @pytest.mark.parametrize("count", [*range(1, 3), *range(18, 24), *range(38, 47)])
    @pytest.mark.parametrize(
        "pattern", ["a", "ab", "abc", "a b", "abcdefghijklmnopqrst", "aab" * 7]
    )
    @pytest.mark.parametrize("around", [("", ""), ("x", "y"), ("a", "a"), ("", "ab" * 25)])
    def test_repeats_at_the_limits_equal_the_reference(
        self, reference: Any, count: int, pattern: str, around: tuple[str, str]
    ) -> None:
        text = around[0] + pattern * count + around[1]
        assert collapse_repeats(text) == reference._detect_and_fix_repetitions(text)

    @given(text=REPLIES, forced=st.sampled_from([*LANGUAGES.values()]))
    def test_a_forced_language_is_the_language_of_the_reply(
        self, reference: Any, text: str, forced: str
    ) -> None:
        """The prompt contains it; the text equals the reference."""
        expected = reference._parse_single_output(text)["transcription"]
        assert parse_reply(text, forced) == Reply(forced, expected)


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("language English<asr_text>Hello.", "English", "Hello."),
        ("English<asr_text> Hello. ", "English", "Hello."),
        ("language None<asr_text>", None, ""),
        ("LANGUAGE NONE<asr_text>hm", None, "hm"),
        ("no tag at all", None, "no tag at all"),
        ("", None, ""),
        (" \n ", None, ""),
        ("<asr_text>text", None, "text"),
        ("assistant\nlanguage French<asr_text>oui", "French", "oui"),
        ("language English<asr_text>" + "ha" * 30, "English", "ha"),
        ("language English<asr_text>" + "!" * 20, "English", "!" * 20),
        ("language English<asr_text>" + "!" * 21, "English", "!"),
    ],
)
def test_known_replies(text: str, language: str | None, said: str) -> None:
    assert parse_reply(text) == Reply(language, said)


def test_a_long_loop_is_collapsed_in_linear_time() -> None:
    """The reference recurses once for each collapsed pattern; this package does not."""
    text = "".join(f"{chr(0x4E00 + n)}{chr(0x5E00 + n)}" * 20 for n in range(1500))
    assert len(collapse_repeats(text)) == 3000


def test_text_tokens_are_separated_from_language_tokens() -> None:
    """Also where replies to parts of a chunk are joined."""
    tokenizer = tiny_tokenizer()
    head = [*tokenizer.encode("language English"), tokenizer.id("<asr_text>")]
    first, second = tokenizer.encode("the lazy dog"), tokenizer.encode("my language is")
    for ids, written in (
        (first, "the lazy dog"),
        ([*head, *first], "the lazy dog"),
        ([*head, *first, *head, *second], "the lazy dogmy language is"),
    ):
        places = text_indices(ids, tokenizer)
        assert tokenizer.decode(ids[place] for place in places) == written
    assert text_indices(head, tokenizer) == []
    assert text_indices([], tokenizer) == []


@pytest.mark.parametrize("text", ["", "lan", "language ", "language English", "LANGUAGE x"])
def test_a_reply_truncated_before_its_text_is_empty(text: str) -> None:
    assert ends_before_text(text)
    for other in ("hello there", "languages are hard", "language English<asr_text>Hi"):
        assert not ends_before_text(other)
