"""Reports of tests can be sent from one process to another."""

from __future__ import annotations

import json
import logging

import pytest


def test_a_report_with_half_a_surrogate_pair_can_be_sent(pytestconfig: pytest.Config) -> None:
    half = "a name \udce9 with half a pair"
    report = pytest.TestReport(
        "a/test.py::test",
        ("a/test.py", 1, "test"),
        {half: 1},
        "failed",
        half,
        "call",
        sections=[("Captured log call", half)],
    )
    hook = pytestconfig.hook.pytest_report_to_serializable
    sent = hook(config=pytestconfig, report=report)
    json.dumps(sent, ensure_ascii=False).encode("utf-8")
    assert sent["sections"] == [("Captured log call", r"a name \udce9 with half a pair")]
    # The report of this test has one, too, which matters where pytest-xdist sends it.
    logging.getLogger(__name__).warning(half)
