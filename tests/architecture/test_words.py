"""Class names are unique, and names and documents use the words of the glossary."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source import PACKAGE, modules

PRIVATE = (
    "asked beside belonging chance claim found gone hear heard hearing held hush journal kept "
    "linger opening piece place reach said sharer tell teller told traits wanted whole attempt"
)
"""Words that once named things of this package, in place of the words of docs/glossary.md."""

ALLOWED = {
    "ModelNotFound": "as the errors of other packages",
    "not_found": "status 404 of HTTP",
    "held_out": "data that training does not see",
    "claim": "what a worker of a job queue does with a job",
    "CLAIM_SECONDS": "the same",
    "attempts": "a column of the database of jobs",
    "MOST_ATTEMPTS": "the limit of that column",
    "OPENING": "punctuation that opens, in Unicode's terms",
    "NotFoundError": "an error of browsers",
    "tell": "a method of files",
}
"""Names with a private word that is a term of the field there, or belongs to a file format."""

NEVER_ENGLISH = (
    r"\b(a|the|one|each|every) hearings?\b|\b(hush|tellers?|sharers?|belonging|linger)\b"
)
FORMER_NAMES = {"hush_share"}
"""Keys of files that are still read."""


def test_class_names_are_unique() -> None:
    names = Counter(
        node.name
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1]


def _given_names(tree: ast.Module) -> Iterator[str]:
    """Names of functions, classes, arguments, variables and attributes where they are given."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _private_parts(name: str) -> set[str]:
    parts = re.split(r"_+|(?<=[a-z])(?=[A-Z])", name)
    private = {word.removesuffix("s") for word in PRIVATE.split()}
    return private & {part.lower().removesuffix("s") for part in parts}


def test_no_name_has_a_private_word() -> None:
    wrong = {
        (module.path, name)
        for module in modules()
        for name in (*_given_names(module.tree), Path(module.path).stem)
        if name.strip("_") not in ALLOWED and _private_parts(name)
    }
    assert not wrong


def _script_names(text: str) -> set[str]:
    """Names in JavaScript, outside comments and strings."""
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    code = re.sub(r"`[^`]*`", lambda found: " ".join(re.findall(r"\$\{[^}]*\}", found[0])), code)
    return set(re.findall(r"[A-Za-z_$][\w$]*", re.sub(r'"(\\.|[^"\\])*"', "", code)))


def test_no_name_of_the_page_has_a_private_word() -> None:
    wrong = {
        (path.name, name)
        for path in (PACKAGE / "server" / "page").glob("*.js")
        for name in _script_names(path.read_text(encoding="utf-8"))
        if name not in ALLOWED and _private_parts(name)
    }
    assert not wrong


def test_documents_and_help_have_no_former_names() -> None:
    documents = sorted((PACKAGE.parents[1] / "docs").rglob("*.md"))
    texts = {path.name: path.read_text(encoding="utf-8") for path in documents}
    texts |= {module.path: module.text for module in modules()}
    for name, text in texts.items():
        for former in FORMER_NAMES:
            text = text.replace(former, "")
        assert not re.findall(NEVER_ENGLISH, text, re.IGNORECASE), name
