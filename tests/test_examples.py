"""The examples of the repository run with the bundled model."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from auris import AsrPipeline
from auris.checkpoints.hub import DEFAULT_MODEL, bundled_models
from auris.cli.main import main
from tests.cli.command import Outcome

EXAMPLES = Path(__file__).parent.parent / "examples"
CLIP = EXAMPLES / "kitchen_fan.flac"
EXAMPLE_TEXT = "switch the kitchen fan off"


@pytest.fixture
def example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Run an example with arguments as the main program, in this process."""

    def run(name: str, *arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        assert isinstance(end.value.code, int)
        return Outcome(end.value.code, *capsys.readouterr())

    return run


def test_the_demo_transcribes_the_clip(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["transcribe", str(CLIP)])
    assert not end.value.code
    assert capsys.readouterr().out == EXAMPLE_TEXT + "\n"


def test_the_python_example(example: Callable[..., Outcome]) -> None:
    done = example("transcribe.py", str(CLIP), "missing.wav")
    assert done.out.endswith(f"  {EXAMPLE_TEXT}\n")
    assert "missing.wav" in done.err
    assert done.code == 1


def test_the_subtitles_example(example: Callable[..., Outcome], tmp_path: Path) -> None:
    clip = tmp_path / "clip.flac"
    clip.write_bytes(CLIP.read_bytes())
    assert example("subtitles.py", str(clip)).code == 0
    number, span, text = (tmp_path / "clip.srt").read_text(encoding="utf-8").splitlines()
    assert (number, text) == ("1", EXAMPLE_TEXT)
    assert span.startswith("00:00:00,000 --> 00:00:0")
    done = example("subtitles.py", "missing.wav")
    assert (done.code, done.out) == (1, "")


def test_the_streaming_example(example: Callable[..., Outcome]) -> None:
    done = example("stream.py", str(CLIP))
    assert done.code == 0
    *before, last = done.out.splitlines()
    assert last == f"   0.00  {EXAMPLE_TEXT}"
    assert len(before) == 3
    assert all(line.startswith("    ...  ") for line in before)
    assert example("stream.py", "missing.wav").code == 1


def test_the_wyoming_example(example: Callable[..., Outcome]) -> None:
    pytest.importorskip("wyoming")
    from tests.wyoming.live import running

    with running(AsrPipeline.from_pretrained("tiny", device="cpu")) as server:
        done = example("wyoming_client.py", server.uri, str(CLIP))
        assert (done.out, done.code) == (f"... {EXAMPLE_TEXT}\n{EXAMPLE_TEXT}\n", 0)
        assert example("wyoming_client.py", server.uri, "missing.wav").code == 1
    assert example("wyoming_client.py", server.uri, str(CLIP)).code == 1


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
