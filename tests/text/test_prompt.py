"""Prompts against the processor of transformers, and the chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auris.config import audio_tokens
from auris.errors import TokenizerError, UsageError
from auris.text.languages import LANGUAGES
from auris.text.prompt import (
    AUDIO_END,
    AUDIO_PAD,
    AUDIO_START,
    CHAT_TEMPLATE,
    CONTROL_TOKENS,
    TEXT_TAG,
    TURN_END,
    TURN_START,
    prompt_ids,
)
from auris.text.tokenizer import Tokenizer

HOP = 160
SHORTEST = 8000
"""Clips under half a second are heard as half a second."""

CONTEXTS = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [
                "Kubernetes",
                "\n",
                "\r\n",
                "  ",
                "\u0301",
                "{{x}}",
                "{% raw %}",
                "system\n",
                "你好",
                "<|",
            ]
        )
    ).map("".join),
)
FORCED = st.sampled_from([None, *LANGUAGES.values()])
SECOND = 16000
LENGTHS = [
    0,
    1,
    159,
    7999,
    8000,
    8001,
    8160,
    15999,
    16000,
    16159,
    16160,
    17280,
    31999,
    32000,
    40000,
]


def slots(samples: int) -> int:
    return audio_tokens(max(samples, SHORTEST) // HOP)


def reference_ids(
    processor: Any, samples: int, language: str | None = None, context: str | None = None
) -> list[int]:
    """Ids from transformers for a clip of silence."""
    clip = np.zeros(samples, dtype=np.float32)
    request = processor.apply_transcription_request(clip, language=language, prompt=context)
    (row,) = request["input_ids"].tolist()
    return row


def spells_control(context: str) -> bool:
    return any(token in context for token in CONTROL_TOKENS)


class TestAgainstTheReference:
    @given(context=CONTEXTS, language=FORCED)
    @example("", "English")
    @example(" \n", None)
    def test_any_plain_context(
        self, tokenizer: Tokenizer, processor: Any, context: str, language: str | None
    ) -> None:
        if spells_control(context):
            return
        expected = reference_ids(processor, SHORTEST, language, context)
        assert prompt_ids(tokenizer, slots(SHORTEST), language, context) == expected

    @pytest.mark.parametrize("language", [None, *LANGUAGES.values()])
    def test_every_language(
        self, tokenizer: Tokenizer, processor: Any, language: str | None
    ) -> None:
        expected = reference_ids(processor, SHORTEST, language)
        assert prompt_ids(tokenizer, slots(SHORTEST), language) == expected

    @pytest.mark.parametrize("samples", LENGTHS)
    def test_every_length(self, tokenizer: Tokenizer, processor: Any, samples: int) -> None:
        expected = reference_ids(processor, samples, "English", "names")
        assert prompt_ids(tokenizer, slots(samples), "English", "names") == expected

    @given(samples=st.integers(1, 10 * SECOND))
    def test_any_length(self, tokenizer: Tokenizer, processor: Any, samples: int) -> None:
        assert prompt_ids(tokenizer, slots(samples)) == reference_ids(processor, samples)

    def test_no_context_equals_an_empty_context(self, processor: Any) -> None:
        assert reference_ids(processor, SHORTEST, None, None) == reference_ids(
            processor, SHORTEST, None, ""
        )

    @pytest.mark.parametrize("token", [*CONTROL_TOKENS])
    def test_control_tokens_in_a_context(
        self, tokenizer: Tokenizer, processor: Any, token: str
    ) -> None:
        """A known difference: the reference turns typed text into control tokens."""
        context = f"a {token} b"
        if token == AUDIO_PAD:
            with pytest.raises(Exception):  # noqa: B017, PT011 - it counts placeholders
                reference_ids(processor, SHORTEST, None, context)
        else:
            theirs = reference_ids(processor, SHORTEST, None, context)
            assert theirs.count(tokenizer.id(token)) == 1 + reference_ids(
                processor, SHORTEST
            ).count(tokenizer.id(token))
        ours = prompt_ids(tokenizer, 7, None, context)
        plain = tokenizer.encode(f"system\n{context}")
        assert ours == [
            ours[0],
            *plain,
            *prompt_ids(tokenizer, 7)[1 + len(plain_system(tokenizer)) :],
        ]


def plain_system(tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode("system\n")


class TestShape:
    @given(
        context=st.lists(CONTEXTS | st.sampled_from([*CONTROL_TOKENS])).map("".join),
        language=FORCED,
        tokens=st.integers(0, 40),
    )
    def test_control_tokens_come_only_from_the_template(
        self, tokenizer: Tokenizer, context: str, language: str | None, tokens: int
    ) -> None:
        controls = {tokenizer.id(token): token for token in CONTROL_TOKENS}
        ids = prompt_ids(tokenizer, tokens, language, context)
        placed = [controls[number] for number in ids if number in controls]
        audio = [AUDIO_START, *[AUDIO_PAD] * tokens, AUDIO_END]
        system, user = [TURN_START, TURN_END], [TURN_START, *audio, TURN_END]
        assert placed == [*system, *user, TURN_START, *([TEXT_TAG] if language else [])]

    def test_the_prompt_in_full(self, tokenizer: Tokenizer) -> None:
        turn, end, newline = (
            tokenizer.id(TURN_START),
            tokenizer.id(TURN_END),
            tokenizer.encode("\n"),
        )
        audio = [tokenizer.id(t) for t in (AUDIO_START, AUDIO_PAD, AUDIO_PAD, AUDIO_END)]
        assert prompt_ids(tokenizer, 2, "French", "Zoé") == [
            *[turn, *tokenizer.encode("system\nZoé"), end, *newline],
            *[turn, *tokenizer.encode("user\n"), *audio, end, *newline],
            *[turn, *tokenizer.encode("assistant\nlanguage French"), tokenizer.id(TEXT_TAG)],
        ]

    @pytest.mark.parametrize(
        "absent", [TURN_START, TURN_END, AUDIO_START, AUDIO_PAD, AUDIO_END, TEXT_TAG]
    )
    def test_a_missing_control_token(self, tokenizer: Tokenizer, absent: str) -> None:
        added = {text: number for text, number in tokenizer.added.items() if text != absent}
        with pytest.raises(TokenizerError, match="has to know the token"):
            prompt_ids(Tokenizer(tokenizer.core, added), 1, "English")

    def test_a_context_with_a_lone_surrogate(self, tokenizer: Tokenizer) -> None:
        with pytest.raises(UsageError):
            prompt_ids(tokenizer, 1, None, "caf\udce9")


class TestTemplate:
    """The template that other programs read from an exported directory."""

    AUDIO = {"type": "audio", "audio": np.zeros(SHORTEST, dtype=np.float32)}  # noqa: RUF012

    def render(self, processor: Any, *messages: tuple[str, Any], **options: Any) -> str:
        conversation = [{"role": role, "content": content} for role, content in messages]
        text: str = processor.tokenizer.apply_chat_template(
            conversation, chat_template=CHAT_TEMPLATE, tokenize=False, **options
        )
        return text

    def test_plain_system(self, processor: Any) -> None:
        parts = [{"type": "text", "text": "some "}, {"type": "text", "text": "names"}]
        expected = (
            "<|im_start|>system\nsome names<|im_end|>\n<|im_start|>user\n"
            "<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n<|im_start|>assistant\n"
        )
        for system in ("some names", parts):
            messages = ("system", system), ("user", [self.AUDIO])
            assert self.render(processor, *messages, add_generation_prompt=True) == expected

    def test_without_a_generation_prompt(self, processor: Any) -> None:
        text = self.render(processor, ("user", [self.AUDIO]))
        assert text.endswith("<|audio_end|><|im_end|>\n")
        assert text.startswith("<|im_start|>system\n<|im_end|>\n<|im_start|>user\n")

    def test_replies_as_string_and_as_list(self, processor: Any) -> None:
        said = "language English<asr_text>hello"
        for reply in (said, [{"type": "text", "text": said}]):
            text = self.render(processor, ("user", [self.AUDIO]), ("assistant", reply))
            assert text.endswith(f"<|im_start|>assistant\n{said}<|im_end|>\n")

    def test_user_text_is_omitted(self, processor: Any) -> None:
        content = [{"type": "text", "text": "unheard"}, self.AUDIO]
        assert "unheard" not in self.render(processor, ("user", content))
        assert "unheard" not in self.render(processor, ("user", "unheard"))

    def test_exported_directories_have_the_template(
        self, hf_directory: Path, processor: Any, published_directory: Path
    ) -> None:
        assert processor.chat_template == CHAT_TEMPLATE
        assert (hf_directory / "chat_template.jinja").read_text(encoding="utf-8") == CHAT_TEMPLATE
        assert (published_directory / "chat_template.json").exists()

    @pytest.mark.parametrize("system", ["names", [{"type": "text", "text": "names"}], None])
    def test_the_rendered_request_equals_the_prompt(
        self, tokenizer: Tokenizer, processor: Any, system: Any
    ) -> None:
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": [self.AUDIO]})
        request = processor.apply_chat_template(
            [messages], tokenize=True, return_dict=True, add_generation_prompt=True
        )
        expected = prompt_ids(tokenizer, slots(SHORTEST), None, "names" if system else "")
        assert request["input_ids"].tolist() == [expected]
