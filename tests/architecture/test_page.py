"""docs/architecture.md names every module, and only modules and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests.architecture.rooms import ROOMS
from tests.architecture.source import PACKAGE, modules

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
TABLES = {"training": "## The training room", "server": "## The server's room"}


def _section(heading: str) -> str:
    return PAGE.partition(f"\n{heading}\n")[2].partition("\n## ")[0]


def _named(room: str) -> list[str]:
    """The modules that the page lists for a room, in its table or its item of the list."""
    if room in TABLES:
        cells = re.findall(r"^\| (`.*?) \|", _section(TABLES[room]), re.MULTILINE)
        return [name for cell in cells for name in re.findall(r"`([a-z_.]+)`", cell)]
    item = re.search(rf"^- `{room}/`: (.*?)\.\n(?=- |\n)", PAGE, re.MULTILINE | re.DOTALL)
    assert item, f"the page lists no modules of {room}/"
    return re.findall(r"`([a-z][a-z0-9_]*)`", item[1])


def _existing(room: str) -> list[str]:
    paths = [module.path.removesuffix(".py") for module in modules() if module.room == room]
    names = [path.removeprefix(f"{room}/").replace("/", ".") for path in paths if "/" in path]
    return [name for name in names if not name.endswith("__init__")]


def test_every_module_is_documented_once_in_its_package() -> None:
    for room in (*ROOMS, "cli"):
        if (PACKAGE / room).is_dir():
            assert sorted(_named(room)) == sorted(_existing(room)), room


def test_documented_files_exist_and_define_the_documented_names() -> None:
    rows = re.findall(r"^\| .*\? \| (.*) \|$", _section("## Where to look"), re.MULTILINE)
    assert rows
    for row in rows:
        names = re.findall(r"`([^`]+)`", row)
        files = [name for name in names if name.endswith(".py")]
        text = "".join((PACKAGE / file).read_text(encoding="utf-8") for file in files)
        missing = [name for name in names if name not in files and name not in text]
        assert not missing, row


def test_dotted_names_exist() -> None:
    rooms = "|".join(ROOMS)
    for room, name, rest in re.findall(rf"`({rooms})\.([a-z_]+)(?:\.([\w.]+))?`", PAGE):
        path = PACKAGE / room / f"{name}.py"
        assert path.exists(), f"{room}.{name}"
        assert rest.rpartition(".")[2] in path.read_text(encoding="utf-8"), rest
