"""The benchmark of clips at once runs. No result is compared with a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from auris.errors import UsageError
from concurrency import clips_of
from tests.benchmarks.conftest import Script
from tests.recordings import write_wav
from tests.tiny_models import tone_speech


def test_clips_are_cut_from_a_recording() -> None:
    audio = tone_speech(2.5)
    clips = clips_of(audio, 1.0, 3)
    assert [len(clip) for clip in clips] == [16_000] * 3
    assert np.array_equal(clips[1], audio[16_000:32_000])
    assert np.array_equal(clips[2], clips[0])
    with pytest.raises(UsageError, match=r"it has 2\.5 s"):
        clips_of(audio, 3.0, 1)


@pytest.mark.parametrize(("setting", "step"), [("0", "PyTorch"), ("1", "static step")])
def test_the_script(
    script: Script,
    qwen_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    step: str,
) -> None:
    monkeypatch.setenv("AURIS_STATIC_STEP", setting)
    audio = write_wav(tmp_path / "speech.wav", 2.0, 0)
    options = ["--seconds", "1,2", "--concurrency", "1,3", "--rounds", 1, "--clips-per-row", 1]
    done = script("concurrency", "-m", qwen_directory, "--audio", audio, *options)
    assert (done.code, done.err) == (0, "")
    summary = json.loads(done.out.splitlines()[-1])
    shapes = [(row["seconds"], row["concurrency"]) for row in summary["rows"]]
    assert shapes == [(1.0, 1), (1.0, 3), (2.0, 1), (2.0, 3)]
    assert all(row["audio_per_second"] > 0 for row in summary["rows"])
    assert all(0 < row["tokens"] <= 30 for row in summary["rows"])
    assert step in summary["kernels"]


def test_transformers_decodes_the_same_clips(script: Script, qwen_directory: Path) -> None:
    pytest.importorskip("transformers")
    options = ["--seconds", "1", "--concurrency", "2", "--rounds", 1, "--clips-per-row", 1]
    done = script("concurrency", "-m", qwen_directory, *options, "--peers", "transformers")
    assert done.code == 0
    ours, theirs = json.loads(done.out.splitlines()[-1])["rows"]
    assert (ours["concurrency"], theirs["concurrency"]) == (2, 2)
    assert theirs["name"] == "transformers"
    assert theirs["tokens"] > 0


def test_an_unknown_peer_is_refused(script: Script, qwen_directory: Path) -> None:
    done = script("concurrency", "-m", qwen_directory, "--peers", "whisper")
    assert done.code == 2
    assert "'whisper'" in done.err
