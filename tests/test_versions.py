"""The lower bounds of pyproject.toml, and the script that lists them."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "lowest_versions"

pytestmark = [
    pytest.mark.skipif(not SCRIPT.exists(), reason="an installed package"),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the script reads TOML by Python 3.11"),
]


def lowest(*extras: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, SCRIPT, *extras], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout or done.stderr


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def test_every_requirement_has_a_lower_bound_that_is_installed() -> None:
    code, listed = lowest("hub", "train", "lora", "serve", "mic", "ja", "ko")
    assert code == 0, listed
    versions = dict(line.split("==") for line in listed.splitlines())
    assert {"numpy", "av", "typer", "peft", "fastapi", "jiwer"} <= set(versions)
    assert "torch" not in versions
    for name, version in versions.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        assert numbers(installed) >= numbers(version), name


def test_extras_have_distinct_names() -> None:
    code, listed = lowest()
    assert code == 0
    assert "numpy==" in listed
    assert "peft==" not in listed
    code, said = lowest("nothing")
    assert code == 1
    assert "no extra nothing" in said
