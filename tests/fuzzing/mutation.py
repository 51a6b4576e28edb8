"""Random changes of bytes, of text and of JSON."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from typing import Any

HUGE = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00FFFFFF, 0x10000000)

# fmt: off
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 1 << 31, 1 << 63, -(1 << 63), 10**30, 0.5, -0.0, 1e308,
    float("nan"), float("inf"), "", "a", "\ud800", "\0", "1", "é" * 40, [], {}, [None], [[]], [{}],
    {"": None}, ["a", 1], {"a": {}},
)
ODD_TEXTS = (
    "0", "-1", "1e999", "nan", "inf", "99999999999999999999", "null", '"', "'", ",", "\n", "\r",
    "\t", "\0", " ", "\ufeff", "\u2028", "[", "]", "{", "}", "<", ">", "\\", "/", "../", "é", "𝄞",
)
# fmt: on
"""What replaces values and parts of texts."""


def flip(rng: random.Random, data: bytes) -> bytes:
    """Change some bytes, often near the beginning."""
    changed = bytearray(data)
    head = rng.choice((64, 512, 1 << 30))
    for _ in range(rng.randint(1, 24)):
        changed[rng.randrange(min(len(data), head))] ^= rng.randint(1, 255)
    return bytes(changed)


def enlarge(rng: random.Random, data: bytes) -> bytes:
    """Write extreme numbers, often near the beginning."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), rng.choice((128, 1024, 1 << 30))))
        form = rng.choice(("<I", ">I", "<H", ">H"))
        number = rng.choice(HUGE) & (0xFFFFFFFF if "I" in form else 0xFFFF)
        packed = struct.pack(form, number)
        changed[at : at + len(packed)] = packed
    return bytes(changed)


def move_block(rng: random.Random, data: bytes) -> bytes:
    """Remove, repeat, move or overwrite a block."""
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    block = data[first:last]
    return rng.choice(
        [
            data[:first] + data[last:],
            data[:last] + block * rng.randint(1, 8) + data[last:],
            data[:first] + bytes(len(block)) + data[last:],
            data[:first] + rng.randbytes(len(block)) + data[last:],
            block + data,
        ]
    )


def cut(rng: random.Random, data: bytes) -> bytes:
    """The beginning."""
    return data[: rng.randrange(len(data))]


def insert_text(rng: random.Random, data: bytes) -> bytes:
    """Insert texts, or put them in the place of others."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        text = rng.choice(ODD_TEXTS).encode()
        data = data[:at] + text + data[at + rng.choice((0, 1, len(text))) :]
    return data


def change_json(rng: random.Random, data: bytes) -> bytes:
    """Change values of a JSON text or of one line of it; bytes where there is none."""
    start = data.find(b"{")
    end = rng.choice((data.rfind(b"}"), data.find(b"}\n", start))) + 1
    try:
        content = json.loads(data[start:end])
    except (ValueError, RecursionError):
        return insert_text(rng, data)
    for _ in range(rng.randint(1, 3)):
        content = _changed(rng, content)
    written = json.dumps(content, ensure_ascii=rng.random() < 0.5)
    return data[:start] + written.encode("utf-8", "surrogatepass") + data[end:]


def _changed(rng: random.Random, value: Any) -> Any:
    """A value with one change somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if (drawn := rng.random()) < 0.1:
            return {name: one for name, one in value.items() if name != key}
        if drawn < 0.15:
            return {**value, rng.choice(ODD_TEXTS): value[key]}
        return {**value, key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        repeats = rng.choice((0, 1, 1, 1, 2, 100))
        return value[:at] + [_changed(rng, value[at])] * repeats + value[at + 1 :]
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice((-1, 1, -value, value, 10 * value, -2 * value))
    if isinstance(value, str) and rng.random() < 0.5:
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice(ODD_TEXTS) + value[at:]
    return rng.choice(ODD_VALUES)


def change_header(rng: random.Random, data: bytes) -> bytes:
    """Change values in the header of a safetensors container, whose length stays right."""
    begin = 8 + int.from_bytes(data[:8], "little")
    if begin > len(data):
        return insert_text(rng, data)
    header = change_json(rng, data[8:begin])
    return len(header).to_bytes(8, "little") + header + data[begin:]


BINARY = (flip, enlarge, move_block, cut)
TEXT = (insert_text, change_json, change_json, change_json, flip, move_block, cut)


def mutated(rng: random.Random, corpus: Sequence[bytes], binary: bool) -> bytes:
    """An input of a corpus with one to three changes, or two that are joined."""
    data = rng.choice(corpus)
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)] + rng.choice(corpus)
    for _ in range(rng.randint(1, 3)):
        if data:
            data = rng.choice(BINARY if binary else TEXT)(rng, data)
    return data
