"""The native code, where the package was built with a compiler."""

from __future__ import annotations

from torch import Tensor

__all__ = ["available", "products"]


def available() -> bool:
    """Whether the native code can be used."""
    return False


def products(x: Tensor, weight: Tensor, steps: Tensor | None, scale: Tensor) -> Tensor:
    """Products."""
    raise NotImplementedError
