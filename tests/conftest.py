"""Settings of all tests, and tiny models for tests of the pipeline."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import settings

from auris import AsrPipeline
from tests.tiny_models import ctc_config, write_tiny

# Slow examples on a busy machine are not errors.
settings.register_profile("auris", deadline=None)
settings.load_profile("auris")


def pytest_collection_finish() -> None:
    """Exclude the imported modules from garbage collection, which takes long otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def qwen_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "qwen", seed=1)


@pytest.fixture(scope="module")
def ctc_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "ctc", config=ctc_config())


@pytest.fixture(scope="module")
def qwen(qwen_directory: Path) -> AsrPipeline:
    return AsrPipeline.from_pretrained(qwen_directory, device="cpu")


@pytest.fixture(scope="module")
def ctc(ctc_directory: Path) -> AsrPipeline:
    return AsrPipeline.from_pretrained(ctc_directory, device="cpu")
