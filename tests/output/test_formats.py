"""Transcripts in every format, read back by decoders of ffmpeg where they exist."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris.output.formats import CUE_FORMATS, SINGLE_FILES, WRITERS
from auris.output.subtitles import CueStyle, cues
from auris.types import Segment, Transcript

STYLE = CueStyle()


def transcript(text: str) -> Transcript:
    return Transcript(text, "English", (), 0.5, "stop", 1.0)


def spoken(*texts: str, each: float = 10.0) -> Transcript:
    """A transcript with a segment for each text."""
    segments = tuple(
        Segment(each * n, each * (n + 1), text, "English", (n,), (-0.5,), "stop")
        for n, text in enumerate(texts)
    )
    return Transcript(" ".join(texts), "English", segments, 0.5, "stop", each * len(texts))


def decoded(content: str, form: str) -> list[tuple[float, float, str]]:
    """Start and length in seconds, and the displayed text, as ffmpeg reads them."""
    shown = []
    with av.open(io.BytesIO(content.encode("utf-8", "backslashreplace")), format=form) as file:
        for packet in file.demux(subtitles=0):
            for subtitle in packet.decode():
                # ASS, as the decoders write it: commands in braces, escaped where they are text.
                ass = subtitle.ass.decode().split(",", 8)[8].replace("\\{{}", "\0")
                text = re.sub(r"\{[^}]*\}", "", ass).replace("\\N", "\n").replace("\0", "{")
                text = text.replace("\\\u2060", "\\")
                base = packet.time_base
                shown.append((float(packet.pts * base), float(packet.duration * base), text))
    return shown


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "\n"), ("hello", "hello\n"), ("one\ntwo\r\nthree", "one two three\n"), ("好", "好\n")],
)
def test_text_is_one_line(text: str, line: str) -> None:
    assert WRITERS["txt"](transcript(text), "a.wav") == line


@pytest.mark.parametrize("text", ["", 'say "hi"\n', "你好 \u2028 é", "\x00"])
def test_json_is_one_line_and_round_trips(text: str) -> None:
    line = WRITERS["json"](transcript(text), "dir/a.wav")
    assert line.count("\n") == 1
    assert line.endswith("}\n")
    content = json.loads(line)
    assert content.pop("file") == "dir/a.wav"
    assert content == transcript(text).to_dict()


def test_jsonl_has_a_line_for_each_segment() -> None:
    said = spoken("one\n", "two")
    lines = [json.loads(line) for line in WRITERS["jsonl"](said, "a.wav", STYLE).splitlines()]
    assert [line.pop("file") for line in lines] == ["a.wav", "a.wav"]
    assert lines == [segment.to_dict() for segment in said.segments]


def test_tsv_is_a_table_of_segments() -> None:
    assert WRITERS["tsv"](spoken("a\tb\nc", "d"), "a.wav", STYLE) == (
        "start\tend\ttext\n0\t10000\ta b c\n10000\t20000\td\n"
    )


def test_srt() -> None:
    assert WRITERS["srt"](spoken("Hello there.", "Good bye."), "a.wav", STYLE) == (
        "1\n00:00:00,000 --> 00:00:10,000\nHello there.\n\n"
        "2\n00:00:10,000 --> 00:00:20,000\nGood bye.\n"
    )


def test_vtt() -> None:
    assert WRITERS["vtt"](spoken("a < b & c --> d", each=3725.5), "a.wav", STYLE) == (
        "WEBVTT\n\n00:00:00.000 --> 01:02:05.500\na &lt; b &amp; c --&gt; d\n"
    )


def test_lrc() -> None:
    said = spoken("One. Two [00:01.00] <x>.", each=75.0)
    assert WRITERS["lrc"](said, "a.wav", STYLE) == (
        "[00:00.00]One.\n[00:14.28]Two (00:01.00) ‹x›.\n[01:15.00]\n"
    )
    assert WRITERS["lrc"](spoken("long", each=6000.5), "a.wav", STYLE).endswith("[100:00.50]\n")


def test_lyrics_end_with_an_empty_line() -> None:
    first, last = spoken("a", "b").segments[0], spoken("", "", "b").segments[2]
    said = Transcript("a b", None, (first, last), None, "stop", 30.0)
    assert WRITERS["lrc"](said, "", STYLE) == ("[00:00.00]a\n[00:10.00]\n[00:20.00]b\n[00:30.00]\n")


@pytest.mark.parametrize(
    ("form", "content"),
    [("txt", "\n"), ("jsonl", ""), ("srt", ""), ("vtt", "WEBVTT\n"), ("lrc", "")],
)
def test_transcripts_without_text(form: str, content: str) -> None:
    assert WRITERS[form](transcript(""), "a.wav", STYLE) == content


def conversation() -> Transcript:
    """Two speakers, of whom one begins with two segments, and a silent chunk."""
    said = spoken("Hello.", "It is me.", "Oh & <hi>!", "", each=10.0)
    names = ("Al\tice", "Al\tice", "B<o>b", "B<o>b")
    segments = tuple(
        replace(segment, speaker=name) for segment, name in zip(said.segments, names, strict=True)
    )
    return replace(said, segments=segments)


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("txt", "Al ice: Hello. It is me.\nB<o>b: Oh & <hi>!\n"),
        (
            "tsv",
            "start\tend\ttext\tspeaker\n0\t10000\tHello.\tAl ice\n10000\t20000\tIt is me.\tAl ice\n"
            "20000\t30000\tOh & <hi>!\tB<o>b\n30000\t40000\t\tB<o>b\n",
        ),
        (
            "srt",
            "1\n00:00:00,000 --> 00:00:10,000\nAl ice: Hello.\n\n"
            "2\n00:00:10,000 --> 00:00:20,000\nAl ice: It is me.\n\n"
            "3\n00:00:20,000 --> 00:00:30,000\nB‹o>b: Oh & ‹hi>!\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:10.000\n<v Al ice>Hello.\n\n"
            "00:00:10.000 --> 00:00:20.000\n<v Al ice>It is me.\n\n"
            "00:00:20.000 --> 00:00:30.000\n<v B&lt;o&gt;b>Oh &amp; &lt;hi&gt;!\n",
        ),
        (
            "lrc",
            "[00:00.00]Al ice: Hello.\n[00:10.00]Al ice: It is me.\n"
            "[00:20.00]B‹o›b: Oh & ‹hi›!\n[00:30.00]\n",
        ),
    ],
)
def test_speakers(form: str, content: str) -> None:
    assert WRITERS[form](conversation(), "", STYLE) == content


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_speakers_in_json(form: str) -> None:
    content = [json.loads(line) for line in WRITERS[form](conversation(), "", STYLE).splitlines()]
    segments = content[0]["segments"] if form == "json" else content
    assert [segment["speaker"] for segment in segments] == ["Al\tice"] * 2 + ["B<o>b"] * 2


TRAPS = [
    "a --> b",
    "---> ->",
    "<b>bold</b> <i",
    "{\\an8}up",
    "back\\Nslash",
    "1",
    "[00:01.00]x",
    "WEBVTT",
    "NOTE x",
    "00:00:01,000 --> 00:00:02,000",
    "a\n\n2\nb",
    "&amp; &lt;",
    "5 < 6 > 4",
]


@pytest.mark.parametrize("text", TRAPS)
@pytest.mark.parametrize("form", ["srt", "vtt", "lrc"])
def test_markup_in_text_is_escaped(form: str, text: str) -> None:
    content = WRITERS[form](spoken("before.", text, "after."), "a.wav", STYLE)
    demuxer = {"srt": "srt", "vtt": "webvtt", "lrc": "lrc"}[form]
    shown = [text for _, _, text in decoded(content, demuxer) if text]
    assert len(shown) == 3
    alike = str.maketrans("‹›∖[]{}", "<>\\()()")
    flat = "".join(shown[1].split()).translate(alike)
    wanted = re.sub(r"-{2,}>", "->", "".join(text.split())) if form == "srt" else text
    assert flat == "".join(wanted.split()).translate(alike)


def times(content: str, form: str) -> list[tuple[int, int]]:
    """Starts and lengths in milliseconds, as ffmpeg reads them."""
    return [(round(1000 * at), round(1000 * length)) for at, length, _ in decoded(content, form)]


# Letters of any script; what breaks lines, marks and controls among them.
TEXTS = st.lists(
    st.text(
        st.one_of(
            st.sampled_from("ab <>&-{}[]\\.,:0123456789\n\t好한\u2028"),
            st.characters(exclude_categories=("Cs", "Co", "Cn")),
        ),
        max_size=60,
    ),
    max_size=4,
)


@given(TEXTS)
def test_srt_round_trips(texts: list[str]) -> None:
    said = spoken(*texts)
    content = WRITERS["srt"](said, "", STYLE)
    blocks = content.removesuffix("\n").split("\n\n") if content else []
    wanted = cues(said, STYLE)
    assert len(blocks) == len(wanted)
    for number, (block, cue) in enumerate(zip(blocks, wanted, strict=True), 1):
        index, span, *lines = block.split("\n")
        assert index == str(number)
        assert re.fullmatch(r"(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})", span)
        assert len(lines) == len(cue.lines)
        assert all(lines)
        assert "-->" not in "".join(lines)
    assert not content or times(content, "srt") == [(c.start, c.end - c.start) for c in wanted]


@given(TEXTS)
def test_vtt_round_trips(texts: list[str]) -> None:
    said = spoken(*texts)
    content = WRITERS["vtt"](said, "", STYLE)
    wanted = cues(said, STYLE)
    assert times(content, "webvtt") == [(cue.start, cue.end - cue.start) for cue in wanted]
    heading, *blocks = content.removesuffix("\n").split("\n\n")
    assert heading == "WEBVTT"
    for block, cue in zip(blocks, wanted, strict=True):
        _, *lines = block.split("\n")
        unescaped = [
            line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for line in lines
        ]
        assert unescaped == list(cue.lines)


@given(TEXTS)
def test_lrc_and_tsv_round_trip(texts: list[str]) -> None:
    said = spoken(*texts)
    lines = WRITERS["lrc"](said, "", STYLE).split("\n")[:-1]
    assert all(re.fullmatch(r"\[\d\d:\d\d\.\d\d\][^\[\]<>]*", line) for line in lines)
    assert lines == sorted(lines, key=lambda line: line[:10])
    heading, *table = WRITERS["tsv"](said, "", STYLE).split("\n")[:-1]
    assert heading == "start\tend\ttext"
    assert [len(row.split("\t")) for row in table] == [3] * len(texts)


def test_formats_by_suffix() -> None:
    assert list(WRITERS) == ["txt", "json", "jsonl", "srt", "vtt", "tsv", "lrc", "rttm"]
    assert set(WRITERS) >= SINGLE_FILES | CUE_FORMATS
