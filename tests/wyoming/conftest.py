"""One Wyoming server for most tests, with both bundled models."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from auris import AsrPipeline

if TYPE_CHECKING:
    from tests.wyoming.live import Running

collect_ignore_glob = [] if find_spec("wyoming") else ["test_*.py"]
"""Without the package there is nothing to test."""


@pytest.fixture(scope="package")
def tiny() -> AsrPipeline:
    return AsrPipeline.from_pretrained("tiny", device="cpu")


@pytest.fixture(scope="package")
def served(tiny: AsrPipeline) -> Iterator[Running]:
    from tests.wyoming.live import running

    with running(tiny, AsrPipeline.from_pretrained("tiny-ctc", device="cpu")) as server:
        yield server
