"""Small models in 4 bits: the rule that keeps narrow ones in 8 is laid aside for some tests."""

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
