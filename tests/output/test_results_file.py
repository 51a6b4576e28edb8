"""Results files: resumed after any interruption, and refused for another run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auris.audio.listing import MEDIA, listed, recordings_in
from auris.errors import AudioError, OutputError, UsageError
from auris.output.results_file import ResultsFile
from auris.recognition.scheduler import Failure
from auris.types import Transcript

RUN = {"model": "tiny", "language": "auto"}
NAMES = [f"{letter}.wav" for letter in "abcdefgh"]


def done(name: str) -> tuple[str, Transcript | Failure]:
    return name, Transcript(f"text of {name}", "English", (), None, "stop", 1.0)


def failed(name: str) -> tuple[str, Transcript | Failure]:
    return name, Failure(AudioError("A rule", "it broke", "mend it"))


def write(path: Path, names: list[str]) -> None:
    with ResultsFile(path, RUN) as results:
        for name in names:
            results.append(*failed(name) if name == "c.wav" else done(name))


@settings(max_examples=40, deadline=None)
@given(kept=st.floats(0, 1))
def test_a_truncated_file_is_resumed_to_the_same_content(
    kept: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bulk") / "results.jsonl"
    write(path, NAMES)
    whole = path.read_bytes()
    path.write_bytes(whole[: round(kept * len(whole))])
    with ResultsFile(path, RUN) as results:
        for name in list(results.missing(NAMES)):
            results.append(*failed(name) if name == "c.wav" else done(name))
        assert list(results.failed) == ["c.wav"]
    assert path.read_bytes() == whole


def test_any_file_name_is_accepted(tmp_path: Path) -> None:
    names = ['quo"te.wav', "new\nline.wav", "é.wav", os.fsdecode(b"\xff.wav"), "\u2028.wav"]
    path = tmp_path / "results.jsonl"
    write(path, names)
    with ResultsFile(path, RUN) as results:
        assert list(results.missing([*names, "x"])) == ["x"]
    assert len(path.read_bytes().splitlines()) == 1 + len(names)


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"x",
        b"[1]",
        b'{"auris_batc": {}}',
        b"no json\n",
        b"[1]\n",
        b"{}\n",
        b'{"auris_batch": 5}\n',
        b'{"file": "a"}\n',
        b"\xff\xfe\n",
    ],
)
def test_other_files_are_refused_and_not_changed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="line 1 of"):
        ResultsFile(path, RUN)
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"{\n", b"5\n", b'{"file": 5}\n', b'{"text": "x"}\n'])
def test_an_invalid_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "results.jsonl"
    write(path, ["a.wav"])
    with open(path, "ab") as file:
        file.write(line)
    with pytest.raises(UsageError, match="line 3 of"):
        ResultsFile(path, RUN)


def test_the_error_names_the_differences_to_another_run(tmp_path: Path) -> None:
    write(tmp_path / "results.jsonl", ["a.wav"])
    with pytest.raises(
        UsageError,
        match="began with language 'auto' instead of 'de' and model 'tiny' instead of 'other'",
    ):
        ResultsFile(tmp_path / "results.jsonl", {"model": "other", "language": "de"})


def test_failures_can_be_retried(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write(path, NAMES)
    with ResultsFile(path, RUN) as results:
        assert results.failed["c.wav"].startswith("A rule, but it broke")
        assert list(results.missing(NAMES)) == []
        results.forget_failures()
        assert list(results.missing(NAMES)) == ["c.wav"]
        results.append(*done("c.wav"))
        results.forget_failures()
    contents = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert sorted(content["file"] for content in contents) == NAMES
    assert not any("error" in content for content in contents)


def test_write_errors_are_reported(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="output has"):
        ResultsFile(tmp_path, RUN)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="output has"):
        ResultsFile(tmp_path / "file" / "results.jsonl", RUN)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device")
def test_a_device_is_not_a_results_file() -> None:
    with pytest.raises(OutputError, match="not a regular file"):
        ResultsFile(Path("/dev/full"), RUN)


def test_a_full_disk_keeps_finished_results(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write(path, NAMES)
    before = path.read_bytes()
    with ResultsFile(path, RUN) as results:
        real = results._file

        class Full:
            """A file on a disk with room for half a line."""

            def write(self, line: bytes) -> None:
                real.write(line[: len(line) // 2])
                raise OSError(28, "No space left on device")

            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

        results._file = Full()
        with pytest.raises(OutputError, match="No space left"):
            results.append(*done("z.wav"))
        assert "z.wav" not in results
    assert path.read_bytes() == before


def test_the_file_is_locked_by_one_process(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsFile(path, RUN) as results:
        results.append(*done("a.wav"))
        with pytest.raises(OutputError, match="another run writes"):
            ResultsFile(path, RUN)
    for _ in range(2):
        with pytest.raises(UsageError, match="model 'tiny' instead of 'other'"):
            ResultsFile(path, {**RUN, "model": "other"})
    with ResultsFile(path, RUN) as results:
        assert list(results.missing(["a.wav", "b.wav"])) == ["b.wav"]


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_symbolic_links_are_followed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"results.{suffix}"
    link = tmp_path / "links" / f"other.{suffix}"
    link.parent.mkdir()
    link.symlink_to(path)
    with ResultsFile(path, RUN) as results:
        results.append(*done("a.wav"))
        with pytest.raises(OutputError, match="another run writes"):
            ResultsFile(link, RUN)
        results.publish(NAMES)
    with ResultsFile(link, RUN) as results:
        assert list(results.missing(["a.wav", "b.wav"])) == ["b.wav"]
        results.append(*done("b.wav"))
        results.publish(NAMES)
    assert link.is_symlink()
    if suffix == "json":
        assert [one["file"] for one in json.loads(path.read_text())] == ["a.wav", "b.wav"]


def test_results_as_a_json_array(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write(path, ["b.wav", "a.wav"])
    assert not path.exists()
    with ResultsFile(path, RUN) as results:
        results.publish(NAMES)
        assert [one["file"] for one in json.loads(path.read_text())] == ["a.wav", "b.wav"]
        results.append(*failed("c.wav"))
        results.publish(NAMES)
        third = json.loads(path.read_text())[2]
        assert set(third) == {"file", "error", "kind"}
        results.forget_failures()
        results.publish(NAMES)
        assert [one["file"] for one in json.loads(path.read_text())] == ["a.wav", "b.wav"]
        results.publish([])
        assert json.loads(path.read_text()) == []
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == [
        *("results.json", "results.json.journal")
    ]


def test_an_existing_json_file_of_another_program_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("[]")
    with pytest.raises(UsageError, match=r"has no file 'results\.json\.journal'"):
        ResultsFile(path, RUN)
    assert path.read_text() == "[]"
    assert not (tmp_path / "results.json.journal").exists()


def test_folders_are_searched_by_suffix(tmp_path: Path) -> None:
    for name in ("b.WAV", "a.mp3", "notes.txt", "deep/er/c.flac", ".hidden/d.wav", ".e.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = recordings_in(tmp_path)
    assert found.names == ["a.mp3", "b.WAV", "deep/er/c.flac"]
    assert found.others == 1
    assert {".wav", ".mp3", ".m4a", ".opus", ".webm"} <= MEDIA
    with pytest.raises(UsageError, match="has to be a folder"):
        recordings_in(tmp_path / "absent")


def test_a_list_uses_each_name_once() -> None:
    assert listed(["a.wav\n", "\n", "b c.wav\r\n", "a.wav\n"]).names == ["a.wav", "b c.wav"]
