"""Every tutorial runs: its blocks of bash and Python in order, in a folder like a clone."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import auris
from tests.audio.media import RATE, encode, pcm
from tests.cli.docs_files import CLIP, FORMATS, shrink
from tests.cli.docs_lines import ROOT, TUTORIALS

PAGES = sorted(TUTORIALS.glob("*.md"))
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXTRAS = {
    "cluster": ["fsspec"],
    "decoder": ["lightning_fabric"],
    "own_voice": ["lightning_fabric", "jiwer"],
    "voice_assistant": ["fastapi", "websockets", "wyoming"],
    "whisper": ["fastapi"],
}
"""By tutorial, packages that it needs in addition to the core."""

PORTS = ("8000", "10300")
"""Ports of the tutorials, in whose place free ones are used."""

SMALLER = {
    "cluster": {"range(4)": "range(2)"},
    "own_voice": {
        "../../examples/phrases/phrases.csv": "phrases.csv",
        "cp ../../examples/voice/* .": """cp ../../examples/voice/* .
head -n 9 ../../examples/voice/train.csv > train.csv
head -n 5 ../../examples/voice/dev.csv > dev.csv
sed -e '5,$d' -e '2,$s#^#../../examples/phrases/#' ../../examples/phrases/phrases.csv > phrases.csv
""",
        '"max_steps": 8': '"max_steps": 2',
        '"checkpoint_steps": 8': '"checkpoint_steps": 2',
    },
    "subtitles": {"180 * 16_000": "90 * 16_000"},
}
"""By tutorial, what the test has less of: copies of a corpus, recordings, steps, and seconds."""

SECONDS = 1800
"""A tutorial that takes longer is stopped."""

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for bash"),
    pytest.mark.skipif(not shutil.which("bash"), reason="needs bash"),
    pytest.mark.no_cover,
]


def _free_ports(number: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _script(page: Path, folder: Path) -> str:
    """The blocks of a page as a script of bash; blocks of Python become files of the folder."""
    text = page.read_text(encoding="utf-8")
    for port, free in zip(PORTS, _free_ports(len(PORTS)), strict=True):
        text = re.sub(rf"\b{port}\b", free, text)
    for shown, smaller in SMALLER.get(page.stem, {}).items():
        assert shown in text, f"{page.name} no longer has what SMALLER replaces: {shown}"
        text = text.replace(shown, smaller)
    lines = ["set -euo pipefail"]
    for block in BLOCK.finditer(text):
        language, code = block.groups()
        line = text[: block.start()].count("\n") + 1
        lines.append(f"echo '--- {page.name}, line {line}' >&2")
        if language == "python":
            program = folder / f"line_{line}.py"
            program.write_text(code, encoding="utf-8")
            code = f"python {program}\n"
        lines.append(code)
    return "\n".join(lines)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data of a clone, and the programs that the blocks call on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in {"python": "", "auris": "-m auris"}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(Path(auris.__file__).parents[1]))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AURIS_DEVICE", "cpu")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("AURIS_MODEL", raising=False)
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("examples", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "recipes").mkdir()
    for recipe in ROOT.glob("recipes/*.json"):
        shrink(recipe, folder / "recipes" / recipe.name)
    return folder


def _make_digits(folder: Path) -> None:
    """What the decoder's tutorial clones: recordings with the names of the digits' set."""
    from auris.audio.io import load

    samples = pcm(load(CLIP).samples[None])
    recordings = folder / "digits" / "recordings"
    recordings.mkdir(parents=True)
    for digit in range(10):
        for number in (0, 5, 6):
            path = recordings / f"{digit}_jackson_{number}.wav"
            path.write_bytes(encode(samples, RATE, *FORMATS["wav"]))


def test_tutorials_have_blocks_to_run() -> None:
    assert {page.stem for page in PAGES} >= EXTRAS.keys()
    assert all(BLOCK.search(page.read_text(encoding="utf-8")) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs(page: Path, clone: Path) -> None:
    for package in EXTRAS.get(page.stem, []):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    if page.stem == "decoder":
        _make_digits(clone)
    process = subprocess.Popen(
        ["bash", "-c", _script(page, clone.parent)],
        cwd=clone,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        with suppress(ProcessLookupError):  # What a tutorial started in the background.
            os.killpg(process.pid, signal.SIGKILL)
    print(output)
    assert process.returncode == 0, output
