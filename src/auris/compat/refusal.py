"""How options of other packages are accepted, answered with a warning, or refused."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from auris.errors import UnsupportedOption, UsageError

__all__ = ["check_options", "refuse", "warn"]


def refuse(name: str, value: object, remedy: str = "leave it out") -> UnsupportedOption:
    """The error for an option that is not supported."""
    return UnsupportedOption(f"{name} = {value!r} is not supported", "", remedy)


def warn(text: str) -> None:
    """Warn the program that called a class of this room."""
    warnings.warn(text, UserWarning, stacklevel=4)


def check_options(
    given: Mapping[str, Any],
    neutral: Mapping[str, tuple[object, ...]],
    tuning: Collection[str] = (),
) -> None:
    """Accept options that ask for what happens anyway, and warn of those that only tune it.

    Args:
        given: options by name.
        neutral: for every known option the values that change nothing: what Auris does, and the
            default of the other package.
        tuning: options that only tune speed or decoding. Another value has no effect, and a
            warning says so.

    Raises:
        UnsupportedOption: a value changes the meaning and is not supported.
        UsageError: an option is unknown.
    """
    for name, value in given.items():
        if name not in neutral and name not in tuning:
            raise UsageError(f"There is no option {name!r}", "", "correct the name")
        values = neutral.get(name, ())
        if any(value is one or (type(value) is not bool and value == one) for one in values):
            continue
        if name not in tuning:
            those = " or ".join(repr(one) for one in values)
            raise refuse(name, value, f"leave it out, or pass {those}" if those else "leave it out")
        warn(f"{name} = {value!r} has no effect: Auris has no such setting")
