"""One name for each thing: no class name twice, and the words of docs/glossary.md."""

from __future__ import annotations

import ast
from collections import Counter

from tests.architecture.source import modules


def test_no_class_name_stands_twice() -> None:
    names = Counter(
        node.name
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1]
