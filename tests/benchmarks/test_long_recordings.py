"""Long recordings are compared with their clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auris import AsrPipeline
from long_recordings import score_long
from tests.benchmarks.conftest import Script
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


def test_a_recording_is_its_clips(ctc_directory: Path, clips: dict[Path, str]) -> None:
    pipeline = AsrPipeline.from_pretrained(ctc_directory, device="cpu")
    first, second = score_long(pipeline, clips, 20.0, [(4.0, False), (6.0, True)])
    # Clips are not cut, so the recording is a little longer than requested.
    assert 20.0 <= first.seconds == second.seconds <= 24.0
    assert first.chunks > 4
    assert first.skipped == 0.0
    assert first.words == second.words
    assert first.words % 3 == 0
    assert first.clips_wer == second.clips_wer
    assert all(level > 0.0 for level in first.resident_gb)


def test_the_script(
    script: Script,
    ctc_directory: Path,
    clips: dict[Path, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    row = tmp_path_factory.mktemp("kept") / "row.wav"
    given = ("--test-set", next(iter(clips)).parent, "-m", ctc_directory)

    def cuts(*options: object) -> list[tuple[float, bool]]:
        done = script("long_recordings", *given, *options)
        assert (done.code, done.err) == (0, "")
        scores = json.loads(done.out.splitlines()[-1])["scores"]
        return [(score["chunk_seconds"], score["vad"]) for score in scores]

    hours = ("--hours", "0.002")
    assert cuts(*hours, "--chunk-seconds", "5", "--vad") == [(5.0, False), (5.0, True)]
    assert cuts(*hours, "--keep", row) == [(30.0, False)]
    assert row.stat().st_size > 16_000
    assert cuts(*hours, "--vad") == [(30.0, False), (30.0, True)]
