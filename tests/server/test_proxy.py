"""The server behind nginx, with the configuration of deploy/nginx.conf."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.server.live import EXAMPLE_TEXT, Live, speech, until

DEPLOY = Path(__file__).parents[2] / "deploy"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
TALK = "/v1/audio/transcriptions"

pytestmark = pytest.mark.skipif(
    NGINX is None or not DEPLOY.exists(), reason="needs nginx, and a checkout"
)

MAIN = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def proxied(live: Live, tmp_path: Path) -> Iterator[str]:
    """Address of a proxy in front of the server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};")
    site = site.replace("http://auris:8000", live.url)
    # Started by root, nginx gives its worker to a user who has no access to the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(MAIN.format(user=user, folder=tmp_path, site=site), encoding="utf-8")
    process = subprocess.Popen([str(NGINX), "-p", str(tmp_path), "-c", str(configuration)])
    try:
        until(lambda: accepts(port) or process.poll() is not None)
        assert process.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_requests(proxied: str, example: bytes) -> None:
    with httpx.Client(base_url=proxied, timeout=60) as client:
        assert client.get("/health").json() == {"status": "ok"}
        files = {"file": ("a.flac", example)}
        answer = client.post(TALK, files=files, data={"model": "tiny"})
        assert answer.json()["text"] == EXAMPLE_TEXT
        page = client.get("/")
        assert page.status_code == 200
        # A page may call the server that it comes from.
        answer = client.post(TALK, files=files, data={"model": "tiny"}, headers={"Origin": proxied})
        assert answer.status_code == 200


def test_events(proxied: str) -> None:
    data = {"model": "tiny", "stream": "true"}
    with (
        httpx.Client(base_url=proxied, timeout=60) as client,
        client.stream("POST", TALK, files={"file": ("a.wav", speech(8))}, data=data) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
    events = [json.loads(line.removeprefix("data: "))["type"] for line in lines]
    assert events.count("transcript.text.delta") > 1
    assert events[-1] == "transcript.text.done"


def test_realtime(proxied: str) -> None:
    address = proxied.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
    with connect(address, origin=proxied) as socket:
        assert json.loads(socket.recv(timeout=30))["type"] == "session.created"
