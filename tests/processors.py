"""Processors that this machine may not be."""

from __future__ import annotations

import pytest


def set_bfloat16(monkeypatch: pytest.MonkeyPatch, computes: bool) -> None:
    """Let models be loaded as on a CPU that computes in bfloat16, or on one that does not."""
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: computes)
    if computes:
        monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: True)
