"""Limits of the audio in progress: exact counts, and capacity for short recordings."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

import pytest

from auris.server.admission import Gate
from auris.server.errors import ApiError
from auris.types import SAMPLE_RATE

HOUR = 3600.0


def _gate(speed: float = 10.0) -> Gate:
    return Gate(HOUR, lambda: speed)


def _admitted(gate: Gate, seconds: float) -> AbstractContextManager[None]:
    return gate.admitted(round(seconds * SAMPLE_RATE))


def _refused(gate: Gate, seconds: float) -> int:
    """The seconds after which a refused client may retry."""
    with pytest.raises(ApiError) as refused, _admitted(gate, seconds):
        pass
    assert refused.value.status == 429
    return int(refused.value.headers["Retry-After"])


def test_finished_recordings_release_their_budget() -> None:
    """As rounded seconds, these three left a remainder, and nothing above an hour was admitted."""
    gate = _gate()
    with ExitStack() as calls:
        for seconds in (9.5791875, 29.7661875, 8.107375):
            calls.enter_context(_admitted(gate, seconds))
    assert gate.seconds == 0
    with _admitted(gate, 1.5 * HOUR):
        assert gate.seconds == 1.5 * HOUR


def test_short_recordings_are_admitted_during_one_over_the_budget() -> None:
    gate = _gate()
    with _admitted(gate, 2 * HOUR), ExitStack() as calls:
        for _ in range(30):
            gate.check()
            calls.enter_context(_admitted(gate, 60))
        assert _refused(gate, 60) > 1
        assert _refused(gate, 61) > 1


def test_a_long_recording_is_admitted_while_short_ones_fill_the_budget() -> None:
    gate = _gate()
    with ExitStack() as calls:
        for _ in range(60):
            calls.enter_context(_admitted(gate, 60))
        with pytest.raises(ApiError):
            gate.check()
        with _admitted(gate, HOUR):
            _refused(gate, 61)


def test_long_recordings_share_the_remaining_budget() -> None:
    gate = _gate()
    with _admitted(gate, 1000), _admitted(gate, 1000), _admitted(gate, 1000):
        _refused(gate, 601)
        with _admitted(gate, 600):
            assert gate.seconds == HOUR


def test_retry_after_is_when_capacity_is_expected() -> None:
    with _admitted(_gate(10), HOUR):
        pass
    gate = _gate(10)
    with _admitted(gate, HOUR):
        assert 300 < _refused(gate, 100) <= 360
    with _admitted(gate, 2000), _admitted(gate, 1600):
        # Two at half the speed each; the first to finish frees the budget.
        assert 280 < _refused(gate, 100) <= 320
    fast = _gate(1e6)
    with _admitted(fast, HOUR):
        assert _refused(fast, 100) == 1
