"""The files of the page as the server sends them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import auris
from auris.server.page_routes import PATHS
from auris.server.settings import Settings
from tests.server.live import Live, running

FOLDER = Path(auris.__file__).parent / "server" / "page"
KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    state = str(tmp_path_factory.mktemp("state"))
    settings = Settings(models=("tiny-ctc",), device="cpu", keys=(KEY,), state_dir=state)
    with running(settings) as server:
        yield server


def test_every_file_has_its_content_type(live: Live) -> None:
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    with live.client() as client:
        for file in FOLDER.iterdir():
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            assert path in PATHS
            got = client.get(path)
            assert got.status_code == 200
            assert got.content == file.read_bytes()
            kind = kinds.get(file.suffix, "image/svg+xml")
            assert got.headers["content-type"].startswith(kind)
            assert got.headers["x-content-type-options"] == "nosniff"
            policy = got.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "*" not in policy
            head = client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(got.content))


def test_an_unchanged_file_is_a_304(live: Live) -> None:
    with live.client() as client:
        first = client.get("/")
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        for known in (tag, f"W/{tag}", f'"another", {tag}'):
            again = client.get("/", headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        assert client.get("/", headers={"If-None-Match": '"another"'}).status_code == 200


def test_an_unknown_file_is_a_404(live: Live) -> None:
    with live.client() as client:
        for path in ("/page", "/page/", "/page/index.html", "/page/../app.py", "/page/none.js"):
            assert client.get(path).status_code == 404, path
        assert client.post("/").status_code == 405
        assert "/" not in client.get("/openapi.json").json()["paths"]


def test_only_the_page_is_served_without_a_key(closed: Live) -> None:
    with closed.client() as client:
        assert client.get("/").status_code == 200
        assert client.get("/page/main.js").status_code == 200
        for path in ("/v1/models", "/page/none.js", "/openapi.json"):
            assert client.get(path).status_code == 401


def test_the_page_is_not_served_for_other_hosts(live: Live) -> None:
    with live.client() as client:
        assert client.get("/", headers={"Host": "rebound.example"}).status_code == 403


def test_the_page_can_be_switched_off(tmp_path: Path) -> None:
    settings = Settings(models=("tiny-ctc",), device="cpu", page=False, state_dir=str(tmp_path))
    with running(settings) as server, server.client() as client:
        assert client.get("/").status_code == 404
        assert client.get("/page/main.js").status_code == 404
        assert client.get("/v1/models").status_code == 200


def test_no_file_refers_to_another_host() -> None:
    """The only addresses are XML namespaces; there are no inline scripts and styles."""
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8")
        places = set(re.findall(r"https?://[^\s\"']+", text)) - {"http://www.w3.org/2000/svg"}
        assert not places, f"{file.name}: {places}"
        assert text.count("\n") <= 400, file.name
        assert "eval(" not in text
        assert "innerHTML" not in text
    index = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\s(style|on\w+)=", index)
    assert re.findall(r"<script[^>]*>(.*?)</script>", index) == [""]
