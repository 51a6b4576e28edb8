"""The benchmark of the server runs on small inputs. No result is compared with a time."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.conftest import Script
from tests.recordings import write_wav

for package in ("fastapi", "psutil", "uvicorn", "websockets"):
    pytest.importorskip(package)
under_load = pytest.importorskip("under_load")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with under_load.server(Namespace(address=None)) as address:
        yield address


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for number in range(2):
        write_wav(tmp_path / f"{number}.wav", 1.5, number)
    return tmp_path


def figures(script: Script, *arguments: object) -> dict[str, Any]:
    done = script("server", *arguments, "--pid", os.getpid())
    assert (done.code, done.err) == (0, "")
    found: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return found


def test_concurrent_clients(script: Script, url: str, clips: Path) -> None:
    short = ("--seconds", 1, "--rounds", 1, "--clients", 2, "--batch-rounds", 1)
    found = figures(script, "load", "--url", url, "--clips", clips, *short)
    assert (found["clips"], found["swapped"], set(found["statuses"])) == (2, 0, {"200"})


def test_memory(script: Script, url: str, clips: Path) -> None:
    short = ("--requests", 8, "--clients", 2)
    found = figures(script, "memory", "--url", url, "--clips", clips, *short)
    assert found["mb_most"] >= found["mb_at_the_end"] > 0.0


def test_wrong_requests(script: Script, url: str) -> None:
    found = figures(script, "malformed", "--url", url, "--requests", 12, "--clients", 2)
    answered = [line for line in found["statuses"] if line.split()[-1].startswith("4")]
    assert found["requests"] == 12
    assert sum(found["statuses"][line] for line in answered) == 12 - found["not_4xx"] > 0


def test_live_streams(script: Script, url: str, tmp_path: Path) -> None:
    speech = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"
    (tmp_path / speech.name).write_bytes(speech.read_bytes())
    short = ("--streams", 1, "--seconds", 3)
    found = figures(script, "realtime", "--url", url, "--clips", tmp_path, *short)
    assert (found["streams"], found["errors"]) == (1, 0)
    assert found["words"] > 0


def test_clients_with_long_recordings(url: str) -> None:
    arguments = Namespace(
        callers=3,
        seconds=1.0,
        settle=0.0,
        mp3_seconds=60,
        flac_seconds=1,
        mkv_seconds=1,
        address=None,
    )
    found = under_load.measured(url, arguments)
    assert found["/health"]["statuses"] == {200: found["/health"]["count"]}
    assert found["clip of 5 s"]["count"] >= 1
