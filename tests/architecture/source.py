"""The parsed source of the package, for the architecture tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import auris

PACKAGE = Path(auris.__file__).parent


@dataclass(frozen=True)
class Import:
    """One import of a module of ours: "" is the package itself."""

    module: str
    line: int
    top: bool
    typing: bool


@dataclass(frozen=True)
class Module:
    """A parsed file; `path` is relative to the package, with slashes."""

    path: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The room that the file lies in; "" for the package's own `__init__`."""
        first, _, rest = self.path.partition("/")
        if self.path == "__main__.py":
            return "cli"
        return first if rest else first.removesuffix(".py").removesuffix("__init__")

    def imports(self) -> Iterator[Import]:
        """Imports of the package's own modules, at any depth."""
        yield from _imports(self.tree, top=True, typing=False)

    def strings(self) -> Iterator[tuple[int, str]]:
        """String constants that are no docstrings, with their lines."""
        documentation = set(docstrings(self.tree))
        for node in ast.walk(self.tree):
            if id(node) in documentation or not isinstance(node, ast.Constant):
                continue
            if isinstance(node.value, str):
                yield node.lineno, node.value

    def names(self) -> Iterator[tuple[int, str]]:
        """Dotted names as they are written, the longest of each expression, with their lines."""
        inner: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.Attribute, ast.Name)) and id(node) not in inner:
                part: ast.AST = node
                while isinstance(part, ast.Attribute):
                    part = part.value
                    inner.add(id(part))
                yield node.lineno, ast.unparse(node)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                origin = getattr(node, "module", None)
                for alias in node.names:
                    yield node.lineno, f"{origin}.{alias.name}" if origin else alias.name

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Calls with the dotted name of what is called."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node


def docstrings(tree: ast.AST) -> Iterator[int]:
    """Ids of the strings that stand alone as a statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)


def _imports(node: ast.AST, top: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield from _ours(alias.name, child.lineno, top, typing)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import in line {child.lineno}"
            origin = child.module or ""
            for alias in child.names:
                deeper = f"{origin}.{alias.name}"
                name = deeper if _is_module(deeper) else origin
                yield from _ours(name, child.lineno, top, typing)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            checking = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from _imports(child, top and not inside, typing or checking)


def _is_module(dotted: str) -> bool:
    path = PACKAGE.parent.joinpath(*dotted.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def _ours(dotted: str, line: int, top: bool, typing: bool) -> Iterator[Import]:
    if dotted == "auris" or dotted.startswith("auris."):
        yield Import(dotted.removeprefix("auris").removeprefix("."), line, top, typing)


@cache
def modules() -> tuple[Module, ...]:
    """Every file of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(Module(path.relative_to(PACKAGE).as_posix(), text, ast.parse(text)))
    return tuple(found)
