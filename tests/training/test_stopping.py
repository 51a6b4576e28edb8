"""Signals: a run finishes its step, writes a checkpoint and can be resumed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from auris.training.data import DataReport, with_units
from auris.training.examples import EpochBatches, Preprocessor, plan_epoch
from auris.training.recipes import CtcRecipe
from auris.training.stopping import StopSignals
from auris.training.units import ALPHABET, train_units
from tests.training.test_processes import CHECKED, command, losses, manifest
from tests.training.tones import tone_clip

STEPS = 60
SLOW = (
    CHECKED
    + """
import time
from auris.training.trainer import Trainer

step = Trainer.step

def slow(trainer, batches):
    time.sleep(0.1)
    return step(trainer, batches)

Trainer.step = slow
main(sys.argv[1:])
"""
)
"""The command line with steps of at least a tenth of a second, so that a signal hits one."""


class Run:
    """A training command in its own process group, and its output."""

    def __init__(self, call: Sequence[str], folder: Path) -> None:
        script = folder / "slow.py"
        script.write_text(SLOW)
        self.process = subprocess.Popen(
            [sys.executable, str(script), *call],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_step(self, log: Path) -> None:
        """Wait until a step is logged or the process has ended."""
        while not log.exists() and self.process.poll() is None:
            threading.Event().wait(0.05)

    def end(self) -> tuple[int, str]:
        """Exit code and standard error."""
        try:
            _, errors = self.process.communicate(timeout=120)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.returncode, errors


@pytest.mark.parametrize(
    ("number", "group", "extra"),
    [
        (signal.SIGTERM, True, ["--workers", "1"]),
        (signal.SIGINT, True, ["--processes", "2"]),
        (signal.SIGTERM, False, ["--processes", "2"]),
    ],
    ids=["terminated with its workers", "ctrl-c of two", "terminated of two"],
)
def test_a_signal_leaves_a_checkpoint_to_resume_from(
    tmp_path: Path,
    tiny: Callable[..., CtcRecipe],
    number: signal.Signals,
    group: bool,
    extra: list[str],
) -> None:
    manifest(tmp_path)
    recipe = tiny(max_steps=STEPS, checkpoint_steps=10_000, batch_seconds=99)
    (tmp_path / "recipe.json").write_text(json.dumps(asdict(recipe)))
    call = [*command("ctc", tmp_path, "run")[1:], *extra]
    run = Run(call, tmp_path)
    run.wait_for_step(tmp_path / "run" / "steps.csv")
    (os.killpg if group else os.kill)(run.process.pid, number)
    code, errors = run.end()
    assert code == 128 + number, errors
    assert errors.count("--resume") == 1
    assert "Traceback" not in errors
    done = json.loads((tmp_path / "run" / "last" / "progress.json").read_text())["step"]
    assert 0 < done < STEPS
    assert len(losses(tmp_path / "run")) == done


def test_a_signal_does_not_end_a_starting_worker(
    tiny: Callable[..., CtcRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.seed

    def signal_itself(value: int) -> None:
        """torch seeds a worker between its own handlers and those of the run."""
        os.kill(os.getpid(), signal.SIGTERM)
        seed(value)

    monkeypatch.setattr(random, "seed", signal_itself)
    tokenizer = train_units(["ab"], len(ALPHABET))
    preprocessor = Preprocessor("htk1024", 32, tokenizer.encode)
    clips = with_units(DataReport([tone_clip("ab")]), tokenizer.encode).clips
    recipe = tiny()
    plan = plan_epoch(clips, recipe, 0)
    loaded = EpochBatches(clips, recipe, preprocessor, plan).load(workers=1)
    assert len(list(loaded)) == 1


def test_a_second_signal_stops_at_once() -> None:
    before, signals = signal.getsignal(signal.SIGINT), StopSignals(announce=False)
    with signals.handled():
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGINT)
    assert ended.value.code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_signal_handlers_are_installed_only_in_the_main_thread() -> None:
    found: list[object] = []

    def look() -> None:
        with StopSignals().handled():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
