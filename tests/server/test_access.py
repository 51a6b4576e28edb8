"""Access: keys, hosts, origins, limits of sizes, and logs without content."""

from __future__ import annotations

import json
import logging
import pickle
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from auris.errors import UsageError
from auris.server.log import JsonLines
from auris.server.model_registry import ModelRegistry
from auris.server.settings import Settings, default_state_dir, is_loopback, read_keys
from tests.audio.media import encode, wav
from tests.server.live import EXAMPLE_TEXT, Live, running, until

KEYS = ("a-key-of-some-length", "another-key-as-long")


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = Settings(
        models=("tiny",),
        device="cpu",
        keys=KEYS,
        origins=("https://page.example",),
        state_dir=str(tmp_path_factory.mktemp("state")),
        most_jobs=2,
        host="0.0.0.0",
    )
    with running(settings) as server:
        yield server


def _ask(live: Live, path: str = "/v1/models", **headers: str) -> httpx.Response:
    with live.client() as client:
        return client.get(path, headers=headers)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {KEYS[0]}",
        f"Bearer {KEYS[0]}x",
        f"Bearer {KEYS[0][:-1]}",
        KEYS[0],
    ],
)
def test_a_wrong_key_is_refused(closed: Live, header: str) -> None:
    given = {"Authorization": header} if header else {}
    for path in ("/v1/models", "/metrics", "/v1/jobs", "/openapi.json", "/nothing"):
        response = _ask(closed, path, **given)
        assert response.status_code == 401
        error = response.json()["error"]
        assert error["code"] == "invalid_api_key"
        missing = error["message"].startswith("An API key is missing")
        assert missing == (" " not in header), error
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_every_configured_key_is_accepted(closed: Live) -> None:
    for key in KEYS:
        assert _ask(closed, Authorization=f"Bearer {key}").status_code == 200
    assert _ask(closed, "/health").json() == {"status": "ok"}


