"""How options are declared: their help, the headings under which it stands, and groups of them.

A command takes a group of options as one parameter, whose type is a dataclass; `with_options` makes
an option of each field.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import typer

from auris.errors import UsageError


def option(
    text: str, *names: str, default: str | bool = True, group: str | None = None, **settings: Any
) -> Any:
    """An option with its help text.

    Args:
        text: the help text.
        names: of the option, if not that of the parameter.
        default: how the default is described; True for its value, False for nothing.
        group: heading of the help under which it is shown; None for the first one.
        settings: of `typer.Option`; `min` and `max` are shown and checked here.
    """
    least, most = settings.pop("min", -math.inf), settings.pop("max", math.inf)
    if math.isfinite(least) or math.isfinite(most):
        allowed = _range_text(least, most)
        settings.setdefault("metavar", f"<{allowed}>")
        settings["callback"] = _range_check(least, most, allowed)
    return typer.Option(*names, help=text, show_default=default, rich_help_panel=group, **settings)


def _range_text(least: float, most: float) -> str:
    """A range as help and errors name it."""
    if math.isinf(least):
        return f"at most {most:g}"
    return f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"


def _range_check(least: float, most: float, allowed: str) -> Callable[..., Any]:
    """A callback of an option that refuses numbers out of a range."""

    def check(parameter: typer.CallbackParam, number: float | None) -> float | None:
        if number is None or least <= number <= most:
            return number
        name = parameter.opts[0]
        raise UsageError(f"{name} has to be {allowed}", f"it is {number}", "correct it")

    return check


MACHINE = "Model and machine"
SEARCH = "Search for the text"
CUTS = "Cuts and silence"
SPAN = "What is read of a recording"
SPEAKERS = "Speakers"
TEXT = "Times of words, and the text"
WORK = "Batches"


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command in which every parameter that is a group of options becomes these options."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        group = hints[name]
        if not is_dataclass(group):
            parameters.append(parameter.replace(annotation=group))
            continue
        groups[name] = group
        kinds = get_type_hints(group, include_extras=True)
        parameters += [
            parameter.replace(name=f.name, annotation=kinds[f.name], default=f.default)
            for f in fields(group)
        ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{f.name: values.pop(f.name) for f in fields(group)})
        command(**values)

    # Typer keeps the line breaks of a paragraph, however wide the terminal is.
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    run.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
