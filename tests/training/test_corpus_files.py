"""Files of a corpus that is read while a model is trained: damaged ones, and texts in their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auris.errors import TrainingError
from auris.scale.rows import StorageFailures
from auris.training.corpus.plan import read_plan, write_plan
from auris.training.corpus.rows import corpus_rows, corpus_units
from auris.training.corpus.settings import CorpusReading
from auris.training.data import UNREADABLE, ClipForm, load_clip
from auris.training.manifests import UNNAMED
from tests.training.tones import tones, write_wav


def test_a_damaged_parquet_file_among_others_cannot_be_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    write_wav(tmp_path / "good.wav", tones("ab"))
    (tmp_path / "good.txt").write_text("ab")
    units = corpus_units(str(tmp_path))
    rows = (row for unit in units for row in corpus_rows(unit, UNNAMED, StorageFailures()))
    bad, good = (load_clip(row, "spoken", False, False) for row in rows)
    assert bad == UNREADABLE
    assert not isinstance(good, str)
    assert good.text == "ab"


def test_a_manifest_without_texts_is_refused_as_one(tmp_path: Path) -> None:
    (tmp_path / "tones.jsonl").write_text('{"audio": "a.wav"}\n')
    with pytest.raises(TrainingError, match=r"texts audio and text, but line 1 .*text: "):
        list(corpus_units(str(tmp_path / "tones.jsonl")))


@pytest.mark.parametrize(("language", "lower_case"), [("en", False), ("de", True)])
def test_lower_case_of_english_alone_is_that_of_spoken_forms(
    tmp_path: Path, language: str, lower_case: bool
) -> None:
    write_wav(tmp_path / "good.wav", tones("ab"))
    listed = tmp_path / "tones.jsonl"
    row = {"audio": "good.wav", "text": "route 66", "language": language}
    listed.write_text(json.dumps(row) + "\n")
    write_plan(tmp_path / "plan", [str(listed)], CorpusReading())
    plan = read_plan(tmp_path / "plan", [str(listed)])
    assert plan.trained_on(ClipForm("written"), False).lower_case is lower_case


@pytest.mark.parametrize("stated", [False, True])
def test_texts_that_a_source_does_not_state_may_have_capitals(tmp_path: Path, stated: bool) -> None:
    """They lie next to the recordings, and are read with them."""
    write_wav(tmp_path / "good.wav", tones("ab"))
    (tmp_path / "good.txt").write_text("Hello NASA")
    listed = tmp_path / "tones.jsonl"
    listed.write_text('{"audio": "good.wav", "text": "hello nasa"}\n')
    sources = [str(listed if stated else tmp_path / "good.wav")]
    write_plan(tmp_path / "plan", sources, CorpusReading())
    plan = read_plan(tmp_path / "plan", sources)
    assert plan.trained_on(ClipForm("written"), False).lower_case is stated
