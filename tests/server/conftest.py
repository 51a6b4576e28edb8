"""One server for most tests, with both bundled models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from auris import AsrPipeline
from auris.server.settings import Settings
from tests.server.live import EXAMPLE, Live, running


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = Settings(
        models=("tiny", "tiny-ctc"),
        aliases=("whisper-1",),
        device="cpu",
        batch_size=4,
        most_upload_bytes=4 << 20,
        most_audio_seconds=120.0,
        state_dir=str(tmp_path_factory.mktemp("state")),
    )
    with running(settings) as server:
        yield server


@pytest.fixture(scope="package")
def offline() -> AsrPipeline:
    return AsrPipeline.from_pretrained("tiny", device="cpu")


@pytest.fixture(scope="package")
def example() -> bytes:
    return EXAMPLE.read_bytes()
