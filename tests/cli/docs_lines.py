"""The command lines of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "src" / "auris" / "bundled").glob("*/README.md")),
]
TUTORIALS = ROOT / "docs" / "tutorials"
SCRIPT = re.compile(r"\b(python (?:benchmarks|scripts)/\w+\.py|scripts/\w+(?:\.\w+)?) .*")
AURIS = re.compile(r"\bauris [a-z-]")
OPTIONAL = re.compile(r"\[.*?\]")
REPEATED = re.compile(r"--[a-z-]+ \.\.\.")
ALTERNATIVES = re.compile(r"[^\s|]+(?:\|[^\s|]+)+")


@dataclass(frozen=True)
class Line:
    """A command line of `auris`.

    Attributes:
        page: where it is written.
        arguments: those of `auris`.
        environment: variables that are set for it.
        producer: the program whose output it reads; empty without one.
        in_tutorial: whether tests/cli/test_tutorials.py runs it.
    """

    page: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    producer: str = ""
    in_tutorial: bool = False

    def __str__(self) -> str:
        return " ".join(("auris", *self.arguments))


def auris_lines() -> list[Line]:
    """Every different command line of `auris`, in code blocks and in running text."""
    lines: dict[str, Line] = {}
    for page in PAGES:
        run = {*_block_lines(page, "bash")} if page.parent == TUTORIALS else set()
        for text in _code(page):
            for form in _forms(text):
                line = _parsed(page.relative_to(ROOT).as_posix(), form)
                lines.setdefault(str(line), replace(line, in_tutorial=text in run))
    return list(lines.values())


def script_lines() -> list[tuple[str, ...]]:
    """Benchmarks and scripts with the arguments that they have in code blocks."""
    lines = set()
    for page in PAGES:
        for line in _block_lines(page):
            if found := SCRIPT.search(line):
                program, arguments = found.group(1), found.group().removeprefix(found.group(1))
                text = OPTIONAL.sub("", re.split(r" [|>&]", arguments)[0])
                words = shlex.split(REPEATED.sub("", text), comments=True)
                lines.add((program, *words))
    return sorted(lines)


def _code(page: Path) -> Iterator[str]:
    """The lines of code blocks, and the code in running text that begins with `auris`."""
    for text in _block_lines(page):
        if AURIS.search(text) and "import" not in text:
            yield text
    for prose in page.read_text(encoding="utf-8").split("```")[::2]:
        for span in re.findall(r"`([^`]+)`", prose):
            text = " ".join(span.replace("\\|", "|").split())
            if text.startswith("auris "):
                yield text


def _block_lines(page: Path, language: str = "") -> Iterator[str]:
    for block in page.read_text(encoding="utf-8").split("```")[1::2]:
        if block.startswith(language):
            yield from block.replace("\\\n", " ").splitlines()


def _forms(text: str) -> Iterator[str]:
    """A line without and with its optional parts, once for each alternative."""
    text = REPEATED.sub("", text)
    for form in dict.fromkeys((OPTIONAL.sub("", text), re.sub(r"[\[\]]", "", text))):
        choices = [found.split("|") for found in ALTERNATIVES.findall(form)]
        for chosen in product(*choices):
            rest = iter(chosen)
            yield ALTERNATIVES.sub(lambda _, rest=rest: next(rest), form)


def _parsed(page: str, text: str) -> Line:
    """The `auris` command of a shell line, which may be in a pipe or follow another program."""
    shell = shlex.shlex(text, posix=True, punctuation_chars=True)
    shell.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in shell:
        if set(word) <= set("|&;"):
            commands.append([])
        else:
            commands[-1].append(word)
    place = next(i for i, command in enumerate(commands) if "auris" in command)
    command = commands[place]
    before, arguments = command[: command.index("auris")], command[command.index("auris") + 1 :]
    if ">" in arguments:
        arguments = arguments[: arguments.index(">")]
    environment = dict(word.split("=", 1) for word in before if re.match(r"[A-Z_]+=", word))
    producer = commands[place - 1][0] if place else ""
    return Line(page, tuple(arguments), environment, producer)
