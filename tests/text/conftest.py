"""Directories with a tiny vocabulary, written once, and the readers of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auris.text.prompt import CONTROL_TOKENS
from auris.text.tokenizer import Tokenizer
from tests.tiny_models import tiny_tokenizer, write_tiny


@pytest.fixture(scope="session")
def hf_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("text") / "hf", "hf")


@pytest.fixture(scope="session")
def published_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("text") / "published", "published")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def reference(hf_directory: Path) -> Any:
    """transformers' tokenizer of the same files."""
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(hf_directory)


@pytest.fixture(scope="session")
def processor(hf_directory: Path) -> Any:
    """transformers' Qwen3ASRProcessor of the same files."""
    transformers = pytest.importorskip("transformers", minversion="5.23")
    return transformers.Qwen3ASRProcessor.from_pretrained(hf_directory)


OFFICIAL_IDS = {
    "<|endoftext|>": 151643,
    "<|im_start|>": 151644,
    "<|im_end|>": 151645,
    "<|audio_start|>": 151669,
    "<|audio_end|>": 151670,
    "<|audio_pad|>": 151676,
    "<asr_text>": 151704,
    "<timestamp>": 151705,
}

QWEN_VOCABULARY = Path(__file__).parents[3] / "shared" / "qwen-tokenizer"


@pytest.fixture(scope="session")
def qwen_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published vocabulary with its control tokens at their official ids."""
    if not (QWEN_VOCABULARY / "vocab.json").exists():
        pytest.skip("the published vocabulary is not at hand")
    out = tmp_path_factory.mktemp("qwen")
    for name in ("vocab.json", "merges.txt"):
        (out / name).symlink_to(QWEN_VOCABULARY / name)
    flags = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    added = {
        str(number): {"content": token, "special": CONTROL_TOKENS[token], **flags}
        for token, number in OFFICIAL_IDS.items()
    }
    config = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added}
    (out / "tokenizer_config.json").write_text(json.dumps(config))
    return out
