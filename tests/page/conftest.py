"""The page in a real browser, on a server with both bundled models."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auris.audio.io import load
from auris.server.calls import Call
from auris.server.settings import Settings
from auris.types import Transcript
from tests.audio.media import encode, pcm
from tests.server.live import EXAMPLE, Live, running, speech, until

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

OpenPage = Callable[..., AbstractContextManager["Shown"]]


def _chromium() -> str | None:
    given = os.environ.get("AURIS_CHROMIUM")
    return given or next(filter(None, map(shutil.which, NAMES)), None)


def holds(page: Any, expression: str) -> None:
    """Wait until a condition of the page holds. A wait inside the page would violate its policy."""
    until(lambda: page.evaluate(expression))


def flac(pauses: list[float], name: str = "long.flac") -> dict[str, Any]:
    """A recording as a browser file: the example followed by each of the pauses."""
    said = pcm(load(EXAMPLE).samples)
    parts = [part for pause in pauses for part in (said, np.zeros(round(pause * 16_000), np.int16))]
    data = encode(np.concatenate(parts)[None], 16_000, "flac", "flac")
    return {"name": name, "mimeType": "audio/flac", "buffer": data}


def downloaded(page: Any) -> dict[str, str]:
    """The files that the page offers, by name."""
    files = {}
    for link in page.locator("#downloads a").all():
        with page.expect_download() as downloading:
            link.click()
        got = downloading.value
        files[got.suggested_filename] = Path(got.path()).read_bytes().decode()
    return files


@contextmanager
def results_delayed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers of this process return the segments of a recording but not its result."""
    resume = threading.Event()
    run = Call.run

    def wait(self: Call, *arguments: Any, **options: Any) -> Transcript:
        transcript = run(self, *arguments, **options)
        while not (resume.is_set() or self.cancelled.is_set()):
            resume.wait(0.02)
        return transcript

    with monkeypatch.context() as patched:
        patched.setattr(Call, "run", wait)
        try:
            yield
        finally:
            resume.set()


class Shown:
    """An open page with its messages and requests."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self._say(message.type, message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(url)

    def _say(self, kind: str, text: str) -> None:
        # The browser logs refused requests even if the page handles them.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.errors.append(text)

    def ready(self) -> Any:
        """The page after it has loaded the list of models."""
        self.page.wait_for_selector("#model option", state="attached")
        return self.page

    def recognized(self, recording: Path | dict[str, Any] = EXAMPLE) -> Any:
        """The page with a recording and its text."""
        page = self.ready()
        page.set_input_files("#file", recording)
        page.wait_for_selector("#downloads a")
        page.wait_for_selector("#words button")
        holds(page, "document.getElementById('audio').readyState >= 3")
        return page

    def clean(self) -> None:
        """There were no errors and no requests to other hosts."""
        assert self.errors == []
        others = [url for url in self.requests if not url.startswith((self.url, "blob:"))]
        assert others == []


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = Settings(
        models=("tiny", "tiny-ctc"),
        device="cpu",
        lm="none",
        batch_size=4,
        chunk_seconds=5.0,
        most_upload_bytes=2 << 20,
        state_dir=str(tmp_path_factory.mktemp("state")),
    )
    with running(settings) as server:
        yield server


@pytest.fixture(scope="package")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The input of the microphone: the example, repeated with pauses."""
    path = tmp_path_factory.mktemp("spoken") / "spoken.wav"
    path.write_bytes(speech(1, pause=1.5))
    return path


@pytest.fixture(scope="package")
def chromium(spoken: Path) -> Iterator[Any]:
    program = _chromium()
    if program is None:
        pytest.skip("no Chromium here; `make chromium` installs it, AURIS_CHROMIUM names one")
    api = pytest.importorskip("playwright.sync_api")
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={spoken}",
    ]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any, live: Live) -> OpenPage:
    """Opens the page and checks at the end that it is clean."""

    @contextmanager
    def opening(url: str = live.url, microphone: bool = False, **options: Any) -> Iterator[Shown]:
        context = chromium.new_context(**options)
        context.set_default_timeout(30_000)
        if microphone:
            context.grant_permissions(["microphone"])
        try:
            shown = Shown(context.new_page(), url)
            yield shown
            shown.clean()
        finally:
            context.close()

    return opening
