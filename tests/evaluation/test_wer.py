"""Error rates: counts of words, test sets, and the output of the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auris.cli.main import main
from auris.errors import UsageError
from auris.evaluation.sets import read_set
from auris.evaluation.wer import SetScore, score_set
from auris.pipeline import AsrPipeline
from tests.recordings import write_wav
from tests.tiny_models import ctc_config, write_tiny


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> AsrPipeline:
    folder = tmp_path_factory.mktemp("models") / "ctc"
    return AsrPipeline.from_pretrained(write_tiny(folder, config=ctc_config()), device="cpu")


def score(pipeline: AsrPipeline, clips: dict[Path, str]) -> SetScore:
    return score_set(pipeline, "it", clips)


def test_the_models_own_text_has_no_errors(pipeline: AsrPipeline, tmp_path: Path) -> None:
    clip = write_wav(tmp_path / "a.wav", 3.0)
    said = pipeline.transcribe(clip).text
    result = score(pipeline, {clip: said})
    assert (result.wer, result.cer) == (0.0, 0.0)
    assert (result.clips, result.words) == (1, len(result.worst[0].reference.split()))
    assert result.seconds == pytest.approx(3.0)
    assert set(result.stages) == {"audio", "mel", "encode", "decode"}


def test_rates_are_over_all_words(
    pipeline: AsrPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = (write_wav(tmp_path / f"{name}.wav", 0.6) for name in "abc")
    texts = iter(["one too three four", "", "extra"])
    monkeypatch.setattr(pipeline.recognizer.tokenizer, "decode", lambda ids: next(texts))
    result = score(pipeline, {a: "Alpha, too THREE", b: "gone now", c: ""})
    # "alpha" became "1" (a substitution) with an insertion, two words are gone, one is added.
    assert result.words == 5
    assert result.deletions == 2
    assert result.substitutions + result.insertions == 3
    assert result.wer == pytest.approx(5 / 5)
    assert result.worst[-1].file == str(a)


def test_broken_files_are_named_and_not_scored(pipeline: AsrPipeline, tmp_path: Path) -> None:
    good = write_wav(tmp_path / "a.wav", 0.6)
    (tmp_path / "b.wav").write_bytes(b"no sound")
    result = score(pipeline, {good: "x", tmp_path / "b.wav": "y z"})
    assert result.clips == 1
    assert result.words == 1
    assert list(result.failed) == [str(tmp_path / "b.wav")]


def test_the_spoken_normalizer_does_not_convert_numbers(
    pipeline: AsrPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_wav(tmp_path / "a.wav", 0.6)
    tokenizer = pipeline.recognizer.tokenizer
    monkeypatch.setattr(tokenizer, "decode", lambda ids: "seven two nine")
    spoken = score_set(pipeline, "it", {clip: "Seven, two four"}, normalizer="spoken")
    assert (spoken.words, spoken.substitutions) == (3, 1)
    english = score_set(pipeline, "it", {clip: "Seven, two four"})
    assert (english.words, english.substitutions) == (1, 1)
    with pytest.raises(UsageError, match="english or spoken"):
        score_set(pipeline, "it", {clip: "x"}, normalizer="french")


def test_a_set_without_words_has_no_rate(pipeline: AsrPipeline, tmp_path: Path) -> None:
    result = score(pipeline, {write_wav(tmp_path / "a.wav", 0.6): "  "})
    assert (result.wer, result.cer) == (None, None)


def test_sets_are_read(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 0.1)
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.txt").write_text("nobody spoke")
    (tmp_path / "set.csv").write_text("\ufefftext,wav\nhi,sub/x.flac\n,y.flac\n")
    assert read_set(tmp_path) == {tmp_path / "a.wav": "hello"}
    wanted = {tmp_path / "sub/x.flac": "hi", tmp_path / "y.flac": ""}
    assert read_set(tmp_path / "set.csv") == wanted


def test_recordings_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the CSV takes precedence, as for training manifests."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "set.csv").write_text("wav,text\na.wav,one\nb.wav,two\nc.wav,three\n")
    for name in ("a.wav", "b.wav", "lists/a.wav"):
        write_wav(tmp_path / name, 0.1)
    monkeypatch.chdir(tmp_path)
    assert read_set(tmp_path / "lists" / "set.csv") == {
        tmp_path / "lists" / "a.wav": "one",
        Path("b.wav"): "two",
        tmp_path / "lists" / "c.wav": "three",
    }


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"wav,words\nx,y\n", "no column text"),
        (b"", "no column text or wav"),
        (b"wav,text\n", "holds no recordings"),
        (b"wav,text\n\xff\xfe,x\n", "failed"),
        (None, "No such file"),
    ],
)
def test_invalid_sets_are_refused(tmp_path: Path, content: bytes | None, match: str) -> None:
    path = tmp_path / "set.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=match):
        read_set(path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny(tmp_path / "model", config=ctc_config())
    write_wav(tmp_path / "a.wav", 0.6)
    (tmp_path / "set.csv").write_text("wav,text\na.wav,hello\nmissing.wav,x\n")
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "wer", "-m", str(folder), "--test_set", str(tmp_path / "set.csv")])
    assert end.value.code == 1  # For the clip that is missing.
    out, err = capsys.readouterr()
    summary = json.loads(out.splitlines()[-1])
    assert summary["sets"][0]["words"] == 1
    assert summary["peak_gb"] > 0
    assert "reference 'hello'" in out
    assert "missing.wav" in err


def test_a_folder_in_the_librispeech_layout(tmp_path: Path) -> None:
    folder = tmp_path / "84" / "121123"
    folder.mkdir(parents=True)
    for number in range(2):
        write_wav(folder / f"84-121123-000{number}.flac", 1.0)
    listing = folder / "84-121123.trans.txt"
    listing.write_text("84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT IN LESS\n\n")
    assert read_set(tmp_path) == {
        folder / "84-121123-0000.flac": "GO DO YOU HEAR",
        folder / "84-121123-0001.flac": "BUT IN LESS",
    }
    listing.write_text("84-121123-0002 GONE\n")
    with pytest.raises(UsageError, match="'84-121123-0002', which is not in its folder"):
        read_set(tmp_path)


def test_error_rates_need_the_evaluation_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny(tmp_path / "model", config=ctc_config())
    clips = tmp_path / "clips"
    clips.mkdir()
    write_wav(clips / "a.wav", 1.0)
    (clips / "a.txt").write_text("a word")
    call = ["benchmark", "--model", str(model), "--test-set", str(clips), "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        main(call)
    assert not end.value.code
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["sets"][0]["clips"] == 1
    # A clip that cannot be transcribed is a failure.
    (clips / "b.wav").write_text("no sound")
    (clips / "b.txt").write_text("a word")
    with pytest.raises(SystemExit) as end:
        main(call)
    assert end.value.code == 1
    with pytest.raises(SystemExit) as end:
        main([*call[:3], "load"])
    assert end.value.code == 2
