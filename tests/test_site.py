"""The documentation as a site: its navigation, its links, and a build without warnings."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import auris
from tests.test_public_api import ERRORS, NAMES
from tests.test_release import script

ROOT = Path(auris.__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs" / "curves").exists(), reason="an installed package or an sdist"
)

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LOADED = re.compile(r'<(?:script|img|link)[^>]*(?:src|href)="(https?:[^"]*)"')
LINKED_TEXT = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def anchors(page: Path) -> Iterator[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        text = LINKED_TEXT.sub(r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = found.setdefault(anchor, 0)
        found[anchor] += 1
        yield f"{anchor}-{number}" if number else anchor


def test_every_page_of_docs_is_in_the_navigation_once() -> None:
    shown = script("build_docs").pages()
    assert len(shown) == len({*shown})
    assert {*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"} <= {*shown}
    assert all(page.is_file() for page in shown)


def test_every_link_of_a_page_leads_somewhere() -> None:
    site = script("build_docs")
    known = {page: {*anchors(page)} for page in site.pages()}
    for page in known:
        for path, anchor in site.links(page):
            assert path.exists(), f"{page}: no {path}"
            assert path.suffix != ".md" or path in known, f"{path} is not in the navigation"
            assert not anchor or anchor in known[path], f"{page}: no #{anchor} in {path}"


def test_the_reference_has_the_public_names() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = {*re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    public = {f"{module}.{name}" for module, names in NAMES.items() for name in names.split()}
    errors = {f"auris.{name}" for name in ERRORS.split()}
    assert public - shown <= errors | {"auris.__version__"}
    others = {name for name in shown - public if not name.endswith("Options")}
    assert others == {"auris.errors"}


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("zensical", "mkdocstrings")),
    reason="needs the extra docs",
)
def test_the_site_builds_without_warnings() -> None:
    built = subprocess.run(
        [sys.executable, ROOT / "scripts" / "build_docs"], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    site = ROOT / "build" / "site"
    page = (site / "docs" / "api" / "index.html").read_text(encoding="utf-8")
    for name in ERRORS.split():
        assert f'id="auris.errors.{name}"' in page
    # Two names in one entry of a docstring are read as a name and a type.
    assert not re.findall(r">\w+,</span></code>", page)
    for path in site.rglob("*.html"):
        loaded = LOADED.findall(path.read_text(encoding="utf-8"))
        assert not loaded, f"{path} loads {loaded}"
