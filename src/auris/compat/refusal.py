"""How options of other packages are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auris.errors import UnsupportedOption, UsageError

__all__ = ["refuse", "refuse_unless_neutral"]


def refuse(name: str, value: object, remedy: str = "leave it out") -> UnsupportedOption:
    """The error for an option that cannot be honoured."""
    return UnsupportedOption(f"{name} = {value!r} is not supported", "", remedy)


def refuse_unless_neutral(
    given: Mapping[str, Any], neutral: Mapping[str, tuple[object, ...]]
) -> None:
    """Accept options only where they ask for what happens anyway.

    Args:
        given: options by name.
        neutral: for every known option the values that change nothing.

    Raises:
        UnsupportedOption: a value cannot be honoured.
        UsageError: an option is unknown.
    """
    for name, value in given.items():
        if name not in neutral:
            raise UsageError(f"There is no option {name!r}", "", "correct the name")
        values = neutral[name]
        if not any(value is one or (type(value) is not bool and value == one) for one in values):
            those = " or ".join(repr(one) for one in values)
            raise refuse(name, value, f"leave it out, or pass {those}" if those else "leave it out")
