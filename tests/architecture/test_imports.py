"""Which package may import which, and what importing loads.

These rules keep the way of a recording readable from top to bottom: a room knows only what lies
below it, so each can be read, tested and replaced alone.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

import auris
from tests.architecture.rooms import ENGINE, GROUND, ROOMS, SHARED_BY_COMMANDS, TOP
from tests.architecture.source import PACKAGE, Module, modules


def room_of(module: str) -> str:
    """The room of a dotted module without the leading `auris.`; "" is the package itself."""
    return module.partition(".")[0]


def _forbidden(module: Module) -> list[str]:
    allowed = ROOMS[module.room]
    return [
        f"{module.path}:{found.line} imports {found.module}"
        for found in module.imports()
        if room_of(found.module) not in {"", module.room, *allowed} and found.module not in allowed
    ]


def test_packages_import_only_those_below_them() -> None:
    inside = [module for module in modules() if module.room not in {"cli", ""}]
    unknown = sorted({module.room for module in inside} - set(ROOMS))
    assert not unknown, f"rooms that the table does not know: {unknown}"
    assert not [fault for module in inside for fault in _forbidden(module)]


def test_the_top_of_the_package_holds_six_modules() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == TOP


def test_commands_import_the_public_api_and_their_own_package() -> None:
    """At their top only errors, types and what commands share, so that `--help` stays fast.

    Diagnostics and evaluation count as one room: both measure.
    """
    faults = []
    for module in modules():
        if module.room != "cli" or module.path == "cli/__init__.py":
            continue
        fronted = set()
        for found in module.imports():
            room = room_of(found.module)
            light = found.typing or room in {"", "errors", "types", "cli"}
            if found.top and not light:
                faults.append(f"{module.path}:{found.line} imports {found.module} at its top")
            if room == "cli" and module.path not in {"cli/main.py", "__main__.py"}:
                if found.module not in SHARED_BY_COMMANDS:
                    faults.append(f"{module.path}:{found.line} imports another command")
            elif room not in {"", "cli", *GROUND, *ENGINE}:
                fronted.add("evaluation" if room == "diagnostics" else room)
        if len(fronted) > 1:
            faults.append(f"{module.path} fronts {sorted(fronted)}")
    assert not faults


def test_only_the_comparison_with_the_reference_loads_the_reference() -> None:
    banned = {"transformers", "vllm", "librosa", "torchaudio", "qwen_asr"}
    faults = []
    for module in modules():
        reference = module.path == "diagnostics/reference.py"
        names = banned - {"transformers"} if reference else banned
        faults += [
            f"{module.path}:{line} uses {name}"
            for line, name in module.names()
            if name.partition(".")[0] in names
        ]
    assert not faults


@pytest.mark.parametrize("name", ["auris", "auris.cli.main", "auris.errors", "auris.types"])
def test_importing_loads_neither_torch_nor_numpy(name: str) -> None:
    heavy = "{'torch', 'numpy', 'av', 'tokenizers', 'safetensors', 'soxr', 'rich.progress'}"
    code = f"import sys, {name}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


def test_public_names_exist() -> None:
    for name in auris.__all__:
        assert getattr(auris, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = auris.nonsense


def test_exported_names_exist() -> None:
    for module in modules():
        if module.room == "wyoming" and importlib.util.find_spec("wyoming") is None:
            continue  # Its modules need the package of that name.
        dotted = module.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        loaded = importlib.import_module("auris" if dotted == "__init__" else f"auris.{dotted}")
        exported = getattr(loaded, "__all__", [])
        assert len(set(exported)) == len(exported), f"{module.path} exports a name twice"
        missing = [name for name in exported if not hasattr(loaded, name)]
        assert not missing, f"{module.path} exports {missing}, which it does not have"
