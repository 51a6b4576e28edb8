"""The command lines of the documentation are ones that the program accepts."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from auris.cli.main import app
from auris.cli.options import with_options

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "src" / "auris" / "bundled").glob("*/README.md")),
]
LINE = re.compile(r"\b(auris|python (?:benchmarks|scripts)/\w+\.py|scripts/\w+(?:\.\w+)?) .*")
OPTIONAL = re.compile(r"\[.*?\]")
REPEATED = re.compile(r"--[a-z-]+ \.\.\.")


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Programs and arguments of the lines in blocks of code, without what is left out there."""
    for page in PAGES:
        for block in page.read_text(encoding="utf-8").split("```")[1::2]:
            for line in block.replace("\\\n", " ").splitlines():
                found = LINE.search(line)
                if found and "import" not in line:
                    program, arguments = found.group(1), found.group().removeprefix(found.group(1))
                    text = OPTIONAL.sub("", re.split(r" [|>&]", arguments)[0])
                    text = REPEATED.sub("", text)
                    yield program, shlex.split(text, comments=True)


LINES = sorted({(program, *arguments) for program, arguments in command_lines()})


def test_the_documentation_has_command_lines() -> None:
    assert len(LINES) > 50
    assert {line[1] for line in LINES if line[0] == "auris"} >= {
        *("transcribe", "batch", "listen", "align", "detect-language", "serve", "quantize"),
        *("train", "benchmark"),
    }


def _without_work(command: Any) -> Any:
    """A command that parses its options and does nothing."""
    if hasattr(command, "commands"):
        for child in command.commands.values():
            _without_work(child)
    command.callback = lambda **_: None
    return command


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_command_line_is_accepted(line: tuple[str, ...]) -> None:
    program, *arguments = line
    if program == "auris":
        command = typer.main.get_command(app)
    elif "benchmarks/" in program:
        name = Path(program).stem
        if name == "server":
            return
        benchmark = typer.Typer()
        benchmark.command()(with_options(getattr(importlib.import_module(name), name)))
        command = typer.main.get_command(benchmark)
    else:
        assert (ROOT / program.removeprefix("python ")).is_file()
        return
    complete = "..." not in arguments
    try:
        given = [argument for argument in arguments if argument != "..."]
        _without_work(command).main(given, standalone_mode=False)
    except Exception as error:
        # Unknown options are refused before missing ones.
        if complete or type(error).__name__ != "MissingParameter":
            raise


NAMED = re.compile(r"`auris ([^`]+)`")
INCOMPLETE = ("MissingParameter", "BadOptionUsage")
"""Errors of a line in a sentence, which names a command or an option without its values."""


def lines_in_sentences() -> set[tuple[str, ...]]:
    """Arguments of `auris` where a sentence or a table names it."""
    lines = set()
    for page in PAGES:
        prose = "".join(page.read_text(encoding="utf-8").split("```")[0::2])
        for found in NAMED.findall(prose):
            text = " ".join(found.replace("\\|", "|").split())
            text = REPEATED.sub("", OPTIONAL.sub("", re.split(r" [|>&]", text)[0]))
            lines.add(tuple(part for part in shlex.split(text) if part != "..."))
    return lines - {("COMMAND", "--help")}


@pytest.mark.parametrize("line", sorted(lines_in_sentences()), ids=" ".join)
def test_a_sentence_names_commands_and_options_that_exist(line: tuple[str, ...]) -> None:
    try:
        _without_work(typer.main.get_command(app)).main(list(line), standalone_mode=False)
    except Exception as error:
        if type(error).__name__ not in INCOMPLETE:
            raise


@pytest.mark.parametrize("name", ["Dockerfile", "auris.service"])
def test_a_deployed_command_line_is_accepted(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
    found = re.search(r"^ENTRYPOINT (.*)$|^ExecStart=(.*)$", text, re.MULTILINE)
    assert found
    program, *arguments = json.loads(found[1]) if found[1] else shlex.split(found[2])
    assert Path(program).name == "auris"
    assert arguments[0] == "serve"
    _without_work(typer.main.get_command(app)).main(arguments, standalone_mode=False)
