"""Manifests: which clips are used, and that skipped ones are reported."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from auris.errors import TrainingError
from auris.text.prompt import CONTROL_TOKENS
from auris.training import data
from auris.training.data import DataReport, TrainingClip, load_clips, split_clips, with_units
from auris.training.manifests import read_manifest
from auris.training.units import ALPHABET, train_units, train_vocabulary
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
    report = load_clips(read_manifest(path), longest=2.0)
    clips = report.clips
    assert [clip.text for clip in clips] == ["a b c", "abc", "abc"]
    assert [clip.speaker for clip in clips] == ["set/ann", "set/bob", ""]
    assert report.speakers == {"set/ann", "set/bob"}
    names = {
        reason: [Path(name).name for name in skipped] for reason, skipped in report.skipped.items()
    }
    assert names == {
        data.MISSING: ["absent.wav", "'abc' without audio"],
        data.UNREADABLE: ["broken.wav"],
        data.SILENT: ["quiet.wav"],
        data.EMPTY_TEXT: ["good.wav"],
        data.UNSPOKEN: ["good.wav"],
        data.TOO_LONG: ["long.wav"],
    }
    text = report.describe(names=1)
    assert "3 clips" in text
    assert f"skipped 2: {data.MISSING}: {tmp_path / 'absent.wav'}, ..." in text


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("wav,text\na.wav,one, two\n", "line 2"),
        ('wav,text\na.wav,"one\nb.wav,two\n', "readable file"),
    ],
)
def test_ambiguous_lines_are_refused(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(TrainingError, match=named):
        read_manifest(tmp_path / "bad.csv")


@pytest.mark.parametrize("header", [["wav", "words"], ["text"], []])
def test_a_manifest_without_its_columns_is_refused(manifest: Manifest, header: list[str]) -> None:
    with pytest.raises(TrainingError, match="columns wav and text"):
        read_manifest(manifest("bad.csv", [header]))


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="readable file in UTF-8"):
        read_manifest(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    "content",
    ["wav,text\n".encode("utf-16"), b"wav,text\na,\xff\n", b"wav,text\na," + b"x" * 200_000],
)
def test_a_binary_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(TrainingError, match="readable file in UTF-8"):
        read_manifest(tmp_path / "bad.csv")


def test_invalid_file_names_count_as_missing(tmp_path: Path, manifest: Manifest) -> None:
    rows = [["wav", "text"], ["a" * 5000, "one"], ["a\0b", "one"]]
    report = load_clips(read_manifest(manifest("s.csv", rows)), 9)
    assert report.clips == []
    assert [len(names) for names in report.skipped.values()] == [2]


def test_stored_samples_are_read_back_exactly(tmp_path: Path, manifest: Manifest) -> None:
    write_wav(tmp_path / "a.wav", tones("ab"))
    rows = read_manifest(manifest("s.csv", [["wav", "text"], ["a.wav", "ab"]]))
    clips = load_clips(rows, 9).clips
    assert np.abs(clips[0].samples / 32768.0 - tones("ab")).max() < 1e-4


def test_clips_that_cannot_be_aligned_are_counted_and_named() -> None:
    letters = train_units(["a b c d"], len(ALPHABET))
    short = tone_clip("ab")  # 0.5 s: 7 frames.
    fits = short.__class__("fits", short.samples, "abcdab")  # The word mark and six letters.
    repeats = short.__class__("repeats", short.samples, "abccab")  # The repeat needs a blank.
    assert fits.tokens == 7
    loaded = DataReport([fits, repeats], skipped={data.SILENT: ["x"]})
    report = with_units(loaded, letters.encode)
    assert [clip.name for clip in report.clips] == ["fits"]
    assert report.skipped == {data.SILENT: ["x"], data.UNALIGNABLE: ["repeats"]}
    assert report.units == 7


def test_a_clip_under_half_a_second_has_seven_frames() -> None:
    assert tone_clip("a").tokens == 7


def test_units_encode_and_decode_every_word() -> None:
    tokenizer = train_units(["turn on the light", "turn off the lights", "it's on"] * 3, 40)
    assert tokenizer.size == 40
    for text in ("turn on the light", "zebra's quiz", "a"):
        ids = tokenizer.encode(text)
        assert max(ids) < 40
        assert tokenizer.decode(ids).strip() == text
    assert len(tokenizer.encode("the light")) < len("the light")


def test_texts_too_few_for_the_units_are_refused() -> None:
    with pytest.raises(TrainingError, match="yield 500 units"):
        train_units(["one two"], 500)
    with pytest.raises(TrainingError, match="28 characters"):
        train_units(["one two"], 10)


@pytest.mark.skipif(not SPEECH.exists(), reason="needs the recorded speech")
def test_recorded_digits_are_all_usable() -> None:
    rows = read_manifest(SPEECH / "fsdd_dev.csv")
    report = load_clips(rows[::10], longest=10)
    clips = report.clips
    assert len(clips) == 25
    assert not report.skipped
    assert {clip.text for clip in clips} <= DIGITS


def test_a_vocabulary_has_qwen3_asrs_control_tokens_and_cheap_prompts() -> None:
    texts = ["turn on the light", "what is the time", "it's late", "play the song again"] * 9
    tokenizer = train_vocabulary(texts, 300)
    assert tokenizer.size == 300 + len(CONTROL_TOKENS)
    assert [tokenizer.id(token) for token in CONTROL_TOKENS] == list(range(300, tokenizer.size))
    assert tokenizer.cuts_like_qwen2
    for word in ("system", "user", "assistant", "language"):
        assert len(tokenizer.encode(word)) <= 3, word
    assert tokenizer.decode(tokenizer.encode("zebra's quiz é")) == "zebra's quiz é"
    with pytest.raises(TrainingError, match="256 bytes"):
        train_vocabulary(texts, 100)


def jsonl(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "set.jsonl"
    text = "\n".join(
        line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines
    )
    path.write_text(text, encoding="utf-8")
    return path


def test_jsonl_lines_have_language_and_prompt(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        {"audio": "a.wav", "text": "Grüß Gott!", "language": "German", "prompt": "Gott"},
        "",
        {"audio": "b.wav", "text": "language French<asr_text>Ça va ?"},
        {"audio": "/c.wav", "text": "H\u2028m", "language": None},
    )
    rows = read_manifest(path)
    assert [(row.language, row.text, row.prompt) for row in rows] == [
        ("German", "Grüß Gott!", "Gott"),
        ("French", "Ça va ?", ""),
        ("None", "H\u2028m", ""),
    ]
    assert [row.wav for row in rows] == [tmp_path / "a.wav", tmp_path / "b.wav", Path("/c.wav")]


@pytest.mark.parametrize(
    "line",
    [
        '{"audio": "a.wav", "text": "\\ud800"}',
        "{",
        "[1]",
        '{"audio": "a.wav"}',
        '{"audio": 5, "text": "x"}',
        "null",
        '"x"',
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = jsonl(tmp_path, {"audio": "a.wav", "text": "x"}, line)
    with pytest.raises(TrainingError, match="line 2"):
        read_manifest(path)


def test_texts_are_not_changed(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tones("abc"))
    rows = read_manifest(jsonl(tmp_path, {"audio": "a.wav", "text": " Room 5, please. "}))
    clips = load_clips(rows, 9.0, "written").clips
    assert clips[0].text == "Room 5, please."
    assert not load_clips(rows, 9.0).clips


def test_truncated_clips_are_counted_and_named(tmp_path: Path, manifest: Manifest) -> None:
    write_wav(tmp_path / "long.wav", tones("abcdabcd"))
    write_wav(tmp_path / "short.wav", tones("abcd"))
    path = manifest("s.csv", [["wav", "text"], ["long.wav", "ab"], ["short.wav", "ab"]])
    report = load_clips(read_manifest(path), 9.0, cut_seconds=1.5)
    clips = report.clips
    assert [clip.seconds for clip in clips] == [1.5, 1.0]
    assert "cut 1 to max_mel_length" in report.describe()
    assert "long.wav" in report.describe()
    report = with_units(report, lambda text: [1])
    assert "long.wav" in report.describe()


def test_languages_have_the_names_of_qwen3_asr(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tones("abc"))
    lines = [
        {"audio": "a.wav", "text": "abc", "language": said}
        for said in ("de", "german", "German", "Klingon", "None", "English<asr_text>")
    ]
    report = load_clips(read_manifest(jsonl(tmp_path, *lines)), 9.0)
    clips = report.clips
    assert [clip.language for clip in clips] == ["German", "German", "German", "None"]
    assert len(report.skipped[data.NO_LANGUAGE]) == 2
    assert "skipped 2" in report.describe(names=None)


def test_a_csv_without_languages_has_none(tmp_path: Path, manifest: Manifest) -> None:
    write_wav(tmp_path / "a.wav", tones("abc"))
    path = manifest("s.csv", [["wav", "text"], ["a.wav", "guten tag"]])
    report = load_clips(read_manifest(path), 9.0, "written")
    clips = report.clips
    assert clips[0].language == "None"
    assert "1 clips name no language" in report.describe()
    assert "1 clips name no language" in with_units(report, lambda text: [1]).describe()
    report = load_clips(read_manifest(path, "German"), 9.0, "written")
    clips = report.clips
    assert clips[0].language == "German"
    assert "name no language" not in report.describe()
    report = load_clips(read_manifest(path), 9.0, replies=False)
    assert "name no language" not in report.describe()


def test_the_language_of_a_row_is_used(tmp_path: Path, manifest: Manifest) -> None:
    path = manifest("s.csv", [["wav", "text", "language"], ["a.wav", "hello", "en"]])
    assert read_manifest(path, "German")[0].language == "en"


def test_paths_relative_to_the_working_directory(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("data/audio/wav", "here"):
        (tmp_path / folder).mkdir(parents=True)
    write_wav(tmp_path / "data/audio/wav/000000.wav", tones("abc"))
    path = manifest("data/audio/asr.csv", [["wav", "text"], ["data/audio/wav/000000.wav", "abc"]])
    monkeypatch.chdir(tmp_path)
    assert [clip.text for clip in load_clips(read_manifest(path), 9.0).clips] == ["abc"]
    # A recording next to the manifest takes precedence.
    (tmp_path / "here" / "000000.wav").touch()
    monkeypatch.chdir(tmp_path / "here")
    beside = manifest("data/audio/wav/asr.csv", [["wav", "text"], ["000000.wav", "abc"]])
    assert read_manifest(beside)[0].wav == tmp_path / "data/audio/wav/000000.wav"


@pytest.mark.parametrize("share", [1e-9, 0.3, 0.999999])
def test_a_split_has_clips_on_both_sides(share: float) -> None:
    clips = [tone_clip(text) for text in ("ab", "ba", "cd", "dc")]
    again = TrainingClip("another path", clips[0].samples, "ab")
    trained, scored = split_clips([*clips, again], share, seed=1)
    assert trained
    assert scored
    sides = [{clip.samples.tobytes() for clip in side} for side in (trained, scored)]
    assert not sides[0] & sides[1]  # The recording with two names is in one of the sets.
    assert len(sides[0] | sides[1]) == 4


def test_one_recording_is_not_split() -> None:
    clips = [tone_clip("ab")] * 2
    assert split_clips(clips, 0.5, seed=1) == (clips, [])
    assert split_clips([], 0.5, seed=1) == ([], [])


def test_little_text_gives_a_smaller_vocabulary_where_allowed() -> None:
    assert train_units(["one two"], 384, exactly=False).size < 384
    tokenizer = train_vocabulary(["one two"], 768, exactly=False)
    assert tokenizer.size < 768
    assert max(tokenizer.id(token) for token in CONTROL_TOKENS) == tokenizer.size - 1
    with pytest.raises(TrainingError, match="have to yield 384 units"):
        train_units(["one two"], 384)
