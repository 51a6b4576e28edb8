"""Builds the native step where a compiler is; without one the package works, more slowly."""

from __future__ import annotations

from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("native")

setup(
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
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
    ]
)
