"""Every benchmark has a help text and runs on small inputs. No result is compared with a time."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.benchmarks.conftest import BENCHMARKS, Script
from tests.recordings import write_wav
from tests.tiny_models import write_tiny

LIBRARIES = {"calibration_fit", "command_line", "cuts", "realtime"}
"""Modules that the scripts share. realtime.py is run by server.py."""

SCRIPTS = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - LIBRARIES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(script: Script, name: str) -> None:
    done = script(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert "usage:" in done.out.lower()
    assert "JSON" in done.out


def test_every_script_is_listed() -> None:
    listing = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert not [name for name in SCRIPTS if f"`{name}.py" not in listing]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder of clips with texts."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        path = write_wav(folder / f"{number}.wav", 1.0 + number, number)
        path.with_suffix(".txt").write_text("some words here")
    return folder


def test_contexts(script: Script, qwen_directory: Path, clips: Path) -> None:
    pytest.importorskip("jiwer")
    for spoken, said in ((None, 6), (0, 0), (1, 3)):
        given = () if spoken is None else ("--spoken", spoken)
        done = script("contexts", clips, "-m", qwen_directory, "--size", 4, *given)
        assert done.code == 0
        figures = json.loads(done.out)
        assert (figures["set"], figures["words"], figures["said"]) == ("clips", 9, said)


def test_quantizing(script: Script, tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "it")
    done = script("quantizing", source, tmp_path / "out", "--dtype", "int8")
    assert done.code == 0
    figures = json.loads(done.out.splitlines()[-1])
    assert (figures["dtype"], figures["quantizing"]) == ("int8", str(tmp_path / "out"))
    assert figures["largest_gb"] > 0.0


def test_a_missing_model_is_a_usage_error(script: Script, clips: Path) -> None:
    done = script("many_files", "--test-set", clips, "-m", "no-such-model")
    assert done.code == 2
    assert "'no-such-model' is neither" in done.err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("arguments", "message"), [((), "--quick"), (("d", "1", "--fast"), "not --fast")]
)
def test_measure_speed_refuses_other_arguments(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    script = BENCHMARKS.parent / "scripts" / "measure_speed.sh"
    done = subprocess.run(
        ["bash", str(script), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    assert not (tmp_path / "d").exists()
