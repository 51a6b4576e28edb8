"""The command lines of the documentation run, on small files and models of the same names."""

from __future__ import annotations

import asyncio
import glob
import importlib.util
import io
import json
import logging
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import typer
import uvicorn

from auris.checkpoints import quantization_config
from auris.cli.declare import with_options
from auris.cli.main import app
from auris.evaluation import loading
from tests.cli.command import Auris, Outcome
from tests.cli.docs_cases import ALONE, CASES, MORE, WORDS, Case
from tests.cli.docs_files import CLIP, make_files, make_hub, raw_samples
from tests.cli.docs_lines import ROOT, Line, auris_lines, script_lines

LINES = {str(line): line for line in auris_lines()}
TREE: Any = typer.main.get_command(app)
PULL = re.compile(r"\$\(auris pull (\S+)\)")
EXTRAS = {
    "huggingface_hub": r"Qwen/|\bpull\b",
    "transformers": r"--reference|\bparity\b|--peers",
    "peft": r"recipes/tune|train asr --model|--adapter",
    "wyoming": r"^auris wyoming",
    "silero_vad": r"--vad-model silero",
    "fsspec": r"batch --input|batch (status|merge)|--corpus",
    "ray": r"auris scale",
    "ray.serve": r"auris scale serve",
    "pyarrow": r"batch merge .*parquet",
}
"""Packages, and the lines that need them."""

LOWEST = {"transformers": "5.23"}
"""Lowest versions of them that know the models."""


def _command(line: Line) -> tuple[str, Any]:
    """The name of a line's command, and the command."""
    command = TREE
    path = []
    for argument in line.arguments:
        if argument not in getattr(command, "commands", {}):
            break
        command = command.commands[argument]
        path.append(argument)
    return " ".join(path), command


def _is_call(line: Line) -> bool:
    """Whether a line is more than the name of a command that requires arguments."""
    name, _ = _command(line)
    return str(line) != f"auris {name}" or name in ALONE


CALLS = [text for text, line in LINES.items() if _is_call(line)]
NAMES = [text for text in LINES if text not in CALLS]
RUN = [text for text in CALLS if not LINES[text].in_tutorial]


def test_the_documentation_has_command_lines() -> None:
    calls = {_command(LINES[text])[0] for text in CALLS}
    assert calls >= {*TREE.commands} - {"train", "benchmark", "scale"}
    for group in ("train", "benchmark", "batch", "scale"):
        assert calls >= {f"{group} {name}" for name in TREE.commands[group].commands}


def test_every_case_is_in_the_documentation() -> None:
    assert {*CASES, *(case.after for case in CASES.values() if case.after)} <= {*LINES}


@pytest.mark.parametrize("text", NAMES, ids=str)
def test_every_documented_command_exists(text: str) -> None:
    assert _command(LINES[text])[0] == text.removeprefix("auris ")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the lines read."""
    folder = tmp_path_factory.mktemp("docs")
    make_files(folder)
    return folder


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of the hub."""
    folder = tmp_path_factory.mktemp("hub")
    make_hub(folder)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of the working directory after each line that others come after."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def folder(
    files: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: object
) -> Path:
    """The working directory of a line, with replacements for the hub, the microphone, the signal
    that ends a server and the processes that measure loading. Narrow models in 4 bits are
    allowed."""
    folder = tmp_path / "work"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AURIS_DEVICE", "cpu")
    monkeypatch.delenv("AURIS_MODEL", raising=False)
    monkeypatch.setattr(quantization_config, "LEAST_WIDTH", 1)
    monkeypatch.setattr(uvicorn.Server, "run", _answer_and_stop)
    monkeypatch.setattr("auris.cli.scale.until_stopped", _check_health)
    # A log on standard error would outlive the test.
    monkeypatch.setattr("auris.server.run.log_config", lambda _: None)
    if importlib.util.find_spec("wyoming"):
        monkeypatch.setattr("auris.wyoming.server.run", _listen_and_stop)
    # Plots take longer than the runs here; tests/training/test_reports.py draws some.
    monkeypatch.setattr("auris.training.reports.draw", lambda out: None)
    monkeypatch.setattr(loading, "subprocess", SimpleNamespace(run=_measure_here))
    if importlib.util.find_spec("huggingface_hub"):
        monkeypatch.setattr("huggingface_hub.snapshot_download", partial(_fetch, hub))
    return folder


def _fetch(hub: Path, name: str, **_: object) -> str:
    """Replaces the hub."""
    if not (hub / name).is_dir():
        raise OSError(f"tests/cli/docs_files.py makes no model {name}")
    return str(hub / name)


