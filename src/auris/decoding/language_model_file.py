"""Files of language models: arrays in a safetensors container, which are mapped into memory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from auris.decoding.arpa import is_arpa, read_arpa
from auris.decoding.language_model import SPECIAL_WORDS, LanguageModel, Level
from auris.decoding.spelling import LetterModel
from auris.errors import CheckpointError

FORMAT = "auris-ngrams"
FORMAT_VERSION = "1"

DTYPES = {"U8": "u1", "U16": "<u2", "U32": "<u4", "F16": "<f2", "F32": "<f4"}
"""Types of the arrays in a file, by their names in the header."""

MOST_HEADER_BYTES = 1 << 20


def packed_model(model: LanguageModel) -> bytes:
    """The content of a file from which `load_language_model` gives the model again."""
    arrays: dict[str, NDArray[Any]] = {
        "vocabulary": _text_array("\n".join(model.vocabulary)),
        "letters": _text_array(model.spelling.letters),
        "spelling": np.asarray(model.spelling.logprobs, np.float16),
    }
    for number, level in enumerate(model.levels, 1):
        parts = {
            "words": None if number == 1 else level.words,
            "logprobs": level.logprobs,
            "logprob_table": level.logprob_table,
            "backoffs": level.backoffs,
            "backoff_table": level.backoff_table,
            "children": None if level.children is None else _narrow(level.children),
        }
        arrays |= {
            f"{name}.{number}": np.ascontiguousarray(part)
            for name, part in parts.items()
            if part is not None
        }
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "order": str(model.order),
        "unknown_penalty": repr(model.unknown_penalty),
    }
    return save(arrays, metadata=metadata)


def _text_array(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers from 0 on in the smallest type that holds all of them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def load_language_model(path: Path) -> LanguageModel:
    """Read an ARPA file, or one that holds `packed_model`, whose larger arrays stay in the file
    until they are used.

    Raises:
        CheckpointError: the file is damaged, or is none of a language model.
    """
    if is_arpa(path):
        return read_arpa(path)
    try:
        arrays, metadata = _mapped(path)
        if metadata.get("format") != FORMAT or metadata.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"its format is {metadata.get('format')!r}")
        return _assembled(arrays, metadata)
    except OSError as error:
        raise CheckpointError(
            "A language model has to be a file that can be read",
            f"{str(path)!r} cannot ({error.strerror or error})",
            "correct the path, or its permissions",
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(
            "A language model has to be an ARPA file or one that auris train lm writes",
            f"{str(path)!r} is neither ({reason})",
            "make one from texts with auris train lm",
        ) from None


def _mapped(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays of a safetensors file, mapped into memory, and its metadata."""
    data = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > MOST_HEADER_BYTES:
        raise ValueError("it has no header")
    header = json.loads(data[8 : 8 + length].tobytes())
    content = np.asarray(data[8 + length :])
    metadata = header.pop("__metadata__", {})
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = np.dtype(DTYPES[entry["dtype"]])
        shape = [index(size) for size in entry["shape"]]
        if end - begin != dtype.itemsize * math.prod(shape) or end > len(content):
            raise ValueError(f"{name} is cut off")
        arrays[name] = content[begin:end].view(dtype).reshape(shape)
    return arrays, metadata


def _assembled(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> LanguageModel:
    vocabulary = arrays["vocabulary"].tobytes().decode().split("\n")
    if tuple(vocabulary[: len(SPECIAL_WORDS)]) != SPECIAL_WORDS:
        raise ValueError(f"its vocabulary begins with {vocabulary[:3]}")
    order, size = int(metadata["order"]), len(vocabulary)
    levels = []
    for number in range(1, order + 1):
        words = arrays[f"words.{number}"] if number > 1 else np.arange(size, dtype=np.uint32)
        level = Level(
            words,
            arrays[f"logprobs.{number}"],
            arrays[f"children.{number}"] if number < order else None,
            arrays.get(f"backoffs.{number}"),
            arrays.get(f"logprob_table.{number}"),
            arrays.get(f"backoff_table.{number}"),
        )
        _check(level, size, number)
        size = 0 if level.children is None else int(level.children.sum(dtype=np.int64))
        levels.append(level)
    spelling = LetterModel(arrays["letters"].tobytes().decode(), arrays["spelling"])
    return LanguageModel(vocabulary, levels, spelling, float(metadata["unknown_penalty"]))


def _check(level: Level, size: int, number: int) -> None:
    """Refuse a level whose arrays do not fit each other."""
    lengths = {len(level.words), len(level.logprobs), size}
    if level.children is not None:
        lengths |= {len(level.children), -1 if level.backoffs is None else len(level.backoffs)}
    if len(lengths) > 1:
        raise ValueError(f"its n-grams of {number} words have arrays of the lengths {lengths}")
