"""Long recordings: jobs, progress, paragraphs, the overview, and playback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.page.conftest import OpenPage, downloaded, flac, holds, results_delayed
from tests.server.live import EXAMPLE, EXAMPLE_TEXT, Live, until

PAUSES = [(0.5, 0.8, 0.6, 3.0)[index % 4] for index in range(32)]
"""A minute and a half: every fourth pause begins a paragraph."""

LONG = flac(PAUSES)
SECONDS = sum(PAUSES) + 32 * 1.765

STATES = """() => {
  window.states = [];
  window.shares = [];
  const [status, progress] = ['status', 'progress'].map(id => document.getElementById(id));
  const note = () => {
    if (states.at(-1) !== status.textContent) states.push(status.textContent);
    if (!progress.hidden && progress.hasAttribute('value')) {
      shares.push([status.textContent, progress.value]);
    }
  };
  const what = {childList: true, subtree: true, attributes: true};
  new MutationObserver(note).observe(document.querySelector('main'), what);
}"""

DONE = "document.getElementById('status').textContent === 'Done.'"
ITEM = "sessionStorage.getItem('auris-job')"


@pytest.fixture(scope="module")
def whole(live: Live) -> dict[str, Any]:
    """The response of the API for the long recording."""
    fields = {"response_format": "verbose_json", "language": "en"}
    times = {"timestamp_granularities[]": ["word", "segment"]}
    return dict(live.transcribe(LONG["buffer"], **fields, **times).json())


def _jobs(live: Live) -> list[str]:
    with live.client() as client:
        return [job["id"] for job in client.get("/v1/jobs").json()["data"]]


@pytest.fixture(autouse=True)
def no_jobs_are_left(live: Live) -> Iterator[None]:
    yield
    with live.client() as client:
        for job in _jobs(live):
            client.delete(f"/v1/jobs/{job}")


def _has_paragraphs_and_is_scrolled_to_the_top(page: Any) -> None:
    sizes = page.evaluate(
        "(({scrollTop, scrollHeight, clientHeight}) => [scrollTop, scrollHeight, clientHeight])"
        "(document.getElementById('text'))"
    )
    assert sizes[1] > sizes[2], "the text is longer than its box"
    assert sizes[0] == 0
    paragraphs = page.locator("#stable .body").all_inner_texts()
    assert paragraphs == [" ".join([EXAMPLE_TEXT] * 4)] * 8
    times = page.locator("#stable .time").all_inner_texts()
    assert times[:3] == ["0:00", "0:12", "0:24"]


def test_a_long_recording_is_transcribed_with_progress(
    opened: OpenPage, live: Live, whole: dict[str, Any]
) -> None:
    with opened(permissions=["clipboard-read", "clipboard-write"]) as shown:
        page = shown.ready()
        page.evaluate(STATES)
        page.set_input_files("#file", LONG)
        holds(page, DONE)
        _has_paragraphs_and_is_scrolled_to_the_top(page)
        states = [state for state in page.evaluate("states") if state]
        assert states[0] == "Sending the recording"
        assert states[-2:] == ["Transcribing", "Done."]
        assert "Waiting for the server" in states
        for state in ("Sending the recording", "Transcribing"):
            shares = [share for name, share in page.evaluate("shares") if name == state]
            assert shares == sorted(shares)
            assert all(0 <= share <= 1 for share in shares)
        assert shares[-1] > 0
        assert len(_jobs(live)) == 1
        assert any(url.endswith("/v1/jobs") for url in shown.requests)
        words = page.locator("#stable .part")
        assert words.all_inner_texts() == [word["word"] for word in whole["words"]]
        files = downloaded(page)
        assert files["long.txt"] == whole["text"] + "\n"
        assert files["long.srt"].count("-->") > 10
        page.click("#copy")
        holds(page, "document.getElementById('status').textContent === 'Copied.'")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == "\n\n".join([" ".join([EXAMPLE_TEXT] * 4)] * 8)


ADDED = """async segments => {
  const {addSegments, clear, current} = await import('/page/transcript.js');
  clear();
  addSegments(segments);
  const all = query => [...document.querySelectorAll(query)].map(one => one.textContent);
  return {text: current(), paragraphs: all('#stable .body'), parts: all('#stable .part')};
}"""


def test_a_very_long_text_is_divided_into_readable_paragraphs(opened: OpenPage) -> None:
    """18,000 words with hardly any pause, in segments of twelve words."""
    segments = []
    for first in range(0, 18_000, 12):
        names = [f"word{number}" for number in range(first, first + 12)]
        words = [
            {"word": name, "start": (first + at) / 3, "end": (first + at + 1) / 3}
            for at, name in enumerate(names)
        ]
        text = ", ".join(names) + "."
        segments.append({"text": text, "start": first / 3, "end": first / 3 + 4, "words": words})
    with opened() as shown:
        got = shown.ready().evaluate(ADDED, segments)
    assert got["text"] == " ".join(segment["text"] for segment in segments)
    assert got["parts"] == [f"word{number}" for number in range(18_000)]
    assert " ".join(got["paragraphs"]) == got["text"]
    assert all(320 <= len(paragraph) <= 450 for paragraph in got["paragraphs"][:-1])
    assert all(paragraph.endswith(".") for paragraph in got["paragraphs"])


def test_text_without_word_times_and_spaces(opened: OpenPage) -> None:
    def segment(text: str, start: float, end: float) -> dict[str, Any]:
        return {"text": text, "start": start, "end": end}

    with opened() as shown:
        page = shown.ready()
        got = page.evaluate(
            ADDED, [segment("你好", 0, 2), segment("世界", 2, 4), segment("ok", 7, 8)]
        )
        assert got == {
            "text": "你好世界 ok",
            "paragraphs": ["你好世界", "ok"],
            "parts": ["你好", "世界", "ok"],
        }


def _visible(page: Any, box: str, element: str) -> bool:
    return bool(
        page.evaluate(
            """([box, element]) => {
              const outer = document.querySelector(box).getBoundingClientRect();
              const inner = document.querySelector(element)?.getBoundingClientRect();
              return Boolean(inner) && inner.top >= outer.top && inner.bottom <= outer.bottom
                && inner.left >= outer.left - 1 && inner.right <= outer.right;
            }""",
            [box, element],
        )
    )


def test_playback_of_a_long_recording(opened: OpenPage, whole: dict[str, Any]) -> None:
    """By the slider, by the keyboard and by a word; the page is the same, since the recognition
    takes the longest."""
    with opened() as shown:
        page = shown.recognized(LONG)
        _slider_moves_text_and_timeline(page)
        _paragraphs_can_be_navigated_by_keyboard(page)
        _text_and_timeline_follow_playback(page, whole)


def _slider_moves_text_and_timeline(page: Any) -> None:
    assert page.evaluate("document.getElementById('scroller').scrollLeft") == 0
    width = page.locator("#position").bounding_box()["width"]
    page.click("#position", position={"x": width * 0.75, "y": 20})
    at = page.evaluate("Number(document.getElementById('position').value)")
    assert at == pytest.approx(0.75 * SECONDS, abs=1)
    assert page.evaluate("document.getElementById('audio').paused")
    until(lambda: _visible(page, "#scroller", "#playhead"))
    for key, by in (("ArrowRight", 5), ("PageDown", -30), ("ArrowLeft", -5), ("PageUp", 30)):
        page.keyboard.press(key)
        at += by
        now = page.evaluate("Number(document.getElementById('position').value)")
        assert now == pytest.approx(at, abs=0.02), key
    page.keyboard.press("End")
    until(lambda: page.evaluate("document.getElementById('audio').currentTime") > SECONDS - 1)
    until(lambda: page.evaluate("document.getElementById('text').scrollTop") > 100)
    page.keyboard.press("Home")
    holds(page, "document.getElementById('scroller').scrollLeft < 100")


def _paragraphs_can_be_navigated_by_keyboard(page: Any) -> None:
    page.focus("#text")
    page.keyboard.press("Tab")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "Play from 0:00"
    for key, time in (
        ("ArrowDown", "0:12"),
        ("ArrowDown", "0:24"),
        ("ArrowUp", "0:12"),
        ("Home", "0:00"),
        ("ArrowUp", "0:00"),
        ("ArrowDown", "0:12"),
    ):
        page.keyboard.press(key)
        assert page.evaluate(focused) == f"Play from {time}"
    assert page.evaluate("document.getElementById('audio').currentTime") < 1
    page.keyboard.press("Enter")
    holds(page, "document.getElementById('audio').currentTime >= 11.9")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "copy", "all times are one stop"


def _text_and_timeline_follow_playback(page: Any, whole: dict[str, Any]) -> None:
    index = len(whole["words"]) - 8
    page.evaluate("index => document.querySelector(`.part[data-part='${index}']`).click()", index)
    start = whole["words"][index]["start"]
    holds(page, f"document.getElementById('audio').currentTime >= {start}")
    until(lambda: _visible(page, "#text", ".part.playing"))
    until(lambda: _visible(page, "#scroller", "#words [aria-current]"))
    assert page.evaluate("document.getElementById('text').scrollTop") > 100
    # The text does not follow playback after the user has scrolled back.
    page.hover("#text")
    page.mouse.wheel(0, -100_000)
    holds(page, "document.getElementById('text').scrollTop === 0")
    before = page.inner_text(".part.playing")
    until(lambda: page.locator(".part.playing").all_inner_texts() not in ([], [before]))
    assert page.evaluate("document.getElementById('text').scrollTop") == 0
    page.click("#play")


def test_a_reload_loses_neither_the_job_nor_its_result(
    opened: OpenPage, live: Live, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "[...document.querySelectorAll('#stable .body')].map(one => one.textContent).join(' ')"
    with opened() as shown:
        page = shown.ready()
        with results_delayed(monkeypatch):
            page.set_input_files("#file", LONG)
            holds(page, f"{text}.length > 300")
            page.reload()
            holds(page, f"{text}.length > 300")
            assert page.inner_text("#status") == "Transcribing"
            assert page.inner_text("#sound-name") == "long.flac"
        holds(page, DONE)
        for _ in range(2):
            assert page.evaluate(text) == whole["text"]
            assert page.locator("#downloads a").count() == 4
            assert page.is_hidden("#again"), "the browser has not kept the recording"
            assert "Choose the same file" in page.inner_text("#sound-hint")
            page.reload()
            holds(page, DONE)
        # The timeline also moves without audio.
        page.click("#stable .time >> nth=3")
        until(lambda: page.evaluate("document.getElementById('scroller').scrollLeft") > 500)
        # The same file restores the audio, and nothing is sent again.
        sent = len([url for url in shown.requests if url.endswith("/v1/jobs")])
        page.set_input_files("#file", LONG)
        holds(page, "document.getElementById('audio').readyState >= 3")
        assert page.inner_text("#sound-hint") == ""
        assert page.is_visible("#again")
        assert len([url for url in shown.requests if url.endswith("/v1/jobs")]) == sent
        assert page.evaluate(text) == whole["text"]
        # Another recording removes the job from the server.
        assert len(_jobs(live)) == 1
        page.set_input_files("#file", EXAMPLE)
        holds(page, f"{text} === {EXAMPLE_TEXT!r}")
        until(lambda: not _jobs(live))
        assert page.evaluate(ITEM) is None


def test_a_deleted_job_is_reported_once(opened: OpenPage, live: Live) -> None:
    with opened() as shown:
        page = shown.ready()
        page.set_input_files("#file", LONG)
        holds(page, DONE)
        with live.client() as client:
            for job in _jobs(live):
                client.delete(f"/v1/jobs/{job}")
        page.reload()
        page.wait_for_selector("#error:visible")
        assert "no longer has this transcription" in page.inner_text("#error")
        page.reload()
        shown.ready()
        page.wait_for_timeout(200)
        assert page.is_hidden("#error")
        # The same file is transcribed again, since there is no text for it.
        page.set_input_files("#file", LONG)
        holds(page, DONE)


def test_the_page_waits_for_an_unavailable_server(opened: OpenPage, whole: dict[str, Any]) -> None:
    with opened() as shown:
        page = shown.ready()
        page.route("**/v1/jobs/*", lambda route: route.abort())
        page.set_input_files("#file", LONG)
        holds(page, "document.getElementById('status').textContent.includes('trying again')")
        assert page.is_visible("#stop")
        page.unroute("**/v1/jobs/*")
        holds(page, DONE)
        assert page.locator("#stable .part").count() == len(whole["words"])


def test_a_cancelled_job_leaves_its_text_and_is_deleted_on_the_server(
    opened: OpenPage, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened() as shown, results_delayed(monkeypatch):
        page = shown.ready()
        page.set_input_files("#file", LONG)
        holds(page, "document.querySelectorAll('#stable .part').length > 40")
        page.click("#stop")
        holds(page, "document.getElementById('status').textContent.startsWith('Cancelled. The')")
        said = page.locator("#stable .part").all_inner_texts()
        files = downloaded(page)
        assert files["long.txt"] == " ".join(said) + "\n"
        assert page.is_visible("#copy")
        until(lambda: not _jobs(live))
        page.reload()
        shown.ready()
        assert page.evaluate(ITEM) is None
        assert page.is_hidden("#error")


def test_a_failed_job_shows_its_reason(opened: OpenPage, live: Live) -> None:
    """The job is accepted because the header is valid; the rest of the recording is missing."""
    broken = {**LONG, "buffer": LONG["buffer"][: len(LONG["buffer"]) // 2]}
    with opened() as shown:
        page = shown.ready()
        page.set_input_files("#file", broken)
        page.wait_for_selector("#error:visible")
        assert re.search(r"only \d+\.\d+ of 95\.68 seconds", page.inner_text("#error"))
        assert page.is_visible("#again")
        until(lambda: not _jobs(live))


LABELS = """() => {
  window.labels = [];
  const draw = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    labels.push([this.canvas.id, text]);
    return draw.call(this, text, ...rest);
  };
}"""

INK = """([from, to]) => {
  const canvas = document.getElementById('overview-drawing');
  const sharpness = canvas.width / canvas.clientWidth;
  const [left, right] = [from, to].map(share => Math.round(share * canvas.width));
  const size = [right - left, Math.round(38 * sharpness)];
  const copy = new OffscreenCanvas(...size).getContext('2d', {willReadFrequently: true});
  copy.drawImage(canvas, -left, 0);
  const data = copy.getImageData(0, 0, ...size).data;
  let rows = 0;
  for (let i = 3; i < data.length; i += 4) rows += data[i] > 128;
  return rows / size[0] / sharpness;
}"""
"""The mean height of what is drawn in a part of the overview, in CSS pixels."""


@pytest.mark.parametrize("limit", [3600, 600])
def test_an_overview_shows_where_speech_is_in_a_very_long_recording(
    opened: OpenPage, limit: int
) -> None:
    """Silence with speech in the middle and near the end. The browser draws the waveform of up to
    an hour; of longer recordings, here with a limit of ten minutes, it shows the words."""
    whole = 660.0
    pauses = [0.5] * 3 + [whole / 2] + [0.5] * 8 + [whole / 4] + [0.5] * 3
    pauses.append(whole - sum(pauses) - 1.765 * (len(pauses) + 1))

    def limited(route: Any) -> None:
        response = route.fetch()
        assert "MOST_SECONDS = 3600;" in response.text()
        body = response.text().replace("MOST_SECONDS = 3600;", f"MOST_SECONDS = {limit};")
        route.fulfill(response=response, body=body)

    with opened() as shown:
        page = shown.page
        page.route("**/page/sound.js", limited)
        page.reload()
        page.evaluate(LABELS)
        shown.ready()
        page.set_input_files("#file", flac(pauses, "day.flac"))
        until(lambda: page.evaluate(DONE), 300.0)
        page.wait_for_timeout(100)
        times = [label for name, label in page.evaluate("labels") if name == "overview-drawing"]
        assert times[-1] == "10:00"
        middle = (whole / 2 + 3 * 2.265 + 2) / whole
        spoken, silent = (page.evaluate(INK, [at, at + 0.005]) for at in (middle, middle - 0.2))
        assert spoken > silent + 8
        # The scale of the timeline continues beyond the limit.
        page.focus("#position")
        page.keyboard.press("End")
        page.keyboard.press("PageDown")
        page.wait_for_timeout(200)
        last = [label for name, label in page.evaluate("labels") if name == ""][-1]
        assert last.startswith("10:")


def test_times_of_an_hour_and_more(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.ready()
        write = "async seconds => (await import('/page/clock.js')).clock(seconds)"
        assert [page.evaluate(write, seconds) for seconds in (3599, 3660)] == ["59:59", "1:01:00"]
