"""The diarization error rate, against hand counts, brute force and pyannote.metrics."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris import Diarizer
from auris.cli.main import main
from auris.errors import UsageError
from auris.evaluation.diarization import (
    NameErrors,
    Stretch,
    assignment,
    diarization_errors,
    name_errors,
    read_rttm,
    total_errors,
)
from tests.audio.media import encode, pcm
from tests.diarization.voices import diarizer, spoken

A_B = [Stretch(0, 10, "a"), Stretch(10, 20, "b")]


def spans(names: str) -> st.SearchStrategy[list[Stretch]]:
    times = st.integers(0, 60)
    one = st.builds(
        lambda start, length, name: Stretch(start / 4, (start + length) / 4, name),
        times,
        st.integers(1, 20),
        st.sampled_from(names),
    )
    return st.lists(one, max_size=8)


def test_names_do_not_matter() -> None:
    found = [Stretch(0, 10, "2"), Stretch(10, 20, "1")]
    errors = diarization_errors(A_B, found)
    assert (errors.rate, errors.speakers, errors.expected) == (0.0, 2, 2)
    assert errors.total == pytest.approx(19.0)  # Quarters of a second at 0, 10 and 20.


def test_hand_counts() -> None:
    found = [Stretch(0, 12, "1"), Stretch(14, 20, "2"), Stretch(20, 21, "2")]
    errors = diarization_errors(A_B, found, collar=0.0)
    assert errors.total == pytest.approx(20)
    assert errors.confused == pytest.approx(2)
    assert errors.missed == pytest.approx(2)
    assert errors.false_alarm == pytest.approx(1)
    assert errors.rate == pytest.approx(0.25)


def test_overlapping_speech_counts_for_each_speaker() -> None:
    both = [Stretch(0, 10, "a"), Stretch(5, 10, "b")]
    errors = diarization_errors(both, [Stretch(0, 10, "1")], collar=0.0)
    assert (errors.total, errors.missed) == (pytest.approx(15), pytest.approx(5))


def test_nothing() -> None:
    assert diarization_errors([], []).rate == 0.0
    assert diarization_errors([], A_B).rate == float("inf")
    assert diarization_errors(A_B, []).rate == 1.0


@given(st.integers(1, 5), st.integers(1, 5), st.randoms())
def test_the_assignment_is_the_best(rows: int, columns: int, random: object) -> None:
    gains = np.array([[float(random.randint(0, 9)) for _ in range(columns)] for _ in range(rows)])
    pairs = assignment(gains)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    if rows <= columns:
        best = max(
            sum(gains[r, c] for r, c in enumerate(p)) for p in permutations(range(columns), rows)
        )
    else:
        best = max(
            sum(gains[r, c] for c, r in enumerate(p)) for p in permutations(range(rows), columns)
        )
    assert sum(gains[pair] for pair in pairs) == best


@given(spans("abc"), spans("xyz"), st.sampled_from([0.0, 0.25]))
def test_errors_are_those_of_pyannote(
    reference: list[Stretch], found: list[Stretch], collar: float
) -> None:
    core = pytest.importorskip("pyannote.core")
    metrics = pytest.importorskip("pyannote.metrics.diarization")

    def annotation(stretches: list[Stretch]) -> object:
        made = core.Annotation()
        for number, one in enumerate(stretches):
            made[core.Segment(one.start, one.end), number] = one.speaker
        return made.support()

    metric = metrics.DiarizationErrorRate(collar=2 * collar, skip_overlap=False)
    uem = core.Timeline([core.Segment(0, 100)])
    expected = metric.compute_components(annotation(reference), annotation(found), uem=uem)
    errors = diarization_errors(reference, found, collar)
    assert errors.total == pytest.approx(expected["total"], abs=1e-6)
    assert errors.missed == pytest.approx(expected["missed detection"], abs=1e-6)
    assert errors.false_alarm == pytest.approx(expected["false alarm"], abs=1e-6)
    assert errors.confused == pytest.approx(expected["confusion"], abs=1e-6)


def write_rttm(path: Path, stretches: list[Stretch]) -> Path:
    lines = [
        f"SPEAKER {path.stem} 1 {one.start:.3f} {one.end - one.start:.3f} <NA> <NA> {one.speaker}"
        " <NA> <NA>\n"
        for one in stretches
    ]
    path.write_text("".join(lines))
    return path


def test_rttm_is_read(tmp_path: Path) -> None:
    path = write_rttm(tmp_path / "talk.rttm", A_B)
    path.write_text(";; a comment\n\n" + path.read_text())
    assert read_rttm(path) == {"talk": A_B}
    path.write_text("SPEAKER talk 1 x 2\n")
    with pytest.raises(UsageError, match="line 1"):
        read_rttm(path)
    with pytest.raises(UsageError, match="readable RTTM"):
        read_rttm(tmp_path / "missing.rttm")


def test_the_command_scores_given_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rttm(tmp_path / "talk.rttm", A_B)
    (tmp_path / "found").mkdir()
    write_rttm(tmp_path / "found" / "talk.rttm", [Stretch(0, 20, "x")])
    (tmp_path / "set.csv").write_text("wav,rttm\ntalk.wav,talk.rttm\n")
    listing, folder = str(tmp_path / "set.csv"), str(tmp_path / "found")
    with pytest.raises(SystemExit) as done:
        main(["benchmark", "der", "--test-set", listing, "--rttm-dir", folder])
    assert done.value.code == 0
    out = capsys.readouterr().out
    (scores,) = json.loads(out.splitlines()[-1])["sets"]
    assert scores["der"] == pytest.approx(0.5)
    assert scores["right_counts"] == 0
    assert "talk" in out
    (tmp_path / "empty.csv").write_text("wav,rttm\n")
    with pytest.raises(SystemExit):
        main(["benchmark", "der", "--test-set", str(tmp_path / "empty.csv")])
    assert "holds no recordings" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["benchmark", "der", "--test-set", listing, "--rttm-dir", folder, "--known-count"])
    assert "excludes" in capsys.readouterr().err


def test_a_reference_without_speech_has_no_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "talk.rttm").write_text("")
    (tmp_path / "found").mkdir()
    write_rttm(tmp_path / "found" / "talk.rttm", [Stretch(0, 20, "x")])
    (tmp_path / "set.csv").write_text("wav,rttm\ntalk.wav,talk.rttm\n")
    call = ["benchmark", "der", "--test-set", str(tmp_path / "set.csv")]
    with pytest.raises(SystemExit):
        main([*call, "--rttm-dir", str(tmp_path / "found")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["-", "-", "-", "-", "0", "1", "talk"]
    (scores,) = json.loads(lines[-1], parse_constant=pytest.fail)["sets"]
    assert scores["der"] is None


def test_names_of_known_speakers_are_scored() -> None:
    """Ann has her name for 6 of 10 s, Bob is called Cid, and Eve, who is not known, is called Ann
    for 2 s."""
    reference = [Stretch(0, 10, "Ann"), Stretch(20, 30, "Bob"), Stretch(40, 44, "Eve")]
    found = [
        Stretch(0, 6, "Ann"),
        Stretch(6, 10, "speaker 1"),
        Stretch(20, 30, "Cid"),
        Stretch(40, 42, "Ann"),
        Stretch(42, 44, "speaker 2"),
    ]
    names = name_errors(reference, found, {"Ann", "Bob", "Cid"}, collar=0.0)
    assert names == NameErrors(total=20, right=6, wrong=12, speakers=2, named=1, misnamed=1)
    nobody = name_errors([], found, {"Ann"}, collar=0.0)
    assert (nobody.total, nobody.wrong, nobody.misnamed) == (0, 8, 1)
    assert total_errors([names, nobody]).wrong == 20


def test_the_command_names_known_speakers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Diarizer, "from_pretrained", lambda model=None: diarizer())
    (tmp_path / "voices").mkdir()
    for name, samples in {
        "talk.wav": spoken((0, 8), (None, 1), (1, 8)),
        "voices/Bob.wav": spoken((1, 4)),
        "voices/Cid.wav": spoken((2, 4)),
    }.items():
        (tmp_path / name).write_bytes(encode(pcm(samples[None]), 16_000, "wav", "pcm_s16le"))
    write_rttm(tmp_path / "talk.rttm", [Stretch(0, 8, "Ann"), Stretch(9, 17, "Bob")])
    listing = tmp_path / "set.csv"
    listing.write_text("wav,rttm,known\ntalk.wav,talk.rttm,voices\n")
    with pytest.raises(SystemExit) as done:
        main(["benchmark", "der", "--test-set", str(listing), "--known-speakers"])
    assert done.value.code == 0
    (scores,) = json.loads(capsys.readouterr().out.splitlines()[-1])["sets"]
    assert scores["der"] == pytest.approx(0.0, abs=0.01)
    assert (scores["names"]["speakers"], scores["names"]["named"]) == (1, 1)
    assert scores["names"]["wrong"] == pytest.approx(0.0, abs=0.05)
    assert scores["seconds"] == 17.0
    assert scores["processor_seconds"] > 0.0
    listing.write_text("wav,rttm,known\ntalk.wav,talk.rttm,nowhere\n")
    with pytest.raises(SystemExit):
        main(["benchmark", "der", "--test-set", str(listing), "--known-speakers"])
    assert "column known" in capsys.readouterr().err
