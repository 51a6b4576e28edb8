"""Recordings in the page: text, words, playback and downloads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from auris.audio.io import load
from tests.audio.media import encode, pcm
from tests.page.conftest import OpenPage, downloaded, flac, holds, results_delayed
from tests.server.live import EXAMPLE, EXAMPLE_TEXT, Live, speech

TIMES = {"timestamp_granularities[]": ["word", "segment"]}
WORDS = EXAMPLE_TEXT.split()

HOUNDS = EXAMPLE.parent / "voice" / "hounds_1.ogg"


def _said(page: Any) -> str:
    return str(page.inner_text("#stable"))


NOTES = """() => {
  const audio = document.getElementById('audio');
  window.notes = {sought: [], played: 0, marked: []};
  audio.addEventListener('seeking', () => notes.sought.push(audio.currentTime));
  audio.addEventListener('playing', () => notes.played++);
  new MutationObserver(changes => notes.marked.push(...changes.map(one => one.target.textContent)))
    .observe(document.getElementById('words'), {subtree: true, attributeFilter: ['aria-current']});
}"""
"""Where the sound was sent, and which words were marked as heard."""


def test_a_recording_is_transcribed_and_its_words_can_be_played(
    opened: OpenPage, live: Live
) -> None:
    times = live.transcribe(EXAMPLE.read_bytes(), response_format="verbose_json", **TIMES)
    starts = [word["start"] for word in times.json()["words"]]
    with opened() as shown:
        page = shown.recognized()
        assert _said(page) == EXAMPLE_TEXT
        assert page.inner_text("#provisional") == ""
        assert page.get_attribute("#text", "lang") == "en"
        assert page.locator("#words button").all_inner_texts() == WORDS
        page.evaluate(NOTES)
        for count, index in enumerate((3, 0, 2), 1):
            page.locator("#words button").nth(index).click()
            holds(page, f"notes.sought.length === {count} && notes.played > 0")
            assert page.evaluate("notes.sought.at(-1)") == pytest.approx(starts[index], abs=0.01)
        holds(page, "document.getElementById('audio').ended")
        assert page.get_attribute("#play", "aria-label") == "Play"
        assert set(page.evaluate("notes.marked")) >= {"kitchen", "fan", "off"}


def test_downloads_equal_the_responses_of_the_api(opened: OpenPage, live: Live) -> None:
    """The page shows the one language of the model."""
    data = speech(3, pause=1.0)
    with opened() as shown:
        page = shown.recognized({"name": "talk.one.wav", "mimeType": "audio/wav", "buffer": data})
        files = downloaded(page)
    assert set(files) == {f"talk.one.{kind}" for kind in ("srt", "vtt", "txt", "json")}
    for kind in ("srt", "vtt"):
        words = {"timestamp_granularities[]": "word"}
        response = live.transcribe(data, response_format=kind, language="en", **words)
        assert files[f"talk.one.{kind}"] == response.text
        assert response.text.count("-->") >= 3, "cues follow the words, so pauses part them"
    text = live.transcribe(data, response_format="text", language="en").text
    assert files["talk.one.txt"] == text
    whole = live.transcribe(data, response_format="verbose_json", language="en", **TIMES)
    assert json.loads(files["talk.one.json"]) == whole.json()


def test_text_appears_segment_by_segment(opened: OpenPage) -> None:
    """With chunks of 5 s, the first text is visible before the last is transcribed."""
    with opened() as shown:
        page = shown.ready()
        page.evaluate(
            """() => {
              window.seen = [];
              new MutationObserver(() => seen.push(
                document.querySelector('#stable .body')?.textContent))
                .observe(document.getElementById('stable'), {childList: true, subtree: true});
            }"""
        )
        buffer = speech(6, pause=1.0)
        page.set_input_files("#file", {"name": "a.wav", "mimeType": "audio/wav", "buffer": buffer})
        page.wait_for_selector("#downloads a")
        seen = [text for text in page.evaluate("seen") if text]
        assert len(set(seen)) >= 3
        assert all(later.startswith(text) for text, later in pairwise(seen))
        assert seen[-1].count("kitchen") == 6


def test_the_waveform_is_drawn(opened: OpenPage) -> None:
    """Waveform and spectrogram are dark in speech and blank in silence."""
    with opened() as shown:
        page = shown.recognized()
        holds(page, "document.getElementById('drawing').width > 300")
        page.wait_for_timeout(100)
        drawn = """([seconds, top, bottom]) => {
            const canvas = document.getElementById('drawing');
            const ratio = canvas.width / canvas.clientWidth;
            const x = Math.round(seconds / 1.765 * canvas.width);
            const size = [4, Math.round((bottom - top) * ratio)];
            const copy = document.createElement('canvas');
            [copy.width, copy.height] = size;
            const to = copy.getContext('2d', {willReadFrequently: true});
            to.drawImage(canvas, -x, -top * ratio);
            const data = to.getImageData(0, 0, ...size).data;
            let ink = 0;
            for (let i = 0; i < data.length; i += 4) ink += 255 - data[i];
            return ink / (data.length / 4);
        }"""
        for top, bottom in ((0, 80), (100, 180)):
            voice, silence = (page.evaluate(drawn, [at, top, bottom]) for at in (1.05, 0.08))
            assert voice > silence + 15, (top, voice, silence)


def test_only_supported_options_are_shown(opened: OpenPage, live: Live) -> None:
    with live.client() as client:
        models = client.get("/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["tiny", "tiny-ctc"]
    with opened() as shown:
        page = shown.ready()
        assert page.locator("#model option").all_inner_texts() == ["tiny", "tiny-ctc"]
        page.select_option("#model", "tiny-ctc")
        assert page.locator("#language option").all_inner_texts() == ["English"]
        page.set_input_files("#file", EXAMPLE)
        page.wait_for_selector("#downloads a")
        by_ctc = live.transcribe(EXAMPLE.read_bytes(), model="tiny-ctc").json()["text"]
        assert _said(page) == by_ctc
        page.select_option("#model", "tiny")
        page.click("#again")
        holds(page, f"document.getElementById('stable').innerText === {EXAMPLE_TEXT!r}")


def test_names_and_words_are_sent_as_keywords(opened: OpenPage) -> None:
    """Every model takes keywords, also one that was trained without contexts."""
    forms: list[bytes] = []

    def refuse(route: Any) -> None:
        forms.append(route.request.post_data_buffer)
        route.fulfill(status=400, json={"error": {"message": "Refused by the test."}})

    with opened() as shown:
        shown.page.route("**/v1/audio/transcriptions", refuse)
        page = shown.ready()
        page.fill("#keywords", " Wattle Creek,Zoë, ,")
        page.set_input_files("#file", EXAMPLE)
        page.wait_for_selector("#error:visible")
    assert len(forms) == 1
    sent = re.findall(rb'name="keywords\[\]"\r\n\r\n([^\r]*)', forms[0])
    assert [word.decode() for word in sent] == ["Wattle Creek", "Zoë"]


def test_a_name_is_written_with_its_keyword(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.ready()
        page.set_input_files("#file", HOUNDS)
        page.wait_for_selector("#downloads a")
        assert "hounds" not in _said(page)
        page.fill("#keywords", "hounds")
        page.click("#again")
        holds(page, "document.getElementById('stable').innerText.includes('hounds')")


def test_languages_are_shown_by_name(opened: OpenPage) -> None:
    """A model for one language has nothing to detect; others detect by default."""
    model = {"id": "large", "object": "model", "created": 1, "owned_by": "auris"}
    capabilities = {"languages": ["en", "yue", "de"], "prompt": True, "words": False}
    answer = {"object": "list", "data": [{**model, "capabilities": capabilities}]}
    with opened() as shown:
        shown.page.route("**/v1/models", lambda route: route.fulfill(json=answer))
        shown.page.reload()
        page = shown.ready()
        offered = page.locator("#language option").all_inner_texts()
        assert offered == ["Detect", "Cantonese", "English", "German"]
        assert page.input_value("#language") == ""


def test_a_dropped_file_is_transcribed(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.ready()
        moved = page.evaluate_handle(
            """bytes => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(bytes)], 'dropped.flac'));
              return data;
            }""",
            list(EXAMPLE.read_bytes()),
        )
        page.dispatch_event("body", "dragenter", {"dataTransfer": moved})
        assert page.is_visible("#curtain")
        page.dispatch_event("body", "drop", {"dataTransfer": moved})
        assert page.is_hidden("#curtain")
        page.wait_for_selector("#downloads a")
        assert _said(page) == EXAMPLE_TEXT
        assert page.inner_text("#sound-name") == "dropped.flac"


BROKEN = (
    ("notes.wav", b"no sound at all" * 100, "has to be an audio or video file"),
    ("large.wav", b"RIFF" + bytes(5 << 19), "larger than"),
    ("empty.wav", b"", ""),
)


def test_errors_are_shown_as_sentences(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.ready()
        for name, data, expected in BROKEN:
            page.set_input_files("#file", {"name": name, "mimeType": "audio/wav", "buffer": data})
            page.wait_for_selector("#error:visible")
            message = page.inner_text("#error")
            assert message, name
            assert expected in message
            assert "Error" not in message
            assert page.is_hidden("#progress")
            # The page continues to work, and the message disappears.
            page.set_input_files("#file", EXAMPLE)
            page.wait_for_selector("#error", state="hidden")
            page.wait_for_selector("#downloads a")
            assert page.is_hidden("#error")
            assert _said(page) == EXAMPLE_TEXT


def test_a_refused_recording_shows_no_progress(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.ready()
        buffer = b"no sound at all" * 100
        file = {"name": "notes.wav", "mimeType": "audio/wav", "buffer": buffer}
        page.set_input_files("#file", file)
        page.wait_for_selector("#error:visible")
        page.wait_for_selector("#sound", state="hidden")
        assert page.is_hidden("#text .hint")
        assert page.is_hidden("#copy")
        assert page.is_visible("#again")


@pytest.mark.parametrize("undecided", [False, True])
def test_a_recording_the_browser_cannot_play_has_text_and_a_timeline(
    opened: OpenPage, undecided: bool
) -> None:
    """Also while the browser still tries to decode the recording to draw it."""
    data = encode(pcm(load(EXAMPLE).samples[None]), 16_000, "au", "pcm_s16be")
    with opened() as shown:
        page = shown.ready()
        if undecided:
            page.evaluate(
                "() => { BaseAudioContext.prototype.decodeAudioData = () => new Promise(() => {}) }"
            )
        page.set_input_files(
            "#file", {"name": "talk.au", "mimeType": "audio/basic", "buffer": data}
        )
        page.wait_for_selector("#downloads a")
        assert _said(page) == EXAMPLE_TEXT
        assert page.inner_text("#sound-hint") == "The browser cannot play this recording."
        assert page.is_disabled("#play")
        assert page.locator("#words button").all_inner_texts() == WORDS


def test_partial_text_can_be_copied_and_saved_after_cancelling(
    opened: OpenPage, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server delays the end of a call until the test has cancelled it."""
    with opened() as shown, results_delayed(monkeypatch):
        page = shown.ready()
        file = flac([1.0] * 5, "talk.flac")
        page.set_input_files("#file", file)
        holds(page, "document.getElementById('detail').textContent.startsWith('0:1')")
        said = page.inner_text("#stable")
        page.click("#stop")
        holds(page, "document.getElementById('status').textContent.startsWith('Cancelled.')")
        assert page.is_hidden("#stop")
        assert "The text ends at 0:1" in page.inner_text("#status")
        assert page.inner_text("#stable") == said
        assert said.count(EXAMPLE_TEXT) >= 4
        for name in ("#copy", "#again"):
            assert page.is_visible(name)
        files = downloaded(page)
    assert set(files) == {f"talk.{kind}" for kind in ("srt", "vtt", "txt", "json")}
    assert files["talk.txt"] == said + "\n"
    cues = re.findall(r"^00:00:\d\d,\d{3} --> 00:00:\d\d,\d{3}$", files["talk.srt"], re.MULTILINE)
    assert len(cues) >= 2
    assert files["talk.vtt"].startswith("WEBVTT\n\n1\n00:00:")
    partial = json.loads(files["talk.json"])
    assert (partial["complete"], partial["text"]) == (False, said)


