"""Model directories in every layout, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints.files import LAYOUTS
from tests.tiny_models import ctc_config, qwen_config, write_tiny


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tied model in every layout, an untied one as <layout>-untied, and a CTC model as ctc."""
    root = tmp_path_factory.mktemp("models")
    paths = {layout: write_tiny(root / layout, layout) for layout in LAYOUTS}
    for layout in LAYOUTS:
        name = f"{layout}-untied"
        paths[name] = write_tiny(root / name, layout, qwen_config(tied=False))
    paths["ctc"] = write_tiny(root / "ctc", "native", ctc_config())
    return paths


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)
