"""The lease protocol in simulated time: nothing is lost, and little is done twice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from auris.scale import leases
from auris.scale.leases import Leases
from lease_simulation import Conditions, simulate
from tests.benchmarks.conftest import Script

CALM = Conditions(
    workers=12, shards=60, stall_share=0.0, failure_share=0.0, crash_seconds=1e9, drift=0.0
)
STORM = replace(CALM, stall_share=0.004, failure_share=0.01, crash_seconds=1500.0, drift=0.05)


def test_without_crashes_no_work_is_repeated() -> None:
    outcome = simulate(CALM)
    assert (outcome.finished, outcome.wrong, outcome.crashes) == (60, 0, 0)
    assert (outcome.repeated, outcome.abandoned, outcome.wasted_share) == (0, 0, 0.0)
    assert outcome.seconds < 2 * outcome.ideal_seconds


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_and_double_work_is_bounded(seed: int) -> None:
    outcome = simulate(replace(STORM, seed=seed))
    assert (outcome.finished, outcome.wrong) == (60, 0)
    assert outcome.crashes > 0
    # Every crash ends one work at most. A work is repeated where a lease grew old because the
    # storage stalled, or where a crash came after the result was written.
    assert outcome.abandoned <= outcome.crashes
    assert outcome.repeated <= outcome.crashes + outcome.stalls
    assert outcome.seconds < 10 * outcome.ideal_seconds


def test_a_simulation_depends_on_its_seed_alone() -> None:
    assert simulate(replace(STORM, seed=1)) == simulate(replace(STORM, seed=1))


def test_leases_without_heartbeats_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work on long shards is repeated by everybody who waits."""
    monkeypatch.setattr(leases, "BEATS", 1e-3)
    assert simulate(CALM).repeated > 5


def test_shards_that_are_never_taken_over_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leases, "take_over", lambda *_: None)
    short = replace(STORM, crash_seconds=100.0, restart_seconds=1e7, shards=24, most_seconds=1e4)
    assert simulate(short).finished < 24


def test_the_script(script: Script) -> None:
    done = script("lease_simulation", "--workers", "4", "--shards", "8")
    assert done.code == 0
    assert json.loads(done.out.splitlines()[-1])["finished"] == 8
