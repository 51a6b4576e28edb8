"""`Transcribe`: columns in, columns out."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auris import AsrPipeline
from auris.errors import UsageError
from auris.scale import Transcribe
from auris.scale.storage import Storage
from tests.audio.media import wav
from tests.tiny_models import tone_speech

SAMPLES = tone_speech(1.0, 3)


def column(*cells: Any) -> np.ndarray:
    """A column of any cells."""
    array = np.empty(len(cells), object)
    for number, cell in enumerate(cells):
        array[number] = cell
    return array


def test_every_kind_of_cell_gives_the_same_text(
    ctc: AsrPipeline, ctc_directory: Path, address: str, tmp_path: Path
) -> None:
    data = wav(SAMPLES[None])
    Storage(address).put("a.wav", data)
    (tmp_path / "a.wav").write_bytes(data)
    cells = (
        str(tmp_path / "a.wav"),
        f"{address}/a.wav",
        data,
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(tmp_path / "a.wav")},
        {"array": (SAMPLES * 32767).round().astype(np.int16), "sampling_rate": 16_000},
    )
    transcribe = Transcribe(str(ctc_directory), load={"device": "cpu"}, batch_size=4)
    found = transcribe({"audio": column(*cells), "id": np.arange(len(cells))})
    expected = ctc.transcribe(data, batch_size=1)
    assert set(found["text"]) == {expected.text}
    assert set(found["language"]) == {expected.language or ""}
    assert found["audio_seconds"].tolist() == [1.0] * len(cells)
    assert found["error"].tolist() == [""] * len(cells)
    assert found["id"].tolist() == list(range(len(cells)))
    assert json.loads(found["segments"][0])[0]["end"] == 1.0


def test_a_bad_cell_costs_one_row(ctc_directory: Path) -> None:
    cells = column(b"no sound", 7, wav(SAMPLES[None]), "/missing.wav")
    transcribe = Transcribe(str(ctc_directory), prefix="asr_", audio_column="sound")
    found = transcribe({"sound": cells, "text": column("a", "b", "c", "d")})
    errors = found["asr_error"].tolist()
    assert [bool(error) for error in errors] == [True, True, False, True]
    assert "its type is int" in errors[1]
    assert np.isnan(found["asr_confidence"][0])
    assert found["text"].tolist() == ["a", "b", "c", "d"]


def test_only_the_settings_are_sent_to_other_processes(ctc_directory: Path) -> None:
    transcribe = Transcribe(str(ctc_directory), chunk_seconds=5.0)
    transcribe({"audio": column(wav(SAMPLES[None]))})
    data = pickle.dumps(transcribe)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert again.options == {"chunk_seconds": 5.0}
    assert again({"audio": column(wav(SAMPLES[None]))})["error"].tolist() == [""]


def test_wrong_columns_are_refused(ctc_directory: Path) -> None:
    transcribe = Transcribe(str(ctc_directory))
    with pytest.raises(UsageError, match="'audio' is none of sound"):
        transcribe({"sound": column(b"")})
    with pytest.raises(UsageError, match="the batch has text and error: choose a prefix"):
        transcribe({"audio": column(b""), "text": column(""), "error": column("")})