def test_cancelling_before_any_text(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.ready()
        page.route("**/v1/audio/transcriptions", lambda route: None)
        page.set_input_files("#file", EXAMPLE)
        page.click("#stop")
        holds(page, "document.getElementById('status').textContent === 'Cancelled.'")
        assert page.is_hidden("#stop")
        assert page.is_hidden("#copy")
        assert page.is_visible("#again")
        assert page.locator("#downloads a").count() == 0


def test_a_failed_transcription_can_be_retried(opened: OpenPage) -> None:
    place = "**/v1/audio/transcriptions"
    failures: list[Callable[[Any], None]] = [
        lambda route: route.fulfill(status=429, headers={"Retry-After": "7"}, json={}),
        lambda route: route.abort(),
    ]
    with opened() as shown:
        page = shown.ready()
        page.route(place, failures[0])
        page.set_input_files("#file", EXAMPLE)
        page.wait_for_selector("#error:visible")
        assert "Try again in 7 seconds" in page.inner_text("#error")
        page.wait_for_selector("#again:visible")
        assert page.is_hidden("#downloads-label")
        page.unroute(place)
        page.click("#again")
        page.wait_for_selector("#downloads a")
        said = page.inner_text("#stable")
        assert said
        for failure in failures:
            page.route(place, failure)
            page.click("#again")
            page.wait_for_selector("#error:visible")
            page.wait_for_selector("#again:visible")
            assert page.inner_text("#stable") == said, "what was there is kept"
            page.unroute(place)
        page.click("#again")
        page.wait_for_selector("#downloads a")
        assert page.inner_text("#stable") == said