def _measure_here(call: list[str], **_: object) -> SimpleNamespace:
    """Replaces a new process that loads a model or shows the help."""
    measured = {} if call[-1] == loading.HELP else loading.measure_here(**json.loads(call[-1]))
    return SimpleNamespace(returncode=0, stdout=json.dumps(measured))


_serve = uvicorn.Server.run


def _answer_and_stop(server: uvicorn.Server, *_: object) -> None:
    """Replaces waiting for a signal: the server stops after it has answered a request."""
    thread = threading.Thread(target=_serve, args=(server,))
    thread.start()
    while thread.is_alive() and not server.started:
        thread.join(0.02)
    if server.started:
        port = server.servers[0].sockets[0].getsockname()[1]
        answer = httpx.get(f"http://127.0.0.1:{port}/health", timeout=60)
        server.should_exit = True
        thread.join()
        assert answer.status_code == 200


def _check_health(address: str) -> None:
    """Replaces waiting for a signal: a server on Ray stops after it has answered a request."""
    assert httpx.get(f"{address}/health", timeout=60).status_code == 200


def _listen_and_stop(models: Any, limits: Any, address: Any, _: str) -> None:
    """Replaces waiting for a signal: the Wyoming server stops as soon as it listens."""
    from auris.wyoming.server import WyomingServer

    async def serve() -> None:
        server = WyomingServer(models, limits)
        await server.serve(address, lambda _: server.stop())

    asyncio.run(serve())


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """A server with the files of the working directory."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _input(producer: str) -> bytes:
    """The output of the program that a line reads from."""
    if producer == "find":
        return b"calls/one.mp3\ncalls/two.wav\n"
    if producer == "arecord":
        return raw_samples()
    return CLIP.read_bytes()


def _arguments(line: Line, case: Case, address: str) -> Iterator[str]:
    """The arguments of a line after expansion by the shell and the tables."""
    words = WORDS | dict(case.words)
    for argument in line.arguments:
        if argument in words:
            yield from shlex.split(words[argument])
        elif "://" in argument:
            yield f"{address}/{argument.rpartition('/')[2]}"
        else:
            yield from sorted(glob.glob(argument)) or [argument]
    yield from shlex.split(f"{MORE.get(_command(line)[0], '')} {case.more}")


def _run(
    line: Line, auris: Auris, address: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> Outcome:
    case = CASES.get(str(line), Case())
    if case.after:
        kept = made / str([*LINES].index(case.after))
        if kept.exists():
            shutil.copytree(kept, Path.cwd(), symlinks=True, dirs_exist_ok=True)
        else:
            _run(LINES[case.after], auris, address, made, monkeypatch)
            whole = shutil.copytree(Path.cwd(), f"{kept}.new", symlinks=True)
            Path(whole).rename(kept)
    for name, value in line.environment.items():
        monkeypatch.setenv(name, WORDS.get(value, value))
    arguments = []
    for argument in _arguments(line, case, address):
        if found := PULL.fullmatch(argument):
            argument = auris("pull", found.group(1)).out.strip()
        arguments.append(argument)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(_input(line.producer))))
    done = auris(*arguments)
    assert done.code == case.code, (
        f"`{line}` of {line.page} ended with exit code {done.code} as `{shlex.join(arguments)}`:\n"
        f"{done.err}\n"
        "Correct the line; or, if it names a new file or model, make that in "
        "tests/cli/docs_files.py; or, if it cannot run as it is written, add an entry to CASES "
        "in tests/cli/docs_cases.py, which says what to replace or which exit code to expect."
    )
    assert case.message in done.err
    return done


@pytest.mark.parametrize("text", RUN, ids=str)
def test_a_command_line_runs(
    text: str,
    auris: Auris,
    folder: Path,
    address: str,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package, lines in EXTRAS.items():
        if re.search(lines, text):
            pytest.importorskip(package, minversion=LOWEST.get(package))
    if text.startswith("auris scale"):
        # Ray logs to the standard error of the line that starts it, which is closed in the next.
        monkeypatch.setattr(logging, "raiseExceptions", False)
    _run(LINES[text], auris, address, made, monkeypatch)


def _without_work(command: Any) -> Any:
    """A command that only parses its options."""
    if hasattr(command, "commands"):
        for child in command.commands.values():
            _without_work(child)
    else:
        command.callback = lambda **_: None
    return command


@pytest.mark.parametrize("line", script_lines(), ids=" ".join)
def test_a_command_line_of_a_benchmark_or_script_parses(line: tuple[str, ...]) -> None:
    program, *arguments = line
    if "benchmarks/" not in program:
        assert (ROOT / program.removeprefix("python ")).is_file()
        return
    name = Path(program).stem
    benchmark = typer.Typer()
    benchmark.command()(with_options(getattr(importlib.import_module(name), name)))
    command = typer.main.get_command(benchmark)
    _without_work(command).main(arguments, standalone_mode=False)
