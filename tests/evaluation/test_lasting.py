"""Long recordings beside their clips, and memory over many files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auris import AsrPipeline
from auris.evaluation.lasting import MemoryScore, measure_files, score_long
from tests.cli.command import Auris
from tests.recordings import write_wav

pytest.importorskip("jiwer")
pytest.importorskip("whisper_normalizer")


@pytest.fixture
def clips(tmp_path: Path) -> dict[Path, str]:
    found = {}
    for number in range(3):
        path = write_wav(tmp_path / f"{number}.wav", 1.0 + number)
        path.with_suffix(".txt").write_text("some words here")
        found[path] = "some words here"
    return found


def test_a_row_and_its_clips(ctc_directory: Path, clips: dict[Path, str]) -> None:
    pipeline = AsrPipeline.from_pretrained(ctc_directory, device="cpu")
    first, second = score_long(pipeline, clips, 20.0, [(4.0, False), (6.0, True)])
    # Clips are taken whole, so the row is a little longer than asked.
    assert 20.0 <= first.seconds == second.seconds <= 24.0
    assert first.pieces > 4
    assert first.skipped == 0.0
    assert first.words == second.words
    assert first.words % 3 == 0
    assert first.clips_wer == second.clips_wer
    assert all(level > 0.0 for level in first.resident_gb)


def test_many_files(ctc_directory: Path, clips: dict[Path, str]) -> None:
    pipeline = AsrPipeline.from_pretrained(ctc_directory, device="cpu")
    score = measure_files(pipeline, list(clips), 20)
    assert (score.files, len(score.resident_gb)) == (20, 10)
    assert MemoryScore(20, (1.0, 1.5)).to_dict()["growth"] == 0.5


def test_the_commands(
    capsys: pytest.CaptureFixture[str],
    ctc_directory: Path,
    clips: dict[Path, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("kept")
    auris = Auris(capsys)
    given = ("--test-set", next(iter(clips)).parent, "-m", ctc_directory)
    done = auris("benchmark", "long", *given, "--hours", "0.004", "--chunk-seconds", "5", "--vad")
    assert done.code == 0
    scores = json.loads(done.out.splitlines()[-1])["scores"]
    assert [(score["chunk_seconds"], score["vad"]) for score in scores] == [
        (5.0, False),
        (5.0, True),
    ]
    kept = tmp_path / "row.wav"
    done = auris("benchmark", "long", *given, "--hours", "0.002", "--keep", kept)
    (score,) = json.loads(done.out.splitlines()[-1])["scores"]
    assert (score["chunk_seconds"], score["vad"]) == (30.0, False)
    done = auris("benchmark", "long", *given, "--hours", "0.002", "--vad")
    scores = json.loads(done.out.splitlines()[-1])["scores"]
    assert [(score["chunk_seconds"], score["vad"]) for score in scores] == [
        (30.0, False),
        (30.0, True),
    ]
    assert kept.stat().st_size > 16_000
    done = auris("benchmark", "memory", *given, "--files", "10")
    assert done.code == 0
    assert json.loads(done.out.splitlines()[-1])["files"] == 10
