"""Builds the native code where a compiler is; without one the package works, more slowly.

The library is called by ctypes and uses nothing of Python, so that one file serves every version of
Python: wheels are named py3-none and the platform.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

NATIVE = Path("native")
RECIPES = Path("recipes")
SUFFIX = ".pyd" if os.name == "nt" else ".so"

# The wheel does not depend on the version of the C++ library of the system that it is used on.
STATIC = ["-static-libstdc++", "-static-libgcc"] if sys.platform == "linux" else []


class PlainLibrary(build_ext):
    """Names the library without the version of Python, and exports no function for Python."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(SUFFIX))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []

    def build_extension(self, ext: Extension) -> None:
        if os.name != "nt":
            super().build_extension(ext)
            return
        # The code has vectors of GCC and clang, which the compiler that built Python does not know.
        compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or "g++"
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = [*ext.extra_compile_args, "-shared", "-static"]
        self.spawn([compiler, *flags, "-o", str(target), *ext.sources])

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        # Libraries of earlier versions were named after the version of Python, and come first.
        for ext in self.extensions:
            path = Path(self.get_ext_fullpath(ext.name))
            for older in path.parent.glob(f"{path.stem}.*{SUFFIX}"):
                older.unlink()


class WithRecipes(build_py):
    """Adds the recipes of training runs to the package."""

    def run(self) -> None:
        super().run()
        target = Path(self.build_lib) / "auris" / "recipes"
        for recipe in sorted(RECIPES.glob("*.json")) if not self.editable_mode else []:
            self.mkpath(str(target))
            self.copy_file(str(recipe), str(target / recipe.name))


class PlatformWheel(bdist_wheel):
    """A wheel for every version of Python on one platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    cmdclass={"build_ext": PlainLibrary, "build_py": WithRecipes, "bdist_wheel": PlatformWheel},
    ext_modules=[
        Extension(
            "auris._native",
            sources=sorted(str(path) for path in NATIVE.glob("*.cpp")),
            depends=sorted(str(path) for path in [*NATIVE.glob("*.h"), *NATIVE.glob("*.inc")]),
            # Products are not fused with sums on the quiet, so that every processor rounds alike.
            extra_compile_args=[
                *("-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"),
                *("-Wall", "-Wno-psabi", "-g0"),
            ],
            extra_link_args=["-pthread", *STATIC],
            language="c++",
            optional=True,
        )
    ],
)
