"""`auris listen`: standard input, microphones, and ends of streams."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from auris import Diarizer, Segment
from auris.cli.listen import CORRECTED, UpdateWriter, write_text
from auris.recognition.scheduler import joined_transcript
from auris.streaming.speakers import SpeakerText
from tests.audio.media import wav
from tests.cli.command import PROGRAM, Auris, is_one_sentence
from tests.cli.microphone import Port
from tests.diarization.voices import diarizer
from tests.tiny_models import tone_speech

RATE = 16_000


def pcm(seconds: float, seed: int = 0) -> bytes:
    return (tone_speech(seconds, seed) * 32767).astype("<i2").tobytes()


@pytest.fixture
def ctc(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    monkeypatch.setenv("AURIS_MODEL", str(models / "ctc"))


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets standard input."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    return put


@pytest.mark.usefixtures("ctc")
def test_raw_samples_have_the_text_of_the_file(
    auris: Auris, standard_input: Any, tmp_path: Path
) -> None:
    standard_input(pcm(2.0))
    raw = auris("listen", "-", "--rate", RATE)
    recording = tmp_path / "clip.wav"
    recording.write_bytes(wav(np.frombuffer(pcm(2.0), "<i2")[None] / np.float32(32768)))
    standard_input(recording.read_bytes())
    assert auris("listen", "-") == raw
    whole = auris("transcribe", recording, "--chunk-seconds", 3)
    assert (raw.code, raw.err) == (0, "")
    assert raw.out.split() == whole.out.split()


def test_every_update_is_a_json_line(auris: Auris, standard_input: Any) -> None:
    standard_input(pcm(1.2))
    done = auris("listen", "-", "--rate", RATE, "-f", "json", "--step-seconds", 0.4)
    updates = [json.loads(line) for line in done.out.splitlines()]
    assert [update["final"] for update in updates] == [False, False, False, True]
    assert [update["seconds"] for update in updates] == [0.4, 0.8, 1.2, 1.2]
    assert {update["chunk"] for update in updates} == {0}
    assert updates[-1]["end"] == 1.2


@pytest.mark.usefixtures("ctc")
def test_half_a_sample_at_the_end_has_a_warning(auris: Auris, standard_input: Any) -> None:
    standard_input(pcm(1.0) + b"x")
    done = auris("listen", "-", "--rate", RATE)
    assert (done.code, "half a sample" in done.err) == (0, True)


@pytest.mark.usefixtures("ctc")
@pytest.mark.parametrize("options", [[], ["--rate", RATE]])
def test_empty_input(auris: Auris, standard_input: Any, options: list) -> None:
    standard_input(b"")
    done = auris("listen", "-", *options)
    assert done.out == ""
    assert done.code == 1
    is_one_sentence(done.err, "tandard input")


@pytest.mark.usefixtures("ctc")
def test_a_wrong_or_missing_rate_is_an_error(auris: Auris, standard_input: Any) -> None:
    standard_input(wav(tone_speech(1.0)[None]))
    done = auris("listen", "-", "--rate", RATE)
    assert done.code == 2
    is_one_sentence(done.err, "leave --rate out")
    standard_input(pcm(1.0))
    done = auris("listen", "-")
    assert done.code == 1
    is_one_sentence(done.err, "give --rate")


def test_languages_can_be_restricted(auris: Auris, standard_input: Any, models: Path) -> None:
    standard_input(pcm(1.2))
    given = ("-m", models / "qwen", "--languages", "de,fr", "-f", "json")
    done = auris("listen", "-", "--rate", RATE, *given)
    assert json.loads(done.out.splitlines()[-1])["language"] in ("German", "French", None)
    assert auris("listen", "-", *given, "-l", "de").code == 2


@pytest.mark.usefixtures("ctc")
def test_text_before_damaged_audio_is_written(auris: Auris, standard_input: Any) -> None:
    """Standard input can end in the middle of a word and of a file."""
    standard_input(wav(tone_speech(6.0)[None])[:100_000])
    done = auris("listen", "-", "-f", "json")
    assert done.code == 1
    assert json.loads(done.out.splitlines()[-1])["final"]
    is_one_sentence(done.err, "can be read")
    assert "duration" not in done.err


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["clip.wav"], "auris transcribe"),
        (["-", "--device-in", "1"], "--device-in"),
        (["-", "--rate", "5"], "sample rate"),
        (["-", "--step-seconds", "0"], "--step-seconds"),
        (["-", "--settle-seconds", "-1"], "--settle-seconds"),
        (["-", "--chunk-seconds", "0"], "--chunk-seconds"),
        (["-", "--speakers", "2"], "add --diarize"),
        (["-", "--max-speakers", "2"], "add --diarize"),
    ],
)
def test_usage_errors(auris: Auris, standard_input: Any, options: list[str], rule: str) -> None:
    standard_input(pcm(1.0))
    done = auris("listen", *options)
    assert done.code != 0
    is_one_sentence(done.err, rule)


def test_a_terminal_replaces_partial_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    for final, settled, partial in [
        (False, "what was said", " last"),
        (False, "", "what was said last"),
        (False, "你好世界你好世界", ""),
        (True, "a b", ""),
    ]:
        update: Any = SimpleNamespace(
            final=final,
            segment=SimpleNamespace(text=settled + partial),
            settled=settled,
            partial=partial,
            speakers=None,
        )
        write_text(update, terminal=True)
    shown = capsys.readouterr().out.split("\r\x1b[K")[1:]
    gray, reset = "\x1b[90m", "\x1b[0m"
    assert shown == [
        f"s said {gray}last{reset}",
        f"{gray}s said last{reset}",
        "界你好世界",
        "a b\n",
    ]


def test_ctrl_c_ends_the_stream_and_writes_the_rest(models: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "listen", "-", "--rate", str(RATE), "-f", "json", "-m", str(models / "ctc")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "AURIS_DEVICE": "cpu"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pcm(0.7))
    process.stdin.flush()
    first = process.stdout.readline()
    time.sleep(0.2)  # It waits for more input now.
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    last = json.loads((first + rest).splitlines()[-1])
    assert (last["final"], last["end"]) == (True, 0.7)


@pytest.mark.usefixtures("ctc")
def test_a_microphone_is_transcribed_until_ctrl_c(
    auris: Auris, port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    done = auris("listen", "-f", "json")
    assert (done.code, done.err) == (0, "")
    last = json.loads(done.out.splitlines()[-1])
    assert (last["final"], last["end"]) == (True, 1.6)
    assert (port.opened["device"], port.opened["samplerate"]) == (1, 8000)
    assert "overflow" in caplog.text


@pytest.mark.parametrize("wanted", ["2", "Headset"])
@pytest.mark.usefixtures("ctc")
def test_a_microphone_can_be_chosen(auris: Auris, port: Port, wanted: str) -> None:
    assert auris("listen", "--device-in", wanted, "--rate", RATE).code == 0
    assert (port.opened["device"], port.opened["samplerate"]) == (2, RATE)


def test_microphones_are_listed(auris: Auris, port: Port) -> None:
    done = auris("listen", "--list-devices")
    assert done.out == "1\tdesk microphone\t8000 Hz*\n2\theadset microphone\t8000 Hz\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device-in", "microphone"], "means 2 of 1: desk microphone"),
        (["--device-in", "0"], "means 0"),
        (["--device-in", "telephone"], "means 0"),
        (["--rate", "96000"], "Invalid sample rate"),
    ],
)
@pytest.mark.usefixtures("ctc", "port")
def test_unknown_microphones(auris: Auris, options: list[str], message: str) -> None:
    done = auris("listen", *options)
    assert done.code == 1
    is_one_sentence(done.err, message)


@pytest.mark.usefixtures("ctc")
def test_a_machine_without_a_microphone(auris: Auris, port: Port) -> None:
    port.names = ["speaker"]
    done = auris("listen")
    assert done.code == 1
    is_one_sentence(done.err, "has none", "auris listen -")
    assert auris("listen", "--list-devices").out == ""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("no module"), "auris-asr[mic]"),
        (OSError("PortAudio not found"), "libportaudio"),
    ],
)
@pytest.mark.usefixtures("ctc")
def test_a_machine_without_the_package(
    auris: Auris, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise error

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    done = auris("listen")
    assert done.code == 1
    is_one_sentence(done.err, message)


def test_speakers_begin_each_line(
    auris: Auris, standard_input: Any, monkeypatch: pytest.MonkeyPatch, ctc: None
) -> None:
    monkeypatch.setattr(Diarizer, "from_pretrained", lambda model=None: diarizer())
    talk = np.concatenate([tone_speech(4.0), np.zeros(8000, np.float32), tone_speech(4.0, 1)])
    data = (talk * 32767).astype("<i2").tobytes()
    standard_input(data)
    done = auris("listen", "-", "--rate", RATE, "--diarize")
    assert (done.code, done.err) == (0, "")
    first, *_ = done.out.split("\n\n")
    assert first.strip()
    assert all(line.startswith("speaker ") for line in first.splitlines())
    standard_input(data)
    named = auris("listen", "-", "--rate", RATE, "--diarize", "--speakers", "Ann,Bob", "-f", "json")
    *updates, last = map(json.loads, named.out.splitlines())
    speakers = {part["speaker"] for update in updates for part in update["speakers"]}
    assert speakers <= {"Ann", "Bob"}
    segments = [segment for segment in last["transcript"]["segments"] if segment["text"]]
    assert {segment["speaker"] for segment in segments} <= {"Ann", "Bob"}
    assert last["transcript"]["turns"]


def test_corrected_speakers_are_written_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    def transcript(*speakers: str) -> Any:
        segments = [
            Segment(n, n + 1, f"w{n}", "English", (), (), "stop", speaker=name)
            for n, name in enumerate(speakers)
        ]
        joined = joined_transcript(segments, len(segments), 0.5, ())
        return SimpleNamespace(transcript=lambda: joined)

    output = UpdateWriter(in_json=False, diarized=True)
    for number in range(2):
        part = SpeakerText("speaker 1", f"w{number}", number, number + 1)
        segment = SimpleNamespace(text=part.text)
        update: Any = SimpleNamespace(final=True, segment=segment, speakers=(part,))
        output.show(update)
    live = "speaker 1: w0\nspeaker 1: w1\n"
    assert capsys.readouterr().out == live
    output.end(transcript("speaker 1", "speaker 1"))
    assert capsys.readouterr().out == ""
    output.end(transcript("speaker 1", "speaker 2"))
    assert capsys.readouterr().out == f"\n{CORRECTED}\nspeaker 1: w0\nspeaker 2: w1\n"
