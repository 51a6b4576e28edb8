"""`auris transcribe`: text and JSON, for one file and many."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from auris.cli.values import read_hotwords
from tests.cli.command import PROGRAM, Auris, is_one_sentence, program

FEW = ("--max-new-tokens", 5)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_text_of_one_file(auris: Auris, recordings: Path) -> None:
    done = auris("transcribe", recordings / "a.wav")
    assert done.code == 0
    assert done.out.count("\n") == 1
    (content,) = lines(auris("transcribe", recordings / "a.wav", "-f", "json").out)
    assert done.out == " ".join(str(content["text"]).splitlines()) + "\n"


def test_json_of_one_file(auris: Auris, recordings: Path) -> None:
    done = auris("transcribe", recordings / "a.wav", "-f", "json", *FEW)
    (content,) = lines(done.out)
    assert content["file"] == str(recordings / "a.wav")
    assert content["audio_seconds"] == 1.0
    assert content["finish_reason"] in ("stop", "length")
    assert set(content["timings"]) == {"audio", "mel", "encode", "prefill", "decode"}
    assert len(content["segments"]) == 1


def test_several_files_in_order_with_their_names(auris: Auris, recordings: Path) -> None:
    files = [recordings / f"{name}.wav" for name in ("long", "a", "b", "silence", "c")]
    for size in (1, 2, 4):
        done = auris("transcribe", *files, "--batch-size", size, "--chunk-seconds", 1, *FEW)
        assert done.code == 1  # For the silent one, which has an empty line.
        assert [line.partition(": ")[0] for line in done.out.splitlines()] == list(map(str, files))


def test_every_batch_size_writes_the_same(auris: Auris, recordings: Path) -> None:
    files = [recordings / f"{name}.wav" for name in ("long", "a", "b", "c")]
    options = ("--chunk-seconds", 1, "-f", "json", *FEW)
    written = []
    for size in (1, 2, 3, 4):
        contents = lines(auris("transcribe", *files, "--batch-size", size, *options).out)
        written.append([(content["file"], content["text"]) for content in contents])
    assert written[1:] == written[:1] * 3


def test_files_may_be_options(auris: Auris, recordings: Path) -> None:
    done = auris(
        "transcribe", recordings / "a.wav", "--audio", recordings / "b.wav", *FEW, "-f", "json"
    )
    assert [content["file"] for content in lines(done.out)] == [
        str(recordings / "a.wav"),
        str(recordings / "b.wav"),
    ]


def test_options_with_underscores(auris: Auris, recordings: Path) -> None:
    dashed = auris("transcribe", recordings / "a.wav", "--output-format", "json", *FEW)
    for options in (
        ("--output_format", "json", "--max_new_tokens", 5),
        ("--output_format=json", "--max_new_tokens=5", "--batch_size=1"),
    ):
        done = auris("transcribe", recordings / "a.wav", *options)
        assert lines(done.out)[0]["text"] == lines(dashed.out)[0]["text"]


def test_values_keep_their_underscores(auris: Auris, recordings: Path, tmp_path: Path) -> None:
    for place, options in enumerate((["--output-dir", "x_y"], ["--output_dir=x_y"])):
        out = tmp_path / str(place)
        out.mkdir()
        options[-1] = options[-1].replace("x_y", str(out / "x_y"))
        assert auris("transcribe", recordings / "a.wav", *options, *FEW).code == 0
        assert (out / "x_y" / "a.txt").exists()


def test_beams_and_hotwords(auris: Auris, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("New York\n\nZoë\n!\n", encoding="utf-8")

    def tokens(*options: object) -> list[object]:
        done = auris("transcribe", recordings / "a.wav", "-l", "en", "-f", "json", *options, *FEW)
        assert done.code == 0, done.err
        return [segment["tokens"] for segment in lines(done.out)[0]["segments"]]

    listed = tokens("--beam-size", 3, "--hotwords", "New York,Zoë, !")
    assert listed == tokens("--beam-size", 3, "--hotwords", tmp_path / "names.txt")
    # Both options reach the search, which refuses them with a temperature.
    for option in (("--beam-size", 3), ("--hotwords", "New York")):
        done = auris("transcribe", recordings / "a.wav", *option, "--temperature", 0.5)
        assert done.code == 2
        is_one_sentence(done.err, "--beam-size and --hotwords", "--temperature is 0.5")


def test_a_list_of_hotwords_may_be_longer_than_the_name_of_a_file() -> None:
    names = [f"name {number}" for number in range(400)]
    assert read_hotwords(", ".join(names)) == names


def test_a_file_of_hotwords_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffZoë\r\nOkonkwo\r\n".encode())
    assert read_hotwords(str(file)) == ["Zoë", "Okonkwo"]


@pytest.mark.parametrize("name", ["missing.txt", "folder/names"])
def test_a_file_of_hotwords_that_cannot_be_read(auris: Auris, recordings: Path, name: str) -> None:
    done = auris("transcribe", recordings / "a.wav", "--hotwords", name)
    assert done.code == 2
    is_one_sentence(done.err, "--hotwords", name)
    assert done.err.count(name) == 1


def test_output_directory(auris: Auris, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "deep"
    files = [recordings / "a.wav", recordings / "b.wav"]
    shown = auris("transcribe", files[0], *FEW)
    done = auris("transcribe", *files, "-o", out, *FEW)
    assert (done.code, done.out) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == ["a.txt", "b.txt"]
    assert (out / "a.txt").read_text(encoding="utf-8") == shown.out
    done = auris("transcribe", *files, "-o", out, "-f", "json", *FEW)
    assert json.loads((out / "b.json").read_text(encoding="utf-8"))["file"] == str(files[1])


def test_unusable_output_directories(
    auris: Auris, recordings: Path, models: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    taken = tmp_path / "taken"
    (taken / "a.txt").mkdir(parents=True)
    for out in (file, file / "below", taken):
        done = auris("transcribe", recordings / "a.wav", "-o", out, "-m", models / "ctc")
        assert done.code == 1
        is_one_sentence(done.err, "--output-dir", str(out))
    done = auris("transcribe", recordings / "a.wav", tmp_path / "a.mp3", "-o", tmp_path / "o")
    assert done.code == 2
    is_one_sentence(done.err, "have the same")


def test_a_span(auris: Auris, recordings: Path) -> None:
    done = auris(
        "transcribe", recordings / "long.wav", "--start", 1.5, "--duration", 2, "-f", "json", *FEW
    )
    (content,) = lines(done.out)
    assert content["audio_seconds"] == 2.0
    assert content["segments"][0]["start"] == 1.5


def test_language_and_context(auris: Auris, recordings: Path) -> None:
    for name in ("de", "German"):
        done = auris("transcribe", recordings / "a.wav", "-l", name, "-f", "json", *FEW)
        assert lines(done.out)[0]["language"] == "German"
    assert auris("transcribe", recordings / "a.wav", "--context", "fox_dog", *FEW).code == 0


def test_a_ctc_model(auris: Auris, recordings: Path, models: Path) -> None:
    done = auris("transcribe", recordings / "a.wav", "-m", models / "ctc", "-f", "json")
    (content,) = lines(done.out)
    assert (done.code, content["finish_reason"]) == (0, "stop")


def test_standard_input(auris: Auris, recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (recordings / "a.wav").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    piped = auris("transcribe", "-", *FEW)
    assert piped.code == 0
    assert piped.out == auris("transcribe", recordings / "a.wav", *FEW).out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    done = auris("transcribe", "-", *FEW)
    assert done.code == 1
    is_one_sentence(done.err, "standard input")


def test_a_truncated_text_is_reported(auris: Auris, recordings: Path) -> None:
    done = auris("transcribe", recordings / "a.wav", "--max-new-tokens", 1)
    assert done.code == 0
    assert done.err == (
        f"auris: {recordings / 'a.wav'}: the text is cut at the token budget; "
        "raise --max-new-tokens\n"
    )


def test_characters_the_terminal_cannot_encode(
    models: Path, recordings: Path, tmp_path: Path
) -> None:
    """File names that are not UTF-8 and terminals with a small character set cause no errors."""
    name = tmp_path / "m\udce4rz é 好 😀.wav"
    try:
        name.write_bytes((recordings / "a.wav").read_bytes())
    except (OSError, UnicodeError):
        pytest.skip("this file system keeps no such names")
    done = program(
        *(
            "transcribe",
            name,
            recordings / "b.wav",
            tmp_path / "m\udcf6.wav",
            "-m",
            models / "qwen",
        ),
        *("--device", "cpu", "--max-new-tokens", 3, "-f", "json"),
        environment={"PYTHONIOENCODING": "ascii"},
    )
    assert done.code == 1
    assert "Traceback" not in done.err
    assert [str(content["file"]) for content in lines(done.out)] == [
        str(name),
        str(recordings / "b.wav"),
    ]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_text_is_on_standard_output_and_progress_on_standard_error(
    models: Path, recordings: Path, tmp_path: Path
) -> None:
    terminal, end = os.openpty()
    arguments = ["transcribe", recordings / "a.wav", "-m", models / "qwen", "--device", "cpu", *FEW]
    with (tmp_path / "out.txt").open("wb") as out:
        environment = {**os.environ, "TERM": "xterm"}
        command = [*PROGRAM, *map(str, arguments)]
        subprocess.run(command, stdout=out, stderr=end, env=environment, check=True)
    os.close(end)
    shown = os.read(terminal, 1 << 16)
    os.close(terminal)
    assert b"0:01 of 0:01" in shown
    assert (tmp_path / "out.txt").read_text(encoding="utf-8").count("\n") == 1


def test_as_a_program(models: Path, recordings: Path) -> None:
    data = (recordings / "a.wav").read_bytes()
    options = ("-m", models / "qwen", "--device", "cpu", "--threads", 1, *FEW)
    done = program("transcribe", "-", recordings / "missing.wav", *options, stdin=data)
    assert done.code == 1
    assert done.out.startswith("-: ")
    assert done.out.count("\n") == 1
    assert done.err.splitlines()[-1].startswith(f"auris: {recordings / 'missing.wav'}: ")
    assert "Traceback" not in done.err
