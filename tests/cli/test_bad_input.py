"""Invalid input: a one-line error with the rule, the value and the remedy, and an exit code."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from auris.errors import LanguageError, ModelNotFound
from tests.cli.command import Auris, Outcome, is_one_sentence, program

BAD = {
    "missing.wav": "does not exist",
    "empty.wav": "is empty",
    "text.wav": "format",
    "truncated.wav": "of 5.00 seconds",
    "zero.wav": "holds no samples",
    "nan.wav": "has nan at 0.000 s",
}
"""Recordings that cannot be transcribed, and a word of why."""

FEW = ("--max-new-tokens", 3)


@pytest.mark.parametrize(("name", "why"), BAD.items())
@pytest.mark.parametrize("model", ["qwen", "ctc"])
def test_a_bad_recording(
    auris: Auris, recordings: Path, models: Path, model: str, name: str, why: str
) -> None:
    done = auris("transcribe", recordings / name, "-m", models / model)
    message, *written = done.err.splitlines(keepends=True)
    is_one_sentence(message, str(recordings / name), why)
    # The text before the truncation is written.
    assert (done.code, done.out != "", written != []) == (1, *[name == "truncated.wav"] * 2)


def test_a_folder_without_recordings(auris: Auris, recordings: Path) -> None:
    done = auris("transcribe", recordings / "a.wav", recordings / "directory.wav")
    assert (done.code, done.out) == (2, "")
    is_one_sentence(done.err, f"{str(recordings / 'directory.wav')!r} holds no recording")


@pytest.mark.parametrize("size", [1, 3])
def test_bad_recordings_among_good_ones(
    auris: Auris, recordings: Path, tmp_path: Path, size: int
) -> None:
    names = ["a.wav", *BAD, "silence.wav", "b.wav"]
    files = [recordings / name for name in names]
    done = auris("transcribe", *files, "--batch-size", size, *FEW)
    assert done.code == 1
    good = [line.partition(": ")[0] for line in done.out.splitlines()]
    assert good == [str(recordings / name) for name in ("a.wav", "silence.wav", "b.wav")]
    remarks = ("token budget", "silent throughout")
    told = done.err.splitlines(keepends=True)
    bad = [line for line in told if not any(remark in line for remark in remarks)]
    assert len(bad) == len(BAD)
    for line, (name, why) in zip(bad, BAD.items(), strict=True):
        is_one_sentence(line, str(recordings / name), why)
    done = auris("transcribe", *files, "-o", tmp_path, *FEW)
    assert (done.code, done.out) == (1, "")
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "b", "silence"]


@pytest.mark.parametrize("model", ["qwen", "ctc"])
def test_silence_is_written_with_a_warning(
    auris: Auris, recordings: Path, models: Path, model: str
) -> None:
    done = auris("transcribe", recordings / "silence.wav", "-m", models / model)
    assert done.code == 1
    assert done.out.count("\n") == 1
    is_one_sentence(done.err, "silence.wav", "silent throughout")


def failed(done: Outcome, code: int, *parts: str) -> None:
    assert (done.code, done.out) == (code, "")
    is_one_sentence(done.err, *parts)


def test_invalid_model_directories(auris: Auris, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    file = recordings / "a.wav"
    failed(auris("transcribe", file, "-m", recordings), 1, "config.json", str(recordings))
    failed(auris("transcribe", file, "-m", tmp_path), 1, "Qwen3-ASR", "whisper")
    failed(auris("transcribe", file, "-m", file), 2, "a model is a directory")
    failed(auris("transcribe", file, "-m", "no-such-model"), 2, "'no-such-model' is neither")
    failed(auris("transcribe", file, "-m", ""), 2, "'' is neither")
    failed(auris("transcribe", file, "-m", "a\0b"), 2, "'a\\x00b'")
    for command in (
        ("align", file, "text"),
        ("detect-language", file),
        ("listen", "-"),
        ("batch", "--input-dir", recordings, "--output", tmp_path / "results.jsonl"),
        ("benchmark", "wer", "--test-set", tmp_path / "set.csv"),
        ("benchmark", "load", "--runs", 1),
        ("doctor",),
    ):
        (tmp_path / "set.csv").write_text("wav,text\na.wav,words\n")
        failed(auris(*command, "-m", "no-such-model"), 2, "'no-such-model' is neither")


def test_unavailable_devices_and_dtypes(auris: Auris, recordings: Path) -> None:
    file = recordings / "a.wav"
    for name in ("toaster", "meta", ""):
        failed(auris("transcribe", file, "--device", name), 2, repr(name), "metal")
    failed(auris("transcribe", file, "--device", "cuda:99"), 1, "'cuda:99'")
    failed(auris("transcribe", file, "--dtype", "int7"), 2, "'int7'", "float32")


def test_every_command_with_vad_names_a_missing_detector(
    auris: Auris, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auris.audio.activity.silero_file", lambda: None)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(bytes(32_000))))
    file, clips = recordings / "a.wav", tmp_path / "set.csv"
    clips.write_text(f"wav,text\n{file},words\n")
    for command in (
        ("transcribe", file, "--vad"),
        ("batch", "--input-dir", recordings, "--output", tmp_path / "results.jsonl", "--vad"),
        ("listen", "-", "--rate", 16_000, "--vad"),
        ("benchmark", "wer", "--test-set", clips, "--vad"),
        ("serve",),
    ):
        done = auris(*command, "--vad-model", "silero")
        failed(done, 1, "needs the package silero-vad", "auris-asr[vad]")


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("transcribe", "a.wav", "--beam-size", 20), "--beam-size has to be 1 to 16, but it is 20"),
        (
            ("transcribe", "a.wav", "--batch-size", 0),
            "--batch-size has to be 1 or more, but it is 0",
        ),
        (
            ("transcribe", "--max_new_tokens", 0),
            "--max-new-tokens has to be 1 or more, but it is 0",
        ),
        (("transcribe", "--threads", 0), "--threads has to be 1 to 1024, but it is 0"),
        (("serve", "--port", -1), "--port has to be 0 to 65535, but it is -1"),
        (("benchmark", "vad", "--threshold", "nan"), "--threshold has to be 0 to 1, but it is nan"),
    ],
)
def test_numbers_out_of_range(auris: Auris, arguments: tuple[object, ...], wrong: str) -> None:
    failed(auris(*arguments), 2, f"auris: {wrong}: correct it.")


@pytest.mark.parametrize("option", ["--batch-size", "--max-new-tokens"])
def test_batch_sizes_and_budgets_out_of_range(auris: Auris, recordings: Path, option: str) -> None:
    failed(auris("transcribe", recordings / "a.wav", option, 10**13), 2, "from 1 to 1048576")


def test_memory_is_allocated_as_rows_are_needed(auris: Auris, recordings: Path) -> None:
    assert auris("transcribe", recordings / "a.wav", *FEW, "--batch-size", 1 << 20).code == 0


def test_an_output_that_cannot_be_written(auris: Auris, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    done = auris("transcribe", recordings / "a.wav", recordings / "b.wav", "-o", tmp_path, *FEW)
    assert done.code == 1
    assert (tmp_path / "b.txt").read_text()
    said = [line for line in done.err.splitlines(keepends=True) if "token budget" not in line]
    assert len(said) == 1
    is_one_sentence(said[0], str(recordings / "a.wav"), "a.txt")


def test_a_closed_standard_output(
    auris: Auris, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    file = recordings / "a.wav"
    failed(auris("transcribe", file), 1, "Standard output", "--output-dir")
    for command in (("align", file, "words"), ("listen", "-")):
        failed(auris(*command), 1, "Standard output is closed", "send it to a file")


@pytest.mark.parametrize("options", [(), ("--rate", 16_000)])
def test_a_closed_standard_input(
    auris: Auris, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    failed(auris("listen", "-", *options), 1, "Standard input is closed", "pipe audio into it")


def test_a_line_break_in_a_file_name_is_escaped(
    auris: Auris, recordings: Path, tmp_path: Path
) -> None:
    good, bad = tmp_path / "a\nb.wav", tmp_path / "c\r\u2028d.wav"
    good.write_bytes((recordings / "a.wav").read_bytes())
    done = auris("transcribe", "-m", "tiny-ctc", good, bad)
    assert done.out.startswith(f"{tmp_path}/a\\nb.wav: ")
    assert done.out.count("\n") == 1
    is_one_sentence(done.err, "c\\r\\u2028d.wav: ")


def test_unknown_languages(auris: Auris, recordings: Path, models: Path) -> None:
    file = recordings / "a.wav"
    failed(auris("transcribe", file, "--language", "Klingon"), 2, "'Klingon'", "en (English)")
    failed(auris("transcribe", file, "-l", "xx", "-m", models / "ctc"), 2, "'xx'")


@pytest.mark.parametrize(
    "options",
    [
        ("--max-new-tokens", 5),
        ("--temperature", 0.5),
        ("--language", "French"),
    ],
)
def test_unsupported_options_of_a_ctc_model(
    auris: Auris, recordings: Path, models: Path, options: tuple[str, object]
) -> None:
    named = "French" if options[0] == "--language" else options[0]
    file = recordings / "a.wav"
    failed(auris("transcribe", file, "-m", models / "ctc", *options), 2, str(named))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("-f", "srtx"), "'srtx'"),
        (("--output_format", "text"), "'text'"),
        (("--chunk-seconds", 0.1), "1 to 1200 seconds"),
        (("--chunk-seconds", "nan"), "1 to 1200 seconds"),
        (("--start", -1), "start has to be"),
        (("--duration", 0), "duration has to be"),
        (("--temperature", -1), "temperature"),
        (("--seed", -1), "seed"),
    ],
)
def test_invalid_values_are_usage_errors(
    auris: Auris, recordings: Path, options: tuple[str, object], named: str
) -> None:
    failed(auris("transcribe", recordings / "a.wav", *options), 2, named)


def test_no_recording_is_a_usage_error(auris: Auris) -> None:
    failed(auris("transcribe"), 2, "No recording was named", "name a FILE")


@pytest.mark.parametrize(
    "arguments",
    [
        ("transcribe", "a.wav", "--nonsense"),
        ("transcribe", "a.wav", "--batch-size", "many"),
        ("transcribe", "a.wav", "--start", "soon"),
        ("nonsense",),
        ("convert",),
        ("convert", "in"),
        ("convert", "in", "out", "--layout", "keras"),
        ("convert", "in", "out", "--dtype", "int8"),
        ("listen", "-", "-f", "srt"),
        ("align", "a.wav", "text", "-f", "srt"),
        ("pull",),
        ("models", "too-many"),
    ],
)
def test_invalid_command_lines(auris: Auris, arguments: tuple[str, ...]) -> None:
    done = auris(*arguments)
    assert done.code == 2
    assert "Usage:" in done.err
    assert done.out == ""


def test_a_span_outside_the_recording(auris: Auris, recordings: Path) -> None:
    failed(auris("transcribe", recordings / "a.wav", "--start", 99), 1, "start", "99")


def test_debug_shows_the_traceback_of_an_error(auris: Auris, recordings: Path) -> None:
    for arguments in (
        ("--debug", "transcribe", recordings / "a.wav", "-l", "xx"),
        ("transcribe", recordings / "a.wav", "-l", "xx", "--debug"),
    ):
        with pytest.raises(LanguageError):
            auris(*arguments)
    with pytest.raises(ModelNotFound):
        auris("transcribe", recordings / "a.wav", "-m", "none", "--debug")


def test_debug_shows_the_traceback_of_a_recordings_error(auris: Auris, recordings: Path) -> None:
    done = auris("transcribe", recordings / "missing.wav", recordings / "a.wav", "--debug", *FEW)
    assert done.code == 1
    assert "Traceback" in done.err
    assert "UnreadableAudio" in done.err
    assert done.out.startswith(str(recordings / "a.wav"))


def test_arguments_after_two_dashes_are_files(
    auris: Auris, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("--debug", "--a_b"):
        Path(name).write_bytes((recordings / "a.wav").read_bytes())
    done = auris("transcribe", *FEW, "--", "--debug", "--a_b")
    assert done.code == 0
    assert [line.partition(": ")[0] for line in done.out.splitlines()] == ["--debug", "--a_b"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk(models: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    options = ("-m", models / "ctc", "--device", "cpu")
    done = program("transcribe", recordings / "a.wav", *options, stdout="/dev/full")
    failed(done, 1, "No space left on device")
    failed(program("models", stdout="/dev/full"), 1, "No space left on device")


def test_as_a_program(models: Path, recordings: Path) -> None:
    options = ("-m", models / "ctc", "--device", "cpu")
    done = program("transcribe", recordings / "a.wav", *options, "--temperature", 1)
    failed(done, 2, "--temperature")
    done = program("transcribe", recordings / "a.wav", *options, "--temperature", 1, "--debug")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "UnsupportedOption" in done.err


def test_a_missing_recipe_is_a_usage_error(auris: Auris, tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    for kind in ("ctc", "asr"):
        for config in (tmp_path / "absent.json", tmp_path):
            done = auris("train", kind, "--config", config, "--data", tmp_path / "train.csv")
            failed(done, 2, "A recipe has to be a readable JSON file", str(config))


def test_a_run_starts_from_a_model_that_exists(auris: Auris, tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    recipe, manifest = tmp_path / "recipe.json", tmp_path / "train.csv"
    recipe.write_text("{}")
    manifest.write_text("wav,text\n")
    given = ("--config", recipe, "--data", manifest, "--out", tmp_path / "run")
    for kind in ("ctc", "asr"):
        done = auris("train", kind, *given, "--start", "nowhere")
        failed(done, 1, "--start takes", "a bundled model", "'nowhere'")
