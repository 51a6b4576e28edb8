"""`auris batch`: folders and lists, and resuming after interruptions."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from auris.audio.listing import recordings_in
from tests.audio.media import wav
from tests.cli.command import PROGRAM, Auris
from tests.tiny_models import ctc_config, tone_speech, write_tiny

KILLS = int(os.environ.get("AURIS_TEST_KILLS", "2"))


def contents(path: Path) -> dict[str, dict[str, Any]]:
    """Results by name, without times."""
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert len({line["file"] for line in lines}) == len(lines)
    for line in lines:
        line.pop("timings", None)
    return {line["file"]: line for line in lines}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty short recordings in two folders, one file that is not audio and one that is
    damaged."""
    root = tmp_path / "in"
    (root / "more").mkdir(parents=True)
    for n in range(20):
        place = root / "more" if n % 2 else root
        seconds = 0.5 + n % 4
        (place / f"clip{n:02d}.wav").write_bytes(wav(tone_speech(seconds, n)[None]))
    (root / "broken.wav").write_text("no sound")
    (root / "notes.txt").write_text("no recording")
    return root


def test_a_folder(auris: Auris, folder: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    done = auris("batch", "--input-dir", folder, "--output", out, "-m", models / "ctc")
    assert done.code == 1
    assert "1 files without the suffix" in done.err
    assert "20 of 21 recordings are transcribed" in done.err
    assert "auris: broken.wav: " in done.err
    found = contents(out)
    assert len(found) == 21
    assert set(found["broken.wav"]) == {"file", "error", "kind"}
    again = auris("batch", "--input-dir", folder, "--output", out, "-m", models / "ctc")
    assert again.code == 1
    assert contents(out) == found
    (folder / "broken.wav").write_bytes((folder / "clip00.wav").read_bytes())
    call = ("batch", "--input-dir", folder, "--output", out, "-m", models / "ctc", "--retry")
    assert auris(*call).code == 0
    assert contents(out)["broken.wav"]["text"] == found["clip00.wav"]["text"]


def test_a_list(auris: Auris, folder: Path, models: Path, tmp_path: Path) -> None:
    names = [str(folder / "clip00.wav"), str(folder / "more" / "clip01.wav")]
    (tmp_path / "list.txt").write_text("\n".join([*names, "", names[0]]))
    out = tmp_path / "results.jsonl"
    call = ("batch", "--files", tmp_path / "list.txt", "--output", out, "-m", models / "ctc")
    assert auris(*call).code == 0
    assert list(contents(out)) == names
    other = auris(*call, "--chunk-seconds", 5)
    assert other.code == 2
    assert "began with chunk_seconds 30.0 instead of 5.0" in other.err


def test_the_same_names_in_another_folder_are_other_recordings(
    auris: Auris, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, place in enumerate(("first", "second")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.wav").write_bytes(wav(tone_speech(1.0, n)[None]))
    out, names = tmp_path / "folder.jsonl", tmp_path / "names.txt"
    call = ("batch", "-m", models / "ctc", "--output")
    assert auris(*call, out, "--input-dir", tmp_path / "first").code == 0
    other = auris(*call, out, "--input-dir", tmp_path / "second")
    assert other.code == 2
    assert f"input 'folder {tmp_path / 'first'}' instead of 'folder {tmp_path}" in other.err
    # The same folder by another path is resumed; a results file without its input is not.
    monkeypatch.chdir(tmp_path)
    assert auris(*call, out, "--input-dir", "second/../first").code == 0
    head, *rest = out.read_text().splitlines(keepends=True)
    run = json.loads(head)
    assert run["auris_batch"].pop("input")
    out.write_text("".join([json.dumps(run) + "\n", *rest]))
    assert "began with input not given" in auris(*call, out, "--input-dir", "first").err
    # Names of a list are relative to the working directory.
    names.write_text("a.wav\n")
    listed = tmp_path / "list.jsonl"
    monkeypatch.chdir(tmp_path / "first")
    assert auris(*call, listed, "--files", names).code == 0
    monkeypatch.chdir(tmp_path / "second")
    assert auris(*call, listed, "--files", names).code == 2
    names.write_text(f"{tmp_path / 'first' / 'a.wav'}\nhttps://host.example/a.wav\n")
    absolute = tmp_path / "absolute.jsonl"
    assert auris(*call, absolute, "--files", names).code == 1
    monkeypatch.chdir(tmp_path)
    assert auris(*call, absolute, "--files", names).code == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_in_a_folder_does_not_block(
    auris: Auris, folder: Path, models: Path, tmp_path: Path
) -> None:
    os.mkfifo(folder / "aaa.wav")
    out, listed = tmp_path / "results.jsonl", tmp_path / "listed.jsonl"
    call = ("batch", "-m", models / "ctc", "--output")
    outcomes = []
    # Opening the pipe would block for ever; a daemon thread does not block the tests.
    run = threading.Thread(
        target=lambda: outcomes.append(auris(*call, out, "--input-dir", folder)), daemon=True
    )
    run.start()
    run.join(60)
    assert [done.code for done in outcomes] == [1]
    found = contents(out)
    assert len(found) == 22
    assert "is not a regular file" in found["aaa.wav"]["error"]
    assert found["aaa.wav"]["kind"] == "UnreadableAudio"
    (tmp_path / "list.txt").write_text(f"/dev/zero\n{'x' * 5000}\n{folder / 'clip00.wav'}\n")
    done = auris(*call, listed, "--files", tmp_path / "list.txt")
    assert "/dev/zero: A recording of a folder or a list has to be a file" in done.err
    assert "1 of 3 recordings" in done.err


def test_missing_or_empty_input(auris: Auris, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    (tmp_path / "empty").mkdir()
    (tmp_path / "list").write_text("\n \n")
    for call, said in (
        ((), "neither is given"),
        (("--input-dir", tmp_path, "--files", "x"), "both are given"),
        (("--input-dir", tmp_path / "empty"), "The input has no recordings"),
        (("--files", tmp_path / "list"), "The input has no recordings"),
        (("--files", tmp_path / "absent"), "No such file"),
        (("--input-dir", tmp_path / "absent"), "is none"),
    ):
        done = auris("batch", *call, "--output", out)
        assert done.code == 2
        assert said in done.err
    assert not out.exists()


@pytest.mark.no_cover
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_killed_batch_is_resumed(
    auris: Auris, folder: Path, models: Path, tmp_path: Path, workers: str
) -> None:
    for n in range(20, 50):
        (folder / f"clip{n}.wav").write_bytes(wav(tone_speech(1.0, n)[None]))
    model = ("-m", str(models / "qwen"), "--chunk-seconds", "1")
    unbroken, out = tmp_path / "unbroken.jsonl", tmp_path / "results.jsonl"
    auris("batch", "--input-dir", folder, "--output", unbroken, *model)
    call = [*PROGRAM, "batch", "--input-dir", str(folder), "--output", str(out), *model]
    call += ["--workers", workers]
    rng = random.Random(1)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(KILLS):
        process = subprocess.Popen(call, env=env, stderr=subprocess.DEVNULL)
        before = out.stat().st_size if out.exists() else 0
        while process.poll() is None and (not out.exists() or out.stat().st_size <= before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the batch was over before it was killed"
    assert auris(*call[len(PROGRAM) :]).code == 1
    # Rounding depends on the batch of a chunk; texts do not.
    ours, whole = contents(out), contents(unbroken)
    assert {name: line.get("text") for name, line in ours.items()} == {
        name: line.get("text") for name, line in whole.items()
    }


def test_results_do_not_depend_on_workers(
    auris: Auris, folder: Path, models: Path, tmp_path: Path
) -> None:
    call = ("batch", "--input-dir", folder, "-m", models / "ctc", "--chunk-seconds", "1")
    inline, ahead = tmp_path / "inline.jsonl", tmp_path / "ahead.jsonl"
    assert auris(*call, "--output", inline).code == 1
    assert auris(*call, "--output", ahead, "--workers", 2).code == 1
    assert contents(ahead) == contents(inline)
    assert ahead.read_text().splitlines()[0] == inline.read_text().splitlines()[0]


def test_one_output_file_for_each_recording(
    auris: Auris, folder: Path, models: Path, tmp_path: Path
) -> None:
    out, beside = tmp_path / "results.jsonl", tmp_path / "files"
    call = ("batch", "--input-dir", folder, "--output", out, "-m", models / "ctc")
    done = auris(*call, "-f", "txt,srt", "--output-dir", beside, "--vad", "--languages", "en")
    assert done.code == 1
    found = contents(out)
    for name, line in found.items():
        place = beside / name.removesuffix(".wav")
        if "error" in line:
            assert not place.with_suffix(".txt").exists()
        else:
            assert place.with_suffix(".txt").read_text() == line["text"] + "\n"
            assert place.with_suffix(".srt").exists()
    assert not list(beside.rglob("*.part"))
    other = auris(*call, "--vad", "--languages", "en")
    assert other.code == 2
    assert "formats ['srt', 'txt'] instead of not given" in other.err


@pytest.mark.parametrize("given", [("-f", "srt"), ("--output-dir", "x"), ("-f", "nonsense")])
def test_output_files_need_a_folder_and_a_format(
    auris: Auris, folder: Path, tmp_path: Path, given: tuple[str, ...]
) -> None:
    done = auris("batch", "--input-dir", folder, "--output", tmp_path / "out", *given)
    assert done.code == 2
    assert not (tmp_path / "out").exists()


def test_two_recordings_with_one_name(auris: Auris, folder: Path, tmp_path: Path) -> None:
    (folder / "clip00.flac").write_bytes(b"")
    beside = ("-f", "txt", "--output-dir", tmp_path / "files")
    done = auris("batch", "--input-dir", folder, "--output", tmp_path / "out", *beside)
    assert done.code == 2
    assert "'clip00.flac' and 'clip00.wav' have the same" in done.err


def test_a_batch_is_not_resumed_with_another_dtype_or_model(
    auris: Auris, folder: Path, tmp_path: Path
) -> None:
    out, float_out = tmp_path / "results.jsonl", tmp_path / "float.jsonl"
    (tmp_path / "one").mkdir()
    shutil.copy(folder / "clip00.wav", tmp_path / "one" / "a.wav")
    call = ("batch", "--input-dir", tmp_path / "one", "--output", float_out, "-m", "tiny")
    assert auris(*call, "--dtype", "float32").code == 0
    packed = auris(*call, "--dtype", "int8")
    assert packed.code == 2
    assert "began with dtype 'float32' instead of 'int8'" in packed.err
    model = tmp_path / "model"
    write_tiny(model, config=ctc_config())
    call = ("batch", "--input-dir", folder / "more", "--output", out, "-m", model)
    assert auris(*call).code == 0
    before = out.read_text()
    shutil.rmtree(model)
    write_tiny(model, config=ctc_config(), seed=5)
    other = auris(*call)
    assert other.code == 2
    assert "began with model_digest '" in other.err
    assert out.read_text() == before


def test_a_json_array(auris: Auris, folder: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    call = ("batch", "--input-dir", folder, "--output", out, "-m", models / "ctc")
    assert auris(*call).code == 1
    found = json.loads(out.read_text())
    names = [one["file"] for one in found]
    assert len(names) == 21
    assert names == recordings_in(folder).names
    assert "error" in found[names.index("broken.wav")]
    # A killed run has only the journal and is resumed.
    journal = tmp_path / "results.json.journal"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:10]))
    out.unlink()
    assert auris(*call).code == 1
    again = json.loads(out.read_text())
    assert [one["file"] for one in again] == names
    assert [one.get("text") for one in again] == [one.get("text") for one in found]


def test_options_of_the_batch_command(
    auris: Auris, folder: Path, models: Path, tmp_path: Path
) -> None:
    out, beside = tmp_path / "results.jsonl", tmp_path / "files"
    call = ("batch", "--input-dir", folder / "more", "--output", out, "-m", models / "qwen")
    options = ("--start", 0.25, "--end", 1.25, "--channels", "split", "--clean", "punctuation")
    words = ("--word-timestamps", "--aligner", models / "ctc", "--max-new-tokens", 5)
    files = ("-f", "srt", "-o", beside, "--max-line-width", 20)
    done = auris(*call, *options, *words, *files)
    assert done.code == 0
    for line in contents(out).values():
        assert line["audio_seconds"] <= 1.0
        (segment,) = line["segments"]
        assert segment["start"] == 0.25
        assert segment["speaker"] == "channel 1"
        assert segment["truncated"] is True
        assert "words" in segment
    for wrong, said in (
        (("--end", 1, "--duration", 1), "both are given"),
        (("--start", 2, "--end", 1), "they are 1 and 2"),
        (("--aligner", models / "ctc"), "add --word-timestamps"),
        (("--max-line-width", 20), "can be used with"),
    ):
        refused = auris(*call, *wrong)
        assert refused.code == 2
        assert said in refused.err


def test_ctrl_c_keeps_finished_results(folder: Path, models: Path, tmp_path: Path) -> None:
    for n in range(20, 200):
        (folder / f"clip{n}.wav").write_bytes(wav(tone_speech(3.0, n)[None]))
    out = tmp_path / "results.json"
    journal = tmp_path / "results.json.journal"
    call = [*PROGRAM, "batch", "--input-dir", str(folder), "--output", str(out)]
    process = subprocess.Popen(
        [*call, "-m", str(models / "qwen"), "--chunk-seconds", "1"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "AURIS_DEVICE": "cpu"},
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and (not journal.exists() or journal.stat().st_size < 5000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in err.decode()
    assert "Traceback" not in err.decode()
    found = json.loads(out.read_text())
    assert 0 < len(found) < 201
    assert all(one.get("finish_reason") != "cancelled" for one in found)
