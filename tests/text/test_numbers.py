"""Numbers as digits next to other numbers."""

from __future__ import annotations

import pytest

from auris.text.numbers import in_digits


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("wake me at seven thirty", "wake me at 7:30"),
        ("at seven thirty five", "at 7:35"),
        ("seven thirty pm", "7:30 pm"),
        ("seven thirty", "seven thirty"),
        ("five twenty dollar bills", "five twenty dollar bills"),
        ("seven fifteen hundred", "seven fifteen hundred"),
        ("seven thirty eight nine", "seven thirty eight nine"),
        ("at zero thirty", "at zero thirty"),
        ("call oh five five five one two", "call 055512"),
        ("five oh five one", "5051"),
        ("oh one of them", "oh one of them"),
        ("oh twenty two", "oh 22"),
        ("twenty two", "22"),
    ],
)
def test_a_digit_next_to_another_number(said: str, written: str) -> None:
    assert in_digits(said) == written
