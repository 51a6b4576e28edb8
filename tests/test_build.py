"""The package builds with and without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import auris
from auris.errors import UsageError

ROOT = Path(auris.__file__).parents[2]


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="an installed package")
def test_the_package_builds_without_a_compiler(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "native", tmp_path / "native")
    (tmp_path / "src" / "auris").mkdir(parents=True)
    shutil.copy(ROOT / "src" / "auris" / "__init__.py", tmp_path / "src" / "auris")
    nowhere = str(tmp_path / "no-such-compiler")
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=tmp_path,
        env={**os.environ, "CC": nowhere, "CXX": nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "auris._native" in done.stderr + done.stdout
    assert not list(tmp_path.rglob("_native*"))


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="an installed package")
def test_recipes_are_built_into_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("setuptools")
    pytest.importorskip("pydantic")
    from auris.training.recipes import CtcRecipe

    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "src" / "auris").mkdir(parents=True)
    shutil.copy(ROOT / "src" / "auris" / "__init__.py", tmp_path / "src" / "auris")
    command = [sys.executable, "setup.py", "build_py", "--build-lib", "built"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    package = tmp_path / "built" / "auris"
    expected = sorted(path.name for path in (ROOT / "recipes").glob("*.json"))
    assert sorted(path.name for path in (package / "recipes").iterdir()) == expected
    monkeypatch.chdir(tmp_path / "built")
    monkeypatch.setattr("auris.training.base_recipe.resources.files", lambda name: package)
    recipe = CtcRecipe.read(Path("recipes/tiny_ctc.json"))
    assert recipe == CtcRecipe.read(ROOT / "recipes" / "tiny_ctc.json")
    assert recipe == CtcRecipe.read(Path("tiny_ctc.json"))
    with pytest.raises(UsageError, match="cannot be read"):
        CtcRecipe.read(Path("elsewhere/tiny_ctc.json"))