def test_jobs_are_visible_only_to_the_key_that_created_them(closed: Live, example: bytes) -> None:
    ours, theirs = ({"Authorization": f"Bearer {key}"} for key in KEYS)
    with closed.client() as client:
        job = client.post(
            "/v1/jobs",
            files={"file": ("a.flac", example)},
            data={"model": "tiny"},
            headers=ours,
        ).json()
        place = f"/v1/jobs/{job['id']}"
        assert client.get(place, headers=ours).status_code == 200
        for method, path in (("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("DELETE", "")):
            assert client.request(method, place + path, headers=theirs).status_code == 404
        assert client.get("/v1/jobs", headers=theirs).json()["data"] == []


def test_requests_from_other_origins_are_refused(closed: Live) -> None:
    given = {"Authorization": f"Bearer {KEYS[0]}"}
    allowed = _ask(closed, Origin="https://page.example", **given)
    assert allowed.headers["access-control-allow-origin"] == "https://page.example"
    other = _ask(closed, Origin="https://evil.example", **given)
    assert "access-control-allow-origin" not in other.headers


def test_without_keys_only_local_clients_are_served(live: Live) -> None:
    for host in ("127.0.0.1", "localhost:8000", "[::1]:8000"):
        assert _ask(live, Host=host).status_code == 200
    rebound = _ask(live, Host="rebound.example")
    assert rebound.status_code == 403
    assert "AURIS_API_KEYS" in rebound.json()["error"]["message"]
    foreign = _ask(live, Origin="https://evil.example")
    assert foreign.status_code == 403
    assert "--cors-origin" in foreign.json()["error"]["message"]
    assert _ask(live, Origin="null").status_code == 403
    own = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}
    assert _ask(live, **own).status_code == 200


def test_without_keys_an_origin_with_another_port_is_refused(live: Live, example: bytes) -> None:
    origin = {"Origin": "http://localhost:3000"}
    with live.client(**origin) as client:
        response = client.post(
            "/v1/audio/transcriptions", files={"file": example}, data={"model": "tiny"}
        )
        assert response.status_code == client.get("/v1/models").status_code == 403
    assert "--cors-origin" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers", [{"Host": "["}, {"Host": "[::1"}, {"Origin": "http://["}, {"Origin": "http://[x]"}]
)
def test_invalid_host_headers_are_refused(live: Live, headers: dict[str, str]) -> None:
    refused = _ask(live, **headers)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "forbidden_origin"
    with pytest.raises(InvalidStatus) as wrong:
        connect(live.url.replace("http", "ws", 1) + "/v1/realtime", additional_headers=headers)
    assert wrong.value.response.status_code in (400, 403)


def test_a_websocket_at_an_unknown_path_gets_an_error(live: Live) -> None:
    with pytest.raises(InvalidStatus) as wrong:
        connect(live.url.replace("http", "ws", 1) + "/v1/nothing")
    assert wrong.value.response.status_code == 404
    assert json.loads(wrong.value.response.body)["error"]["code"] == "not_found"


def test_head_has_the_headers_of_get_and_no_body(live: Live) -> None:
    with live.client() as client:
        for path in ("/health", "/metrics", "/v1/models"):
            answer = client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["content-type"] == client.get(path).headers["content-type"]


def test_the_client_may_set_the_request_id(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "auris.access")
    chosen = _ask(live, **{"X-Request-Id": "call-7.a_b"})
    assert chosen.headers["x-request-id"] == "call-7.a_b"
    until(lambda: "127.0.0.1 call-7.a_b" in caplog.text)
    names = {
        _ask(live, **{"X-Request-Id": odd}).headers["x-request-id"] for odd in ("", "a b", "x" * 65)
    }
    assert len(names) == 3
    assert all(name.startswith("req_") for name in names)


def test_a_forged_client_address_is_not_logged(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "auris.access")
    forged = "6.6.6.6 500 9.9 s \x1b[31mfake"
    for address, shown in ((forged, "unknown"), ("2001:db8::1", "2001:db8::1")):
        name = f"call-{len(address)}"
        _ask(live, **{"X-Forwarded-For": address, "X-Request-Id": name})
        until(lambda line=f" s {shown} {name}": line in caplog.text)
    assert "fake" not in caplog.text


def test_the_log_has_the_reason_of_a_failed_request(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "auris.access")
    live.transcribe(b"no audio")
    _ask(live, Host="rebound.example")
    with live.client() as client:
        client.put("/health")
    reasons = {400: "invalid_audio", 403: "forbidden_origin", 405: "method_not_allowed"}
    for status, reason in reasons.items():
        line = re.compile(rf"\S+ \S+ {status} \S+ s 127\.0\.0\.1 req_\w+ {reason}")
        # A line is logged after its response has been sent.
        until(lambda line=line: any(map(line.fullmatch, caplog.messages)))


def test_log_lines_can_be_json() -> None:
    record = logging.LogRecord("auris.access", logging.INFO, "", 0, "GET %s", ("/health",), None)
    record.fields = {"status": 200, "reason": None}
    line = json.loads(JsonLines().format(record))
    assert line["message"] == "GET /health"
    assert (line["level"], line["status"], line["reason"]) == ("INFO", 200, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])


def test_large_requests_are_refused(live: Live) -> None:
    """Before the body is read where its size is declared, and during the upload otherwise."""
    large = b"x" * (5 << 20)
    response = live.transcribe(large)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"

    def parts() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(5):
            yield b"x" * (1 << 20)

    with live.client() as client:
        response = client.post(
            "/v1/audio/transcriptions",
            content=parts(),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
    assert response.status_code == 413


def test_recordings_beyond_the_limits_are_refused(live: Live) -> None:
    bomb = encode(np.zeros((1, 130 * 16_000), np.int16), 16_000, "flac", "flac")
    assert len(bomb) < 1 << 17
    response = live.transcribe(bomb)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "audio_too_long"
    # The duration of a file that does not declare it is measured.
    assert live.transcribe(bomb[:26] + bytes(16) + bomb[42:]).status_code in (400, 413)
    fast = live.transcribe(wav(np.zeros((1, 4000), np.float32), 400_000))
    assert fast.status_code == 400
    assert "sample rate" in fast.json()["error"]["message"]
    wide = encode(np.zeros((6, 16_000), np.int16), 16_000, "wav", "pcm_s16le")
    assert live.transcribe(wide).status_code == 200
    many = bytearray(wide)
    many[22:24] = (12).to_bytes(2, "little")
    many[32:34] = (24).to_bytes(2, "little")
    assert live.transcribe(bytes(many)).status_code == 400


def test_logs_and_metrics_contain_no_user_content(
    live: Live, example: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "auris")
    assert live.transcribe(example).json()["text"] == EXAMPLE_TEXT
    live.transcribe(example, prompt="a secret word")
    with live.client() as client:
        client.get("/v1/secret/place?secret=1")
        counted = client.get("/metrics").text
    reported = caplog.text + counted
    assert "POST /v1/audio/transcriptions 200" in caplog.text
    for content in ("secret", "a.wav", "kitchen"):
        assert content not in reported
    assert 'auris_requests_total{method="POST",route="/v1/audio/transcriptions"' in counted
    assert "auris_engine_audio_seconds_total" in counted


def test_a_malformed_request_does_not_stop_the_server(live: Live) -> None:
    host, port = live.url.removeprefix("http://").split(":")
    for sent in (
        b"\x00\xff" * 100,
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), 5) as connection:
            try:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(100)
            except OSError:  # The server may have closed the connection before.
                answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert _ask(live, "/health").status_code == 200


def test_only_public_addresses_are_fetched(tmp_path: Path) -> None:
    settings = Settings(models=("tiny",), device="cpu", urls=True, state_dir=str(tmp_path))
    with running(settings) as server, server.client() as client:
        for url, expected in (
            ("http://127.0.0.1:1/a.wav", "private"),
            ("http://localhost/a.wav", "private"),
            ("file:///etc/passwd", "http or https"),
            ("data:audio/wav;base64,AAAA", "http or https"),
            ("/etc/passwd", "http or https"),
        ):
            for place in ("/v1/audio/transcriptions", "/v1/jobs"):
                response = client.post(place, data={"model": "tiny", "url": url})
                assert response.status_code == 400, response.text
                assert expected in response.json()["error"]["message"]


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="needs keys"):
        Settings(host="0.0.0.0")
    with pytest.raises(UsageError, match="16 characters"):
        Settings(keys=("short",))
    with pytest.raises(
        UsageError, match=r"max_jobs \(most_jobs\) has to be .* below 1e\+15"
    ) as wrong:
        Settings(most_jobs=0)
    assert wrong.value.sentence.startswith("--max-jobs (most_jobs)")
    settings = Settings(models=("a", "b"), keys=KEYS, state_dir="x", threads=2)
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_invalid_model_names_and_origins_are_refused() -> None:
    for alias in ("", "two words", "whisper-1=tiny", "a\nb"):
        with pytest.raises(UsageError, match="alias has to be a name"):
            Settings(aliases=(alias,))
    for origin in (
        "x",
        "",
        "page.example",
        "https://",
        "https://page.example/",
        "https://page.example/here",
        "https://a@page.example",
        "HTTPS://page.example",
        "https://page.example:port",
    ):
        with pytest.raises(UsageError, match=r"cors_origin has to be \* or an origin"):
            Settings(origins=(origin,))
    fine = (
        "*",
        "http://localhost:3000",
        "https://page.example",
        "http://[::1]:8",
        "app://a-b.c",
        "http://127.0.0.1",
    )
    assert Settings(origins=fine, aliases=("whisper-1",)).origins == fine


def test_an_alias_is_another_name_of_a_model(live: Live) -> None:
    for name in ("tiny", "tiny-ctc"):
        with pytest.raises(UsageError, match="is the name of a model that is served"):
            ModelRegistry(list(live.server.models), (name,))


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEYS[0]}\n\n{KEYS[1]}  \n{KEYS[0]}\n")
    assert read_keys([], str(file)) == KEYS
    assert read_keys(["one-on-the-command-line"], None) == ("one-on-the-command-line",)
    file.write_text("# none\n")
    with pytest.raises(UsageError, match="holds no keys"):
        read_keys([], str(file))
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys([], str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="without spaces"):
        read_keys(["with spaces in it, too"], None)


def test_loopback_hosts_and_the_default_state_dir(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("example.org")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state_dir() == tmp_path / "auris"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_state_dir() == tmp_path / "local" / "auris"
