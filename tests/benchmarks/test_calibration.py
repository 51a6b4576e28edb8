"""Fitting and measuring calibrations."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.checkpoints.calibration import CALIBRATION, SEARCH_CALIBRATION, load_calibration
from auris.checkpoints.hub import bundled_models
from auris.errors import OutputError, UsageError
from auris.evaluation.sets import read_set
from auris.pipeline import AsrPipeline
from calibration import draw, weights_hash
from calibration_fit import (
    BINS,
    CalibrationClip,
    ScoredItem,
    bins,
    ece,
    fit,
    measure,
    transcribe_set,
    two_halves,
)
from tests.benchmarks.conftest import Script
from tests.recordings import write_wav
from tests.tiny_models import ctc_config, write_tiny

pytest.importorskip("jiwer")


def clips_of(count: int, seed: int = 0) -> list[CalibrationClip]:
    """Clips whose words are right with probability p² where the model says p."""
    rng = np.random.default_rng(seed)
    clips = []
    for number in range(count):
        words = []
        for raw in rng.uniform(0.05, 0.95, 5):
            odds = math.log(raw / (1 - raw))
            words.append(ScoredItem((odds, odds, 0.0, 0.0), raw, bool(rng.random() < raw**2)))
        speech = number % 4 > 0
        tokens = tuple(ScoredItem(word.features[:3], word.raw, word.right) for word in words)
        silence = ((-5.0 if speech else 3.0, 0.0, 0.0), True)
        clips.append(
            CalibrationClip(f"set/{seed}_{number}", speech, tuple(words), tokens, (silence,), 1.0)
        )
    return clips


def test_a_fit_corrects_overconfidence() -> None:
    fitting, held = two_halves(clips_of(1200))
    found = measure(fit(fitting), held)
    assert found["raw_ece"] > 0.12
    assert found["ece"] < 0.05
    assert found["token_ece"] < 0.05
    assert sum(count for _, _, count in found["bins"]) == found["words"]
    silence = found["silence"]
    assert silence["suppressed_right_words"] == 0
    assert silence["silent_words_left"] == 0 < silence["silent_words"]


def test_a_fit_of_separable_data_terminates() -> None:
    calibration = fit(clips_of(300))
    assert all(abs(weight) < 100 for weight in calibration.silence.weights)
    assert abs(calibration.silence.bias) < 100
    assert calibration.silence((3.0, 0.0, 0.0)) > 0.9
    assert calibration.silence((-5.0, 0.0, 0.0)) < 0.1


def test_recognized_speech_keeps_its_words() -> None:
    """The threshold is above every clip of the half that has a correct word."""
    clips = clips_of(300)
    odd = CalibrationClip("odd", True, clips[1].words, (), (((3.0, 0.0, 0.0), True),), 1.0)
    right = ScoredItem((0.0,) * 4, 0.5, True)
    odd = CalibrationClip(odd.name, True, (right,), (), odd.silence, 1.0)
    calibration = fit([*clips, odd])
    assert calibration.silence_threshold >= calibration.silence((3.0, 0.0, 0.0))
    assert measure(calibration, [odd])["silence"]["suppressed_words"] == 0


@pytest.mark.parametrize("speech", [True, False])
def test_too_little_data_is_refused(speech: bool) -> None:
    clips = [clip for clip in clips_of(50) if clip.speech is speech]
    with pytest.raises(UsageError, match="with and without speech"):
        fit(clips)


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_the_halves_are_disjoint_and_independent_of_the_order(seed: int) -> None:
    clips = clips_of(40, seed)
    one, other = two_halves(clips)
    assert {c.name for c in one} | {c.name for c in other} == {c.name for c in clips}
    assert not {c.name for c in one} & {c.name for c in other}
    again, _ = two_halves(reversed(clips))
    assert {c.name for c in again} == {c.name for c in one}


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_calibration_error_is_between_0_and_1(pairs: list[tuple[float, bool]]) -> None:
    chances = [chance for chance, _ in pairs]
    shares = [float(right) for _, right in pairs]
    error = ece(chances, shares)
    assert error is not None
    assert 0.0 <= error <= 1.0
    table = bins(chances, shares)
    assert len(table) == BINS
    assert sum(count for _, _, count in table) == len(pairs)
    # At least the difference of the overall means.
    assert error >= abs(np.mean(chances) - np.mean(shares)) - 1e-9


def test_calibration_errors_of_known_data() -> None:
    assert ece([], []) is None
    assert ece([0.75] * 4, [1, 1, 1, 0]) == 0.0
    assert ece([1.0, 1.0, 0.05, 0.05], [1, 0, 0, 0]) == pytest.approx(0.275)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "ctc", config=ctc_config(), seed=7)


@pytest.fixture
def sets(tmp_path: Path, model: Path) -> dict[str, Path]:
    """Clips with the words that the model writes of them, or others, and clips without."""
    pipeline = AsrPipeline.from_pretrained(model)
    manifests = {}
    for name, first in (("speech", 0), ("hush", 50)):
        rows = [("wav", "text")]
        for number in range(first, first + 16):
            path = write_wav(tmp_path / f"{name}{number}.wav", 2.5, number)
            said = pipeline.transcribe(str(path)).text if number % 2 else "something else"
            rows.append((path.name, said if name == "speech" else ""))
        manifests[name] = tmp_path / f"{name}.csv"
        with manifests[name].open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return manifests


def test_the_script_writes_a_calibration_that_is_used(
    script: Script, model: Path, sets: dict[str, Path], tmp_path: Path
) -> None:
    given = ["--test-set", sets["speech"], "--test-set", sets["hush"]]
    plot = tmp_path / "plots" / "it.png"
    checked = ("--check-set", sets["speech"], "--write", "--plot", plot)
    done = script("calibration", "-m", model, *given, *checked)
    assert (done.code, done.err) == (0, "")
    *table, last = done.out.splitlines()
    assert any("held out, all" in line for line in table)
    summary = json.loads(last)
    assert set(summary["checked"]) == {str(sets["speech"])}
    assert 0 < summary["fitted_clips"] < 32
    assert summary["held_out"]["clips"] == 32 - summary["fitted_clips"]
    assert plot.read_bytes()[:4] == b"\x89PNG"
    calibration = load_calibration(model)
    assert calibration is not None
    assert calibration.measured["weights"] == weights_hash(model)
    clip = next(iter(read_set(sets["speech"])))
    with_it = AsrPipeline.from_pretrained(model).transcribe(str(clip))
    (model / CALIBRATION).unlink()
    without = AsrPipeline.from_pretrained(model).transcribe(str(clip))
    assert with_it.calibrated
    assert not without.calibrated
    assert with_it.to_dict()["calibrated"] is True
    assert with_it.segments[0].tokens == without.segments[0].tokens
    assert with_it.segments[0].token_confidences != without.segments[0].token_confidences


def test_unreadable_files_are_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound")
    clips, failed = transcribe_set(
        AsrPipeline.from_pretrained(model), "it", {tmp_path / "a.wav": "what was said"}
    )
    assert clips == []
    assert list(failed) == [str(tmp_path / "a.wav")]


def test_unwritable_outputs(tmp_path: Path) -> None:
    found = measure(fit(clips_of(100)), clips_of(100, 1))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="plot"):
        draw(found, "it", tmp_path / "file" / "it.png")


@pytest.mark.parametrize("file", [CALIBRATION, SEARCH_CALIBRATION])
@pytest.mark.parametrize("name", ["tiny", "tiny-ctc"])
def test_bundled_models_are_calibrated(name: str, file: str) -> None:
    """With new weights, `benchmarks/calibration.py --write` has to be run again."""
    directory = bundled_models()[name]
    calibration = load_calibration(directory, file)
    assert calibration is not None
    assert calibration.measured["weights"] == weights_hash(directory)
    assert calibration.measured["held_out"]["ece"] <= 0.05
    assert calibration.measured["held_out"]["silence"]["suppressed_right_words"] <= 1
