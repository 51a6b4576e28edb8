"""Instruction sets that the native code may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from auris.backends import native

INSTRUCTIONS = ("amx", "avx512", "avx2", "neon", "portable")


@pytest.fixture(params=INSTRUCTIONS)
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.instructions()
    if not native.use(request.param):
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    native.use(before)
