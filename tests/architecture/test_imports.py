"""Which room may import which, and what importing loads."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import auris
from tests.architecture.source import ASSEMBLIES, Module, modules, room_of

GROUND = {"errors", "types", "config"}
INNER = GROUND | {"audio", "text", "models", "checkpoints", "backends", "decoding"}

ALLOWED: dict[str, set[str]] = {
    "": {"errors", "types"},
    "errors": set(),
    "types": set(),
    "config": {"errors"},
    "audio": GROUND,
    "text": GROUND,
    "models": {"config"},
    "checkpoints": {"config", "models", "errors"},
    "backends": {"models", "checkpoints", "config", "errors"},
    "decoding": {"backends.base", "types", "errors"},
    ASSEMBLIES: INNER | {ASSEMBLIES, ""},
    "compat": GROUND
    | {ASSEMBLIES, "", "audio.io", "audio.encoded", "audio.remote", "audio.split"}
    | {"text.languages", "text.words"},
    "evaluation": INNER | {ASSEMBLIES, ""},
    "server": GROUND
    | {ASSEMBLIES, "", "audio.formats", "audio.io", "audio.isolation", "audio.remote"}
    | {"text.languages", "text.reply", "text.tokenizer", "text.words"},
    "scale": GROUND | {ASSEMBLIES, ""},
    "training": GROUND
    | {"audio", "text", "models", "checkpoints", "backends", "decoding", "evaluation"}
    | {"belonging", "export", "recognizers"},
}
"""Rooms (or single modules of them) that a room may import beside itself. The command line has
rules of its own, below."""


SHARED = {
    *("cli.interrupt", "cli.options", "cli.output", "cli.places", "cli.progress", "cli.results"),
}
"""What commands have in common: how options are spelled and where results go."""


def _allowed(module: str, allowed: set[str]) -> bool:
    return module in allowed or room_of(module) in allowed


ROOMS = [module for module in modules() if module.room != "cli"]
COMMANDS = [
    m for m in modules() if m.room == "cli" and m.path not in ("cli/__init__.py", "__main__.py")
]


@pytest.mark.parametrize("module", ROOMS, ids=lambda module: module.path)
def test_a_room_imports_only_what_the_plan_allows(module: Module) -> None:
    room = "" if module.path == "__init__.py" else module.room
    assert room in ALLOWED, f"{module.path} lies in a room that the plan does not know"
    for found in module.imports():
        if found.typing and room == "":
            continue  # The public names are loaded when they are first asked for.
        same = room_of(found.module) == room
        assert same or _allowed(found.module, ALLOWED[room]), (
            f"{module.path}:{found.line} imports {found.module or 'auris'}; "
            f"{room or 'the package'} may import {sorted(ALLOWED[room])}"
        )


@pytest.mark.parametrize("module", COMMANDS, ids=lambda module: module.path)
def test_a_command_fronts_one_room(module: Module) -> None:
    """At its top only errors, types and cli; in its functions the public API, where model names
    lead (checkpoints.hub), and one room."""
    fronted = set()
    for found in module.imports():
        room = room_of(found.module)
        if found.typing or room in {"errors", "types", "", ASSEMBLIES}:
            light = found.typing or room in {"errors", "types"} or not found.top
            assert light, f"{module.path}:{found.line} imports {found.module} at its top"
            continue
        if room == "cli":
            allowed = module.path == "cli/main.py" or found.module in SHARED
            assert allowed, f"{module.path}:{found.line} imports another command"
            continue
        assert not found.top, f"{module.path}:{found.line} imports {found.module} at its top"
        if found.module != "checkpoints.hub":
            fronted.add(room)
    assert len(fronted) <= 1, f"{module.path} fronts {sorted(fronted)}"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.path)
def test_no_import_of_reference_packages(module: Module) -> None:
    """No other engine does our work; only the comparison with the reference loads the reference."""
    banned = {"transformers", "vllm", "librosa", "torchaudio", "qwen_asr"}
    if module.path in ("parity.py", "evaluation/peers.py"):
        banned -= {"transformers"}
    for line, name in module.names():
        assert name.partition(".")[0] not in banned, f"{module.path}:{line} uses {name}"


@pytest.mark.parametrize("name", ["auris", "auris.cli.main", "auris.errors", "auris.types"])
def test_importing_loads_neither_torch_nor_numpy(name: str) -> None:
    heavy = "{'torch', 'numpy', 'av', 'tokenizers', 'safetensors', 'soxr', 'rich.progress'}"
    code = f"import sys, {name}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


def test_public_names_are_there() -> None:
    for name in auris.__all__:
        assert getattr(auris, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = auris.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.path)
def test_what_a_module_exports_exists(module: Module) -> None:
    dotted = "auris." + module.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    loaded = importlib.import_module("auris" if dotted == "auris.__init__" else dotted)
    exported = getattr(loaded, "__all__", [])
    assert sorted(set(exported)) == sorted(exported), "a name is exported twice"
    for name in exported:
        assert hasattr(loaded, name), f"{module.path} exports {name}, which it does not have"
