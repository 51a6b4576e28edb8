"""Speakers in the page: their colours, other names, and the files with these names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from auris import Diarizer
from auris.audio.io import load
from auris.server.speakers import letters
from tests.audio.media import encode, pcm
from tests.diarization.voices import MarkEncoder, conversation, diarizer
from tests.page.conftest import OpenPage, downloaded, holds
from tests.page.test_microphone import TEXT
from tests.server.live import EXAMPLE, EXAMPLE_TEXT, Live


@pytest.fixture
def voices(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server tells artificial voices apart."""
    monkeypatch.setattr(live.server, "capabilities", {})
    networks = diarizer(MarkEncoder()).networks
    for model in live.server.models:
        monkeypatch.setattr(model.diarizer, "_loaded", Diarizer(networks, names=letters))


def talk(*voices: int, pause: float = 0.6) -> dict[str, Any]:
    samples = conversation(load(EXAMPLE).samples, *voices, pause=pause)
    data = encode(pcm(samples[None]), 16_000, "flac", "flac")
    return {"name": "talk.flac", "mimeType": "audio/flac", "buffer": data}


def shown_names(page: Any) -> list[str]:
    return list(page.locator("#stable .speaker").all_inner_texts())


@pytest.mark.usefixtures("voices")
def test_speakers_have_colours_and_other_names(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.ready()
        page.select_option("#speakers", "2")
        page.set_input_files("#file", talk(0, 1, 0, 1))
        page.wait_for_selector("#downloads a")
        assert shown_names(page) == ["A", "B", "A", "B"]
        colours = page.eval_on_selector_all(
            "#stable .speaker", "all => all.map(one => getComputedStyle(one).color)"
        )
        assert colours[0] == colours[2] != colours[1] == colours[3]
        field = "#speakers-list li:nth-child(2) input"
        before = downloaded(page)
        assert before["talk.txt"].startswith("A: ")
        page.fill(field, "Ann <b> & {co}")
        page.press(field, "Tab")
        assert shown_names(page) == ["A", "Ann <b> & {co}"] * 2
        after = downloaded(page)
        page.fill(field, " ")
        page.press(field, "Tab")
        assert shown_names(page) == ["A", "B"] * 2
    assert after["talk.txt"] == before["talk.txt"].replace("B: ", "Ann <b> & {co}: ")
    assert after["talk.srt"] == before["talk.srt"].replace("B: ", "Ann ‹b> & (co): ")
    voice = "<v Ann &lt;b&gt; &amp; {co}>"
    assert after["talk.vtt"] == before["talk.vtt"].replace("<v B>", voice)
    assert before["talk.vtt"].count("<v B>") == 2
    names = [segment["speaker"] for segment in json.loads(after["talk.json"])["segments"]]
    assert names == ["A", "Ann <b> & {co}"] * 2


@pytest.mark.usefixtures("voices")
def test_a_long_recording_has_speakers_at_its_end(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.ready()
        page.select_option("#model", "tiny-ctc")
        page.select_option("#speakers", "any")
        page.set_input_files("#file", talk(*[0, 0, 1, 1] * 2, pause=6.5))
        page.wait_for_selector("#downloads a", timeout=120_000)
        names = shown_names(page)
        assert set(names) == {"A", "B"}
        assert "".join(names).replace("AA", "A").replace("BB", "B") == "ABAB"
        assert page.locator("#words button").count() >= 4
        holds(page, "document.querySelectorAll('#speakers-list li').length === 2")


@pytest.mark.usefixtures("voices")
def test_live_text_has_its_speaker(opened: OpenPage) -> None:
    with opened(microphone=True) as shown:
        page = shown.ready()
        page.select_option("#speakers", "any")
        page.click("#speak")
        holds(page, f"{TEXT}.includes({EXAMPLE_TEXT!r})")
        assert page.get_attribute("#speak", "aria-pressed") == "true"
        assert shown_names(page)[:1] == ["A"]
        page.click("#speak")
        page.wait_for_selector("#downloads a")
        assert shown_names(page)[:1] == ["A"]
