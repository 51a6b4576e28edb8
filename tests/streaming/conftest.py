"""Random models whose attention windows are shorter than a chunk, and the usual ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from auris import AsrPipeline
from tests.tiny_models import ctc_config, joined_config, qwen_config, write_tiny

KINDS = ("qwen", "windows", "ctc", "joined", "static")


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, AsrPipeline]:
    """By name: a model with a decoder, one with windows of a second, one with a CTC head, one with
    a decoder behind the encoder of a CTC model, and the first one with the static decode step."""
    root: Path = tmp_path_factory.mktemp("models")
    configs = {
        "qwen": qwen_config(),
        "windows": qwen_config(window_frames=100),
        "ctc": ctc_config(),
        "joined": joined_config(),
    }
    loaded = {
        name: AsrPipeline.from_pretrained(
            write_tiny(root / name, config=config, seed=1), device="cpu"
        )
        for name, config in configs.items()
    }
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AURIS_STATIC_STEP", "1")
        loaded["static"] = AsrPipeline.from_pretrained(root / "qwen", device="cpu")
    return loaded
