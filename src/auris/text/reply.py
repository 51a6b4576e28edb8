"""The reply of a model: language and text.

The rules are those of the `qwen3_asr` processor in transformers, which follows qwen-asr.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from auris.text.prompt import TEXT_TAG
from auris.text.tokenizer import Tokenizer

REPEATS = 20
"""More repeats of one character, or as many of a longer pattern, are collapsed to one."""

LONGEST_PATTERN = 20
ANSWER = "assistant\n"
NAMING = "language "
"""How a reply begins that names its language."""


@dataclass(frozen=True)
class Reply:
    """Language (English name; None for no speech, or if the reply names none) and text."""

    language: str | None
    text: str


def _repeated_at(text: str, index: int) -> str | None:
    """The shortest pattern that is repeated 20 times from an index on."""
    widths = range(1, min(LONGEST_PATTERN, (len(text) - index) // REPEATS) + 1)
    patterns = (text[index : index + width] for width in widths)
    return next((p for p in patterns if text.startswith(p * REPEATS, index)), None)


def _collapse_patterns(text: str) -> str:
    """Collapse patterns of up to 20 characters that are repeated 20 times or more.

    The first such pattern counts. As in the reference, a pattern can only begin where at least 40
    characters are left.
    """
    parts: list[str] = []
    index = 0
    while len(text) - index >= 2 * REPEATS:
        pattern = _repeated_at(text, index)
        if pattern is None:
            parts.append(text[index])
            index += 1
            continue
        parts.append(pattern)
        while text.startswith(pattern, index):
            index += len(pattern)
    return "".join(parts) + text[index:]


def collapse_repeats(text: str) -> str:
    """Collapse runs of more than 20 equal characters, then repeated patterns."""
    runs = re.compile(rf"(.)\1{{{REPEATS},}}", re.DOTALL)
    return _collapse_patterns(runs.sub(r"\1", text))


def _language(prefix: str) -> str | None:
    lines = [line.strip() for line in prefix.splitlines() if line.strip()]
    if not lines or prefix.strip().lower() == "language none":
        return None
    if lines[0].lower().startswith("language "):
        return lines[0][len("language ") :].strip() or None
    return lines[0]


def ends_before_text(text: str) -> bool:
    """Whether an unfinished reply ends while it names its language, so that it has no text."""
    text = text.strip().lower()
    naming = NAMING.startswith(text) or text.startswith(NAMING)
    return naming and TEXT_TAG not in text


def parse_reply(text: str, forced: str | None = None) -> Reply:
    """Language and text of a reply.

    Args:
        text: the decoded reply.
        forced: the language that the prompt already named, so that the reply is all text.
    """
    text = text.strip()
    if ANSWER in text:
        text = text.split(ANSWER, 1)[1]
    text = collapse_repeats(text)
    prefix, tag, rest = text.partition(TEXT_TAG)
    if not tag:
        return Reply(forced, text.strip())
    return Reply(forced or _language(prefix), rest.strip())


def text_indices(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Indices of the tokens that write the text of a reply: all but "language ..." and the tag.

    Replies to parts of a chunk may follow each other.
    """
    tag = tokenizer.id(TEXT_TAG)
    indices: list[int] = []
    tagged = False
    for index, token in enumerate(ids):
        if token != tag:
            indices.append(index)
        elif not tagged:
            indices, tagged = [], True
        else:
            while indices and not tokenizer.decode(ids[indices.pop() : index]).startswith(NAMING):
                pass
    return indices
