"""The examples of the repository run with the bundled model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from auris.checkpoints.hub import DEFAULT_MODEL, bundled_models
from auris.cli.main import main

EXAMPLES = Path(__file__).parent.parent / "examples"
CLIP = EXAMPLES / "kitchen_fan.flac"
SAID = "switch the kitchen fan off"


def test_the_demo_transcribes_the_clip(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["transcribe", str(CLIP)])
    assert not end.value.code
    assert capsys.readouterr().out == SAID + "\n"


def test_the_python_example() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "transcribe.py"), str(CLIP), "missing.wav"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith(f"  {SAID}\n")
    assert "missing.wav" in done.stderr
    assert done.returncode == 1


def test_the_subtitles_example(tmp_path: Path) -> None:
    clip = tmp_path / "clip.flac"
    clip.write_bytes(CLIP.read_bytes())
    command = [sys.executable, str(EXAMPLES / "subtitles.py")]
    subprocess.run([*command, str(clip)], check=True, capture_output=True)
    number, span, text = (tmp_path / "clip.srt").read_text(encoding="utf-8").splitlines()
    assert (number, text) == ("1", SAID)
    assert span.startswith("00:00:00,000 --> 00:00:0")
    done = subprocess.run([*command, "missing.wav"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


def test_the_streaming_example() -> None:
    command = [sys.executable, str(EXAMPLES / "stream.py")]
    done = subprocess.run([*command, str(CLIP)], check=True, capture_output=True, text=True)
    *before, last = done.stdout.splitlines()
    assert last == f"   0.00  {SAID}"
    assert len(before) == 3
    assert all(line.startswith("    ...  ") for line in before)
    assert subprocess.run([*command, "missing.wav"], capture_output=True).returncode == 1


LARGEST = {"tiny": 40e6, "tiny-ctc": 5e6}
"""Bytes."""


def test_the_default_model_is_bundled() -> None:
    assert DEFAULT_MODEL in bundled_models()


@pytest.mark.parametrize("name", sorted(bundled_models()))
def test_a_bundled_model_is_small_and_has_a_card(name: str) -> None:
    folder = bundled_models()[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) < LARGEST[name]
    card = (folder / "README.md").read_text(encoding="utf-8")
    for source in ("speechocean762", "LibriSpeech", "Common Voice", "fsdd", "CC BY"):
        assert source.lower() in card.lower()
