"""The packages of auris and what each may import: the table of docs/architecture.md as data."""

from __future__ import annotations

GROUND = ("errors", "types", "config")
LOWER = (*GROUND, "text", "audio", "models", "checkpoints", "backends", "decoding")
ENGINE = (
    *LOWER,
    "recognition",
    "alignment",
    "diarization",
    "streaming",
    "output",
    "pipeline",
)

ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "types": ("errors",),
    "config": ("errors",),
    "text": GROUND,
    "audio": GROUND,
    "models": ("config",),
    "checkpoints": (*GROUND, "text", "models", "audio.features"),
    "backends": (*GROUND, "models", "checkpoints"),
    "decoding": (*GROUND, "backends.base"),
    "recognition": LOWER,
    "alignment": (*LOWER, "recognition"),
    "diarization": (*LOWER, "recognition"),
    "streaming": (*LOWER, "recognition", "diarization"),
    "output": (*GROUND, "text", "audio", "checkpoints.atomic", "recognition.scheduler"),
    "pipeline": ENGINE,
    "compat": ENGINE,
    "diagnostics": ENGINE,
    "evaluation": (*ENGINE, "diagnostics"),
    "server": ENGINE,
    "scale": (*ENGINE, "server"),
    "wyoming": (*ENGINE, "server.log"),
    "training": (
        *LOWER,
        "recognition",
        "alignment",
        "evaluation",
        "scale.plan",
        "scale.rows",
        "scale.sources",
        "scale.storage",
        "scale.units",
    ),
}
"""Rooms, or single modules of them, that a room may import beside itself."""

TOP = {"__init__", "__main__", "errors", "types", "config", "pipeline"}
"""The modules at the top of the package."""

SHARED_BY_COMMANDS = {
    f"cli.{name}"
    for name in (
        "advice",
        "corpus",
        "declare",
        "interrupt",
        "options",
        "output",
        "progress",
        "results",
        "server_options",
        "speakers",
        "table",
        "values",
    )
}
"""What commands have in common: how options are spelled and where results go."""
