"""`auris align`, and `auris transcribe --word-timestamps`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import Auris, is_one_sentence

TEXT = "the quick, brown fox"


@pytest.fixture
def align(auris: Auris, models: Path, monkeypatch: pytest.MonkeyPatch) -> Auris:
    monkeypatch.setenv("AURIS_MODEL", str(models / "ctc"))
    return auris


def test_one_line_for_each_word(align: Auris, recordings: Path) -> None:
    done = align("align", recordings / "b.wav", TEXT)
    assert done.code == 0
    fields = [line.split("\t") for line in done.out.splitlines()]
    assert [word for _, _, word, *_ in fields] == ["the", "quick", "brown", "fox"]
    assert all(0.0 <= float(start) <= float(end) <= 2.0 for start, end, *_ in fields)


def test_json(align: Auris, recordings: Path, tmp_path: Path) -> None:
    file = tmp_path / "said.txt"
    file.write_text(TEXT)
    done = align("align", recordings / "b.wav", "--text-file", file, "-f", "json")
    content = json.loads(done.out)
    assert content["file"] == str(recordings / "b.wav")
    assert [word["text"] for word in content["words"]] == ["the", "quick", "brown", "fox"]
    assert set(content["words"][0]) == {"text", "start", "end", "confidence", "repaired"}


def test_text_without_words(align: Auris, recordings: Path) -> None:
    for text in ("", "?!"):
        done = align("align", recordings / "b.wav", text)
        assert (done.code, done.out, done.err) == (0, "", "auris: the text has no words\n")


def test_bad_input(align: Auris, recordings: Path, tmp_path: Path) -> None:
    audio = recordings / "b.wav"
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    for code, *arguments in (
        (2, audio),
        (2, audio, TEXT, "--text-file", tmp_path / "x.txt"),
        (2, audio, "--text-file", tmp_path / "x.txt"),
        (2, audio, "--text-file", tmp_path / "bytes.txt"),
        (2, audio, TEXT, "-l", "Klingon"),
        (1, audio, TEXT * 20),
        (1, recordings / "zero.wav", TEXT),
        (1, recordings / "text.wav", TEXT),
        (1, recordings / "nan.wav", TEXT),
    ):
        done = align("align", *arguments)
        assert (done.code, done.out) == (code, ""), arguments
        is_one_sentence(done.err)


def test_very_unlikely_words(
    align: Auris, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auris.cli.align.UNLIKELY", 1.0)
    done = align("align", recordings / "silence.wav", "fox fox")
    assert done.code == 0
    assert "probably not what is spoken" in done.err


def test_words_of_a_transcript(align: Auris, recordings: Path) -> None:
    done = align("transcribe", "--word_timestamps", recordings / "b.wav", "-f", "json")
    (segment,) = json.loads(done.out)["segments"]
    assert isinstance(segment["words"], list)
    done = align("transcribe", recordings / "b.wav", "-f", "json")
    assert "words" not in json.loads(done.out)["segments"][0]


def test_words_are_aligned_by_another_model(auris: Auris, recordings: Path, models: Path) -> None:
    few = ("--max-new-tokens", 5, "-f", "json")
    done = auris(
        "transcribe", recordings / "b.wav", "--word-timestamps", "--aligner", models / "ctc", *few
    )
    assert done.code == 0
    assert "words" in json.loads(done.out)["segments"][0]
    done = auris("transcribe", recordings / "b.wav", "--word-timestamps", *few)
    assert done.code == 2
    is_one_sentence(done.err, "CTC head")


def test_conflicting_options(auris: Auris, recordings: Path, models: Path) -> None:
    done = auris("transcribe", recordings / "b.wav", "--word-timestamps")
    assert done.code == 2
    is_one_sentence(done.err, "-f json")
    done = auris("transcribe", recordings / "b.wav", "--word-timestamps", "-f", "tsv")
    assert done.code == 2
    is_one_sentence(done.err, "tsv shows none")
    done = auris("transcribe", recordings / "b.wav", "--aligner", models / "ctc")
    assert done.code == 2
    is_one_sentence(done.err, "--word-timestamps")
