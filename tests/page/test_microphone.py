"""The microphone: live text of a file that is played into it, and errors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from tests.page.conftest import OpenPage, holds
from tests.server.live import EXAMPLE_TEXT

NOTES = """() => {
  window.notes = {guesses: [], provisional: 0, words: 0};
  new MutationObserver(() => {
    notes.guesses.push(document.getElementById('provisional').textContent);
    notes.provisional += document.querySelectorAll('#words .provisional').length;
    notes.words = Math.max(notes.words, document.querySelectorAll('#words button').length);
  }).observe(document.querySelector('main'), {subtree: true, childList: true});
}"""

TEXT = "document.getElementById('stable').textContent"


def _speaking(page: Any) -> bool:
    return bool(page.get_attribute("#speak", "aria-pressed") == "true")


def test_speech_is_transcribed_while_speaking(opened: OpenPage) -> None:
    with opened(microphone=True) as shown:
        page = shown.ready()
        page.evaluate(NOTES)
        page.click("#speak")
        holds(
            page, f"{TEXT}.includes({EXAMPLE_TEXT!r}) && notes.words >= {len(EXAMPLE_TEXT.split())}"
        )
        assert _speaking(page)
        assert page.inner_text("#speak") == "Stop"
        notes = page.evaluate("notes")
        assert any("kitchen" in guess for guess in notes["guesses"]), "text comes before it stays"
        assert notes["provisional"] > 0
        assert page.evaluate("document.getElementById('drawing').width") > 300
        page.click("#speak")
        assert not _speaking(page)
        # The audio is now a recording like any other.
        page.wait_for_selector("#downloads a")
        assert EXAMPLE_TEXT in page.inner_text("#stable")
        assert page.inner_text("#provisional") == ""
        name = page.inner_text("#sound-name")
        assert name.startswith("recording-")
        assert page.get_attribute("#downloads a", "download") == name.replace(".wav", ".srt")
        assert page.evaluate("document.getElementById('audio').duration") > 1.7
        page.wait_for_selector("#words button")
        page.locator("#words button", has_text="kitchen").first.click()
        holds(page, "document.getElementById('audio').currentTime > 0.1")


def test_the_microphone_works_by_keyboard(opened: OpenPage) -> None:
    with opened(microphone=True) as shown:
        page = shown.ready()
        page.focus("#speak")
        page.keyboard.press("Enter")
        holds(page, "document.getElementById('status').textContent.startsWith('Listening')")
        page.wait_for_timeout(300)
        page.keyboard.press("Space")
        page.wait_for_selector("#results:visible")
        assert not _speaking(page)


def test_a_denied_microphone_permission_is_reported(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.ready()
        page.click("#speak")
        page.wait_for_selector("#error:visible")
        assert "does not let this page hear the microphone" in page.inner_text("#error")
        assert not _speaking(page)
        assert not any("realtime" in url for url in shown.requests)


MISSING = (
    ("NotFoundError", "No microphone was found"),
    ("NotReadableError", "in use by another"),
)


def test_a_missing_microphone_is_reported(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.ready()
        for name, message in MISSING:
            page.evaluate(
                """name => navigator.mediaDevices.getUserMedia = async () => {
                  throw new DOMException('', name);
                }""",
                name,
            )
            page.click("#speak")
            holds(page, f"document.getElementById('error').textContent.includes({message!r})")
            assert page.is_visible("#error")
            assert not _speaking(page)
        # Browsers hide microphones from pages of other machines without https.
        page.evaluate("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
        page.click("#speak")
        holds(page, "document.getElementById('error').textContent.includes('by https')")


def test_a_stopped_server_is_reported_and_the_text_stays(opened: OpenPage) -> None:
    """The audio until then is transcribed as a recording."""
    with opened(microphone=True) as shown:
        page = shown.ready()

        def stopping(socket: Any) -> None:
            sent = 0

            def take(message: str) -> None:
                nonlocal sent
                sent += "append" in message
                if sent == 40:
                    socket.close(code=1012)
                else:
                    server.send(message)

            server = socket.connect_to_server()
            socket.on_message(take)

        page.route_web_socket("**/v1/realtime*", stopping)
        page.click("#speak")
        page.wait_for_selector("#error:visible")
        assert "is stopping" in page.inner_text("#error")
        assert not _speaking(page)
        page.wait_for_selector("#downloads a")
        assert page.inner_text("#stable") != ""
        assert page.locator("#downloads a").count() == 4
        assert "is stopping" in page.inner_text("#error"), "the reason is still there"


def test_the_missing_server_is_named_before_listening(opened: OpenPage) -> None:
    """The browser gets a part of the page only when Speak is pressed."""
    with opened(microphone=True) as shown:
        page = shown.ready()
        page.evaluate(
            """() => {
              AudioWorklet.prototype.addModule = async () => {
                throw new DOMException('Failed to load', 'AbortError');
              };
            }"""
        )
        page.click("#speak")
        page.wait_for_selector("#error:visible")
        assert page.inner_text("#error").startswith("The server cannot be reached")
        assert not _speaking(page)


def test_names_and_words_are_keywords_of_the_session(opened: OpenPage) -> None:
    updates: list[dict[str, Any]] = []

    def reading(socket: Any) -> None:
        server = socket.connect_to_server()

        def take(message: str) -> None:
            event = json.loads(message)
            if event["type"] == "session.update":
                updates.append(event["session"])
            server.send(message)

        socket.on_message(take)

    with opened(microphone=True) as shown:
        page = shown.ready()
        page.route_web_socket("**/v1/realtime*", reading)
        page.fill("#keywords", "kitchen fan, Zoë")
        page.click("#speak")
        holds(page, "document.getElementById('status').textContent.startsWith('Listening')")
        page.click("#speak")
    transcription = updates[0]["audio"]["input"]["transcription"]
    assert transcription["keywords"] == ["kitchen fan", "Zoë"]
    assert "prompt" not in transcription


RESAMPLED = """async ([from, to, sizes]) => {
  const {Resampler} = await import('/page/resample.js');
  const length = from / 4;
  const tone = Float32Array.from({length}, (_, i) => Math.sin(2 * Math.PI * 1000 * i / from));
  const high = tone.map((_, i) => Math.sin(2 * Math.PI * 15000 * i / from));
  const through = samples => {
    const resampler = new Resampler(from, to);
    const out = [];
    for (let i = 0, n = 0; i < samples.length; i += sizes[n++ % sizes.length]) {
      out.push(...resampler.take(samples.subarray(i, i + sizes[n % sizes.length])));
    }
    return out;
  };
  return {tone: through(tone), high: through(high)};
}"""


def test_the_microphone_is_resampled_to_the_rate_of_the_server(opened: OpenPage) -> None:
    """A tone keeps its frequency and delay, frequencies above the new limit are removed, and block
    sizes have no effect."""
    with opened() as shown:
        for rate in (16_000, 24_000, 44_100, 48_000):
            whole = shown.page.evaluate(RESAMPLED, [rate, 24_000, [rate]])
            parted = shown.page.evaluate(RESAMPLED, [rate, 24_000, [128]])
            _same_tone(rate, whole, parted)


def _same_tone(rate: int, whole: dict[str, Any], parted: dict[str, Any]) -> None:
    tone = np.array(whole["tone"])
    assert 6000 - 40 <= len(tone) <= 6000
    exact = np.sin(2 * np.pi * 1000 * np.arange(len(tone)) / 24_000)
    assert np.abs(tone - exact)[100:].max() < 0.01
    if rate > 30_000:
        assert np.abs(whole["high"])[100:].max() < 0.01
    assert len(parted["tone"]) == len(tone)
    assert np.abs(np.array(parted["tone"]) - tone).max() < 1e-6


CARRIED = """async () => {
  const { Session } = await import(new URL('live.js', document.querySelector('script[src]').src));
  const shown = [];
  const session = new Session({model: 'tiny'}, (one) => shown.push(one), () => {});
  await session.open;
  session.end();
  shown.length = 0;
  const delta = 'conversation.item.input_audio_transcription.delta';
  session.take({type: delta, item_id: 'a', delta: 'one two three'});
  session.take({type: 'auris.final', item_id: 'a', text: 'one', carried: ' two three'});
  session.take({type: delta, item_id: 'a', delta: ' four'});
  session.take({type: 'auris.final', item_id: 'a', text: ' two three four', carried: ''});
  return shown.map(({text, settled}) => [text, settled]);
}"""


def test_settled_words_behind_a_cut_stay_shown(opened: OpenPage) -> None:
    with opened() as shown:
        assert shown.ready().evaluate(CARRIED) == [
            ["", "one two three"],
            ["one", " two three"],
            ["one", " two three four"],
            ["one two three four", ""],
        ]
