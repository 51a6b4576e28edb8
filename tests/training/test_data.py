"""Manifests: what is used, what is left out, and that nothing is left out silently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.errors import TrainingError
from auris.training import data
from auris.training.data import DataReport, load_clips, read_manifest, with_units
from auris.training.units import ALPHABET, frames_needed, train_units, unit_ids
from tests.training.tones import tone_clip, tones, write_wav

Manifest = Callable[[str, Sequence[Sequence[str]]], Path]
DIGITS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
SPEECH = Path(__file__).parents[3] / "shared/speech"


def test_broken_rows_are_named_by_reason(tmp_path: Path, manifest: Manifest) -> None:
    write_wav(tmp_path / "good.wav", tones("abc"))
    write_wav(tmp_path / "long.wav", tones("abcd" * 5))
    write_wav(tmp_path / "quiet.wav", tones("abc") * 0.02)
    (tmp_path / "broken.wav").write_text("no audio")
    path = manifest(
        "set.csv",
        [
            ["speaker", "wav", "text", "note"],
            ["ann", "good.wav", "A-b c!", "x"],
            ["bob", "good.wav", "abc", "x"],
            ["unknown", "good.wav", "abc", "x"],
            ["ann", "absent.wav", "abc", ""],
            ["ann", "", "abc", ""],
            ["ann", "broken.wav", "abc", ""],
            ["ann", "quiet.wav", "abc", ""],
            ["ann", "good.wav", " ... ", ""],
            ["ann", "good.wav", "room 5", ""],
            ["ann", "long.wav", "abc", ""],
        ],
    )
    clips, report = load_clips(read_manifest(path), longest=2.0)
    assert [clip.text for clip in clips] == ["a b c", "abc", "abc"]
    assert [clip.speaker for clip in clips] == ["set/ann", "set/bob", ""]
    assert report.speakers == {"set/ann", "set/bob"}
    names = {
        reason: [Path(name).name for name in skipped] for reason, skipped in report.skipped.items()
    }
    assert names == {
        data.MISSING: ["absent.wav", tmp_path.name],
        data.UNREADABLE: ["broken.wav"],
        data.SILENT: ["quiet.wav"],
        data.EMPTY_TEXT: ["good.wav"],
        data.UNSPOKEN: ["good.wav"],
        data.TOO_LONG: ["long.wav"],
    }
    text = report.describe(names=1)
    assert "3 clips" in text
    assert f"skipped 2: {data.MISSING}: {tmp_path / 'absent.wav'}, ..." in text


@pytest.mark.parametrize("header", [["wav", "words"], ["text"], []])
def test_a_manifest_without_its_columns_is_refused(manifest: Manifest, header: list[str]) -> None:
    with pytest.raises(TrainingError, match="columns wav and text"):
        read_manifest(manifest("bad.csv", [header]))


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="readable CSV"):
        read_manifest(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    "content",
    ["wav,text\n".encode("utf-16"), b"wav,text\na,\xff\n", b"wav,text\na," + b"x" * 200_000],
)
def test_a_manifest_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(TrainingError, match="readable CSV file in UTF-8"):
        read_manifest(tmp_path / "bad.csv")


def test_names_that_no_file_can_have_are_missing(tmp_path: Path, manifest: Manifest) -> None:
    rows = [["wav", "text"], ["a" * 5000, "one"], ["a\0b", "one"]]
    clips, report = load_clips(read_manifest(manifest("s.csv", rows)), 9)
    assert clips == []
    assert [len(names) for names in report.skipped.values()] == [2]


def test_samples_survive_storage(tmp_path: Path, manifest: Manifest) -> None:
    write_wav(tmp_path / "a.wav", tones("ab"))
    clips, _ = load_clips(read_manifest(manifest("s.csv", [["wav", "text"], ["a.wav", "ab"]])), 9)
    assert np.abs(clips[0].samples / 32768.0 - tones("ab")).max() < 1e-4


def test_what_cannot_be_aligned_is_counted_and_named() -> None:
    letters = train_units(["a b c d"], len(ALPHABET))
    short = tone_clip("ab")  # 0.5 s: 7 frames.
    fits = short.__class__("fits", short.samples, "abcdab")  # The word mark and six letters.
    repeats = short.__class__("repeats", short.samples, "abccab")  # The repeat needs a blank.
    assert fits.tokens == 7
    kept, report = with_units([fits, repeats], letters, DataReport(skipped={data.SILENT: ["x"]}))
    assert [clip.name for clip in kept] == ["fits"]
    assert report.skipped == {data.SILENT: ["x"], data.UNALIGNABLE: ["repeats"]}
    assert report.units == 7
    assert len(report.lengths) == 1


def test_a_clip_under_half_a_second_has_seven_frames() -> None:
    assert tone_clip("a").tokens == 7


@given(st.lists(st.integers(0, 2), max_size=6))
def test_frames_needed_is_the_shortest_path_that_collapses_to_the_ids(ids: list[int]) -> None:
    blank = 9
    path: list[int] = []
    for unit in ids:
        if path and path[-1] == unit:
            path.append(blank)
        path.append(unit)
    assert frames_needed(ids) == len(path)


def test_units_write_every_word_and_read_it_back() -> None:
    tokenizer = train_units(["turn on the light", "turn off the lights", "it's on"] * 3, 40)
    assert tokenizer.get_vocab_size() == 40
    for text in ("turn on the light", "zebra's quiz", "a"):
        ids = unit_ids(tokenizer, text)
        assert max(ids) < 40
        assert tokenizer.decode(ids) == text
    assert len(unit_ids(tokenizer, "the light")) < len("the light")


def test_texts_too_few_for_the_units_are_refused() -> None:
    with pytest.raises(TrainingError, match="yield 500 units"):
        train_units(["one two"], 500)
    with pytest.raises(TrainingError, match="28 characters"):
        train_units(["one two"], 10)


@pytest.mark.skipif(not SPEECH.exists(), reason="needs the recorded speech")
def test_recorded_digits_are_all_usable() -> None:
    rows = read_manifest(SPEECH / "fsdd_dev.csv")
    clips, report = load_clips(rows[::10], longest=10)
    assert len(clips) == 25
    assert not report.skipped
    assert {clip.text for clip in clips} <= DIGITS
