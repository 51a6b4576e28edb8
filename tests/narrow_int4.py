"""Allows small models in 4 bits, whose narrow matrices would stay in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from auris.checkpoints import quantization_config


@pytest.fixture(scope="module", autouse=True)
def narrow_int4() -> Iterator[None]:
    """Decoders of any width are packed in 4 bits while a module's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantization_config, "LEAST_WIDTH", 1)
        yield
