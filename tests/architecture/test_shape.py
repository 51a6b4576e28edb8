"""Size of files, docstrings of public names, and imports of types."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from auris import errors
from tests.architecture.source import modules

MOST_LINES = 450
NOBODYS = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py", "generate.py", "cli.py"}


def test_files_are_small_and_known_to_git() -> None:
    for module in modules():
        assert module.path.rpartition("/")[2] not in NOBODYS
        lines = module.text.count("\n")
        assert lines <= MOST_LINES, f"{module.path} has {lines} lines; split it by what it does"


def _protocol_methods() -> set[str]:
    """Names of the methods that the protocols of the package document."""
    return {
        method.name
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(b) for b in node.bases)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and ast.get_docstring(method)
    }


def _undocumented(node: ast.AST, path: str, inherited: set[str]) -> Iterator[str]:
    """Public functions and classes without a docstring, except for `inherited` methods."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            overloaded = any("overload" in ast.unparse(d) for d in child.decorator_list)
            if child.name.startswith("_") or overloaded:
                continue
            method = isinstance(node, ast.ClassDef) and child.name in inherited
            if ast.get_docstring(child) is None and not method:
                yield f"{path}:{child.lineno} {child.name}"
            if isinstance(child, ast.ClassDef):
                yield from _undocumented(child, path, inherited)
        elif isinstance(child, (ast.If, ast.Try, ast.With)):
            yield from _undocumented(child, path, inherited)


def test_public_names_have_docstrings() -> None:
    """A method that implements a protocol inherits the docstring of the protocol."""
    inherited = _protocol_methods()
    for module in modules():
        if module.path.endswith("__init__.py") and not module.text.strip():
            continue
        assert ast.get_docstring(module.tree), f"{module.path} does not say what it is for"
        assert not list(_undocumented(module.tree, module.path, inherited))


def test_types_are_not_imported_at_run_time() -> None:
    for module in modules():
        if module.tree.body and not module.path.endswith("__init__.py"):
            future = [n for n in module.tree.body if isinstance(n, ast.ImportFrom)][:1]
            assert future
            assert future[0].module == "__future__", module.path


def _raised() -> set[str]:
    names = set()
    for module in modules():
        names |= {name.rpartition(".")[2] for name, _ in module.calls()}
    return names


def test_every_error_is_raised_somewhere() -> None:
    """Base classes of errors need not be raised."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    leaves = {kind.__name__ for kind in kinds if not kind.__subclasses__()}
    assert leaves <= _raised()
