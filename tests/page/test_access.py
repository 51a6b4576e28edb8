"""Accessibility of the page: keyboard, screen readers, small screens, and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auris.server.settings import Settings
from tests.page.conftest import OpenPage, flac, holds
from tests.server.live import EXAMPLE, EXAMPLE_TEXT, running, until

KEY = "a-key-of-some-length"


def _focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.textContent"))


def _tab_to(page: Any, wanted: str) -> None:
    for _ in range(30):
        page.keyboard.press("Tab")
        if _focused(page) == wanted:
            return
    raise AssertionError(f"{wanted} is not reached by the tab key")


def test_everything_works_by_keyboard(opened: OpenPage) -> None:
    with opened() as shown:
        # The listener is added early, since the browser needs a while to notice it.
        choosers: list[Any] = []
        shown.page.on("filechooser", lambda chooser: choosers.append(chooser))
        page = shown.ready()
        page.keyboard.press("Tab")
        assert _focused(page) == "Skip to the text"
        _tab_to(page, "file")
        outline = "getComputedStyle(document.activeElement.closest('label')).outlineStyle"
        assert page.evaluate(outline) == "solid"
        page.keyboard.press("Enter")
        until(lambda: page.title() and choosers)
        choosers[0].set_files(EXAMPLE)
        page.wait_for_selector("#downloads a")
        holds(page, "document.getElementById('audio').readyState >= 3")
        for wanted in ("speak", "model", "language", "keywords", "text", "copy", "again", "srt"):
            _tab_to(page, wanted)
        for wanted in ("zoom-in", "play", "position", "switch"):
            _tab_to(page, wanted)
        for pressed, wanted in (
            ("ArrowRight", "the"),
            ("ArrowRight", "kitchen"),
            ("End", "off"),
            ("ArrowRight", "off"),
            ("ArrowLeft", "fan"),
            ("Home", "switch"),
            ("ArrowLeft", "switch"),
            ("End", "off"),
        ):
            page.keyboard.press(pressed)
            assert _focused(page) == wanted
        page.keyboard.press("Enter")
        holds(page, "document.getElementById('audio').currentTime >= 1.4")
        assert page.is_visible("#marked")
        # All words are one tab stop.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#words')") is None
        page.keyboard.press("Shift+Tab")
        assert _focused(page) == "off"


def test_names_and_live_regions_for_screen_readers(opened: OpenPage) -> None:
    with opened() as shown:
        page = shown.recognized()
        assert page.get_by_role("main").count() == 1
        assert page.get_by_role("banner").count() == 1
        assert page.get_by_role("heading", level=1).inner_text() == "Auris"
        for name in ("Recording", "Text", "Sound"):
            assert page.get_by_role("heading", name=name, exact=True, level=2).count() == 1
        assert page.get_by_role("log", name="Recognized text").inner_text() == EXAMPLE_TEXT
        assert page.get_by_role("status").inner_text() == "Done."
        for role, name in (
            ("button", "Choose a file"),
            ("button", "Speak"),
            ("combobox", "Model"),
            ("combobox", "Language"),
            ("textbox", "Names and words to expect"),
            ("button", "Play"),
            ("slider", "Position"),
            ("link", "Download srt"),
            ("button", "kitchen"),
        ):
            assert page.get_by_role(role, name=name, exact=True).count() == 1, (role, name)


MOVING = "document.getAnimations().filter(one => one.playState === 'running').length"


def test_no_accessibility_rule_is_violated(opened: OpenPage) -> None:
    """The rules of axe-core, including contrast, with and without a recording and an error;
    animations are off where the user prefers reduced motion."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with opened(reduced_motion="reduce") as shown:
        page = shown.ready()
        for state in ("empty", "recognized", "failed"):
            if state == "recognized":
                shown.recognized(flac([3.0] * 3))
                assert page.locator("#stable .time:visible").count() == 3
                page.locator(".part").nth(6).click()
                page.wait_for_selector(".part.playing")
                page.evaluate("document.getElementById('audio').pause()")
            if state == "failed":
                page.set_input_files(
                    "#file", {"name": "a.wav", "mimeType": "audio/wav", "buffer": b"no sound"}
                )
                page.wait_for_selector("#error:visible")
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate(MOVING) == 0, (state, scheme)
                found = axe.Axe().run(page)
                assert found.violations_count == 0, (state, scheme, found.generate_report())


def test_content_fits_small_screens(opened: OpenPage) -> None:
    """Also after the window becomes narrower or the screen is rotated."""
    with opened(viewport={"width": 320, "height": 740}, color_scheme="dark") as shown:
        page = shown.recognized(flac([3.0] * 3))
        for width in (320, 1280, 768, 360):
            page.set_viewport_size({"width": width, "height": 740})
            _fits(page, width)


def _fits(page: Any, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width, width
    wide = page.evaluate(
        """width => [...document.querySelectorAll('main *')]
          .filter(one => !one.closest('#scroller, .unseen, #position'))
          .filter(one => one.getBoundingClientRect().right > width)
          .map(one => one.id || one.tagName)""",
        width,
    )
    assert wide == [], width
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, a.button, select, label.button')]
          .filter(one => one.checkVisibility() && one.getBoundingClientRect().height < 24)
          .map(one => one.id || one.textContent)"""
    )
    assert small == [], width


def test_the_page_asks_for_a_key_where_the_server_needs_one(
    opened: OpenPage, tmp_path: Path
) -> None:
    settings = Settings(models=("tiny",), device="cpu", keys=(KEY,), state_dir=str(tmp_path))
    with running(settings) as server, opened(server.url) as shown:
        page = shown.page
        page.wait_for_selector("#key-form:visible")
        assert "asks for a key" in page.inner_text("#error")
        assert _focused(page) == "key"
        page.fill("#key", "a-wrong-key-of-some-length")
        page.keyboard.press("Enter")
        holds(page, "document.getElementById('error').textContent.includes('does not know')")
        page.fill("#key", "schlüssel mit „Zeichen“")
        page.keyboard.press("Enter")
        holds(page, "document.getElementById('error').textContent.includes('cannot be a key')")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        shown.recognized()
        assert page.is_hidden("#key-form")
        assert page.is_hidden("#error")
        assert page.inner_text("#stable") == EXAMPLE_TEXT
        page.reload()
        shown.ready()
        assert page.is_hidden("#key-form"), "the tab keeps it"
        assert KEY not in "".join(shown.requests)
