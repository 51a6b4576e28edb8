"""Ctrl-C ends a command with exit code 130 and no other message at any time."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import Auris
from tests.cli.test_live_output import OPTIONS, Terminal, environment, pty, screen

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals of POSIX")

PRESS = "os.kill(os.getpid(), signal.SIGINT)"

WHILE_LOADING = f"""
import os, signal, sys
module = sys.argv.pop(1)

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            {PRESS}

sys.meta_path.insert(0, Press())
import auris.__main__
auris.__main__.main()
"""

DROPPED = f"""
import os, signal
from auris.cli.interrupt import handle_interrupts

class Dropping:
    def __del__(self):
        {PRESS}

handle_interrupts()
print("before", end="")
Dropping()
print("after")
"""

DROPPED_BY_PYAV = f"""
import os, signal, sys
from auris.cli.interrupt import handle_interrupts, interruptible

handle_interrupts()
import av, typer

class File:
    def __init__(self, path):
        self.file, self.reads = open(path, "rb"), 0
        self.tell, self.seek = self.file.tell, self.file.seek

    def read(self, size):
        self.reads += 1
        if self.reads == 2:
            {PRESS}
        return self.file.read(size)

def decode():
    with interruptible() as interrupt:
        with av.open(File(sys.argv[1])) as container:
            for frame in container.decode(audio=0):
                pass
        print(interrupt.is_set())

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(decode)
app([])
"""

CHANGED = f"""
import os, signal
from auris.__main__ import main
from auris.pipeline import AsrPipeline

def broken(*arguments, **options):
    try:
        {PRESS}
    except KeyboardInterrupt:
        raise RuntimeError("error_already_set")

AsrPipeline.from_pretrained = broken
main()
"""

AT_THE_END = f"""
import atexit, os, signal
from auris.__main__ import main

atexit.register(lambda: {PRESS})
main()
"""


def run(code: str, *arguments: object, **more: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(AURIS_DEVICE="cpu", **more),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", ["transcribe", "batch"])
@pytest.mark.parametrize("module", ["auris.cli.main", "numpy.linalg", "torch", "auris.pipeline"])
def test_ctrl_c_during_imports(
    models: Path, recordings: Path, tmp_path: Path, command: str, module: str
) -> None:
    calls = {
        "transcribe": [recordings / "a.wav"],
        "batch": ["--input-dir", recordings, "--output", tmp_path / "results.jsonl"],
    }
    call = [command, *calls[command], "-m", models / "qwen"]
    assert run(WHILE_LOADING, module, *call) == (130, "", "")


def test_importing_the_package_loads_no_other_module_of_it() -> None:
    loaded = "import sys, auris; print(sorted(n for n in sys.modules if n.startswith('auris')))"
    assert run(loaded) == (0, "['auris']\n", "")


def test_ctrl_c_inside_a_callback_ends_the_program() -> None:
    assert run(DROPPED) == (130, "before", "")


def test_ctrl_c_inside_a_callback_of_pyav_prints_nothing(recordings: Path) -> None:
    assert run(DROPPED_BY_PYAV, recordings / "a.wav") == (0, "True\n", "")


def test_ctrl_c_that_a_library_converts_to_another_error(models: Path, recordings: Path) -> None:
    call = ["transcribe", recordings / "a.wav", "-m", models / "qwen"]
    assert run(CHANGED, *call) == (130, "", "")


def test_ctrl_c_during_interpreter_shutdown(auris: Auris) -> None:
    code, out, err = run(AT_THE_END, "--version")
    assert (code, err) == (130, "")
    assert out == auris("--version").out


def test_ctrl_c_does_not_reach_starting_processes(
    models: Path, recordings: Path, tmp_path: Path
) -> None:
    """Ctrl-C signals all processes of a terminal, also those that `batch --workers` starts."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, signal, sys\nif 'spawn_main' in str(sys.orig_argv): {PRESS}\n"
    )
    names = tmp_path / "names.txt"
    names.write_text(f"{recordings / 'a.wav'}\n{recordings / 'b.wav'}\n")
    source = environment()["PYTHONPATH"]
    code, _, err = run(
        "from auris.__main__ import main; main()",
        *("batch", "--files", names, "--output", tmp_path / "results.jsonl", "--workers", 2),
        *("-m", models / "qwen"),
        PYTHONPATH=os.pathsep.join([str(tmp_path), source]),
    )
    assert code == 0, err
    assert "Traceback" not in err


@pty
def test_ctrl_c_clears_the_progress_bar(models: Path) -> None:
    terminal = Terminal()
    code = "import sys; from auris.__main__ import main; main()"
    call = ["transcribe", "-", "-m", str(models / "qwen"), *OPTIONS]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *call],
        stdin=subprocess.PIPE,
        stdout=terminal.end,
        stderr=terminal.end,
        env=environment(AURIS_DEVICE="cpu", COLUMNS="60"),
    )
    while b"[" not in terminal.content:
        select.select([], [], [], 0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    shown = screen(terminal.close(), 60)
    assert shown[-1] == "auris: interrupted: nothing is written"
    assert not any(line.startswith("[") for line in shown)
