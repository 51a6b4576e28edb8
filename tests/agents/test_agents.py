"""The speech-to-text classes of Pipecat and LiveKit Agents, with a running server.

Their packages are installed in another environment: `make agents` makes one. AURIS_AGENTS_PYTHON
names its Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from auris.server.settings import Settings
from tests.server.live import EXAMPLE_TEXT, Live, running
from tests.server.talk import spoken

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"
RATE = 24_000
PHRASES = 4

Run = Callable[..., subprocess.CompletedProcess[str]]


def _python() -> str | None:
    """The Python that has the packages; None if there is none."""
    named = os.environ.get("AURIS_AGENTS_PYTHON")
    installed = all(find_spec(name) for name in ("pipecat", "livekit"))
    return named or (sys.executable if installed else None)


pytestmark = pytest.mark.skipif(
    _python() is None, reason="Pipecat and LiveKit Agents are not installed (make agents)"
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    state = str(tmp_path_factory.mktemp("state"))
    with running(Settings(models=("tiny",), device="cpu", state_dir=state)) as server:
        yield server


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One turn of several phrases, longer than a chunk of a stream."""
    path = tmp_path_factory.mktemp("audio") / "phrases.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(spoken(PHRASES, pause=0.1, rate=RATE).tobytes())
    return path


@pytest.fixture
def run(live: Live) -> Run:
    """Run a script with the address of the server and a recording."""

    def run_script(script: Path, recording: Path) -> subprocess.CompletedProcess[str]:
        command = [str(_python()), str(script), live.url, str(recording)]
        environment = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "AURIS_API_KEY")
        }
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, env=environment, check=False
        )

    return run_script


@pytest.mark.parametrize("name", ["livekit_agents.py", "pipecat_pipeline.py"])
def test_an_example_prints_partial_and_final_text(run: Run, recording: Path, name: str) -> None:
    done = run(EXAMPLES / name, recording)
    assert done.returncode == 0, done.stderr
    *partial, final = done.stdout.splitlines()
    assert final == " ".join([EXAMPLE_TEXT] * PHRASES)
    assert partial
    for line in partial:
        assert line.startswith("... ")
        assert line[4:].strip() in final


@pytest.mark.parametrize("name", ["livekit_agents.py", "pipecat_pipeline.py"])
def test_an_example_refuses_a_missing_recording(run: Run, tmp_path: Path, name: str) -> None:
    done = run(EXAMPLES / name, tmp_path / "missing.wav")
    assert done.returncode == 1
    assert "missing.wav" in done.stderr


def test_other_classes_and_turns_of_the_client(run: Run, recording: Path) -> None:
    done = run(Path(__file__).with_name("classes.py"), recording)
    assert done.returncode == 0, done.stderr
    text = " ".join([EXAMPLE_TEXT] * PHRASES)
    names = ("livekit upload", "pipecat upload", "pipecat commit")
    assert done.stdout.splitlines() == [f"{name}: {text}" for name in names]
