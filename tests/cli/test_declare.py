"""Options with ranges: what help says of them, and which numbers they refuse."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from auris.cli.declare import option
from auris.errors import UsageError


@pytest.mark.parametrize(
    ("limits", "allowed", "good", "bad"),
    [
        ({"min": 1, "max": 3}, "1 to 3", (1, 3), (0, 4)),
        ({"min": 1}, "1 or more", (1, 99), (0,)),
        ({"max": 3}, "at most 3", (-5, 3), (4,)),
    ],
)
def test_options_have_ranges(
    limits: dict[str, Any], allowed: str, good: tuple[int, ...], bad: tuple[int, ...]
) -> None:
    def command(count: int = 2) -> None:
        typer.echo(str(count))

    command.__annotations__["count"] = Annotated[int, option("How many.", **limits)]
    app = typer.Typer()
    app.command()(command)
    invoke = CliRunner().invoke
    assert f"<{allowed}>" in invoke(app, ["--help"]).output
    assert [invoke(app, ["--count", str(n)]).output for n in good] == [f"{n}\n" for n in good]
    for number in bad:
        error = invoke(app, ["--count", str(number)]).exception
        assert isinstance(error, UsageError)
        assert error.rule == f"--count has to be {allowed}"
