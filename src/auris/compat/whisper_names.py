"""Names of Whisper's models, and the models that Auris loads in their place."""

from __future__ import annotations

import os
from pathlib import Path

from auris.checkpoints.hub import DEFAULT_MODEL, bundled_models
from auris.compat.refusal import warn

__all__ = ["available_models", "model_for"]

SMALLER, LARGER = "Qwen/Qwen3-ASR-0.6B", "Qwen/Qwen3-ASR-1.7B"

SUBSTITUTES = {
    **dict.fromkeys(("tiny", "tiny.en"), DEFAULT_MODEL),
    **dict.fromkeys(("base", "base.en", "small", "small.en", "distil-small.en"), SMALLER),
    **dict.fromkeys(("medium", "medium.en", "distil-medium.en"), LARGER),
    **dict.fromkeys(("large", "large-v1", "large-v2", "large-v3"), LARGER),
    **dict.fromkeys(("distil-large-v2", "distil-large-v3", "distil-large-v3.5"), LARGER),
    **dict.fromkeys(("turbo", "large-v3-turbo"), LARGER),
}
"""Sizes of Whisper, and the model of similar size that Auris runs."""


def available_models() -> list[str]:
    """The names that `WhisperModel` knows: sizes of Whisper, bundled models, official ids."""
    return list(dict.fromkeys([*SUBSTITUTES, *bundled_models(), SMALLER, LARGER]))


def model_for(name: str | Path) -> str | Path | None:
    """The model to load for a name; None for that of AURIS_MODEL in the environment.

    A size of Whisper gets a model of Auris, and a warning says which.
    """
    if not isinstance(name, str) or name not in SUBSTITUTES or Path(name).is_dir():
        return name
    chosen = os.environ.get("AURIS_MODEL") or SUBSTITUTES[name]
    warn(
        f"{name!r} is a size of Whisper; Auris loads its own model {chosen!r} in its place. "
        "AURIS_MODEL in the environment names another."
    )
    return None if os.environ.get("AURIS_MODEL") else chosen
