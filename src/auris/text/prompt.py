"""The chat template of Qwen3-ASR and the prompt of its aligner. No other module knows them.

The user's context is encoded as plain text, so it cannot contain control tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from auris.text.tokenizer import Tokenizer
from auris.text.words import reference_spelling

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
AUDIO_START = "<|audio_start|>"
AUDIO_END = "<|audio_end|>"
AUDIO_PAD = "<|audio_pad|>"
TEXT_TAG = "<asr_text>"
TIMESTAMP = "<timestamp>"

CONTROL_TOKENS = {
    **dict.fromkeys((END_OF_TEXT, TURN_START, TURN_END, AUDIO_START, AUDIO_END, AUDIO_PAD), True),
    TEXT_TAG: False,
    TIMESTAMP: True,
}
"""Every control token, and whether it is special; <asr_text> is not, so it is part of a reply."""

CHAT_TEMPLATE = """\
{%- set parts = namespace(system='', audio='') -%}
{%- for message in messages if message.role == 'system' -%}
  {%- if message.content is string -%}
    {%- set parts.system = parts.system + message.content -%}
  {%- else -%}
    {%- for item in message.content if item.type == 'text' -%}
      {%- set parts.system = parts.system + item.text -%}
    {%- endfor -%}
  {%- endif -%}
{%- endfor -%}
{{- '<|im_start|>system\\n' + parts.system + '<|im_end|>\\n' -}}
{%- for message in messages if message.role == 'user' and message.content is not string -%}
  {%- for item in message.content if item.type == 'audio' -%}
    {%- set parts.audio = parts.audio + '<|audio_start|><|audio_pad|><|audio_end|>' -%}
  {%- endfor -%}
{%- endfor -%}
{{- '<|im_start|>user\\n' + parts.audio + '<|im_end|>\\n' -}}
{%- set replies = messages | selectattr('role', 'equalto', 'assistant') | list -%}
{%- if replies or add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
{%- for message in replies -%}
  {%- if message.content is string -%}
    {{- message.content -}}
  {%- else -%}
    {%- for item in message.content if item.type == 'text' -%}
      {{- item.text -}}
    {%- endfor -%}
  {%- endif -%}
  {{- '<|im_end|>\\n' -}}
{%- endfor -%}
"""
"""The same template for programs that read chat_template.jinja, such as transformers."""


ALIGNER_TEMPLATE = """\
{%- for message in messages -%}
  {%- for item in message.content -%}
    {%- if item.type == 'audio' -%}
      {{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}
    {%- elif item.type == 'text' -%}
      {{- item.text + '<timestamp><timestamp>' -}}
    {%- endif -%}
  {%- endfor -%}
{%- endfor -%}
"""
"""The prompt of `alignment_ids` for programs that read chat_template.jinja."""


def prompt_ids(
    tokenizer: Tokenizer, audio_tokens: int, language: str | None = None, context: str = ""
) -> list[int]:
    """Ids of a transcription request.

    Args:
        audio_tokens: slots to leave for the audio.
        language: English name to force, or None to let the model choose.
        context: words and names to expect; always plain text.
    """
    turn, end = tokenizer.id(TURN_START), tokenizer.id(TURN_END)
    newline = tokenizer.encode("\n")
    audio = _audio_ids(tokenizer, audio_tokens)
    system = [turn, *tokenizer.encode(f"system\n{context}"), end, *newline]
    user = [turn, *tokenizer.encode("user\n"), *audio, end, *newline]
    if language is None:
        return [*system, *user, turn, *tokenizer.encode("assistant\n")]
    reply = tokenizer.encode(f"assistant\nlanguage {language}")
    return [*system, *user, turn, *reply, tokenizer.id(TEXT_TAG)]


def reply_prefix(tokenizer: Tokenizer, language: str | None) -> tuple[int, ...]:
    """Ids with which a reply in a language begins; with None, a reply that there is no speech."""
    return (*tokenizer.encode(f"language {language}"), tokenizer.id(TEXT_TAG))


def alignment_ids(tokenizer: Tokenizer, audio_tokens: int, words: Iterable[str]) -> list[int]:
    """Ids of an alignment request: `audio_tokens` slots for the audio, then every word, spelled as
    the reference does, with marks for its start and end."""
    marks = [tokenizer.id(TIMESTAMP)] * 2
    ids = _audio_ids(tokenizer, audio_tokens)
    for word in words:
        ids += [*tokenizer.encode(reference_spelling(word)), *marks]
    return ids


def _audio_ids(tokenizer: Tokenizer, count: int) -> list[int]:
    slots = [tokenizer.id(AUDIO_PAD)] * count
    return [tokenizer.id(AUDIO_START), *slots, tokenizer.id(AUDIO_END)]
