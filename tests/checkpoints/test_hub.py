"""How model names are resolved, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from auris.checkpoints import hub
from auris.checkpoints.hub import bundled_models, cached_models, pull, resolve
from auris.errors import MissingExtra, ModelNotFound
from tests.checkpoints.files import copied, load

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, with the network forbidden."""
    constants = pytest.importorskip("huggingface_hub.constants")
    place = tmp_path / "hub-cache"
    place.mkdir()
    scanner = sys.modules[sys.modules["huggingface_hub"].scan_cache_dir.__module__]
    monkeypatch.setattr(scanner, "HF_HUB_CACHE", str(place))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
    return place


def put(cache: Path, name: str, source: Path, commit: str = COMMIT, ref: str = "main") -> Path:
    """Write a model into a cache in the hub's own layout: blobs, snapshots of links, refs."""
    repo = cache / f"models--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / commit
    for folder in (repo / "blobs", snapshot, repo / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    for place, file in enumerate(sorted(source.iterdir())):
        blob = repo / "blobs" / f"{place:040x}{commit[:4]}"
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    (repo / "refs" / ref).write_text(commit)
    return snapshot


@pytest.fixture
def bundled(tmp_path: Path, written: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one bundled model, `small`, and a folder that is not a model."""
    root = tmp_path / "package"
    copied(written["ctc"], root / "bundled" / "small")
    (root / "bundled" / "notes").mkdir()
    monkeypatch.setattr(hub.resources, "files", lambda package: root)
    return root / "bundled"


class TestDirectories:
    def test_directory(self, written: dict[str, Path]) -> None:
        for name in (written["hf"], str(written["hf"])):
            found = resolve(name)
            assert (found.directory, found.origin) == (written["hf"], "directory")
            assert found.name == str(name)

    def test_relative_and_home(
        self, written: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(written["hf"].parent)
        monkeypatch.setenv("HOME", str(written["hf"].parent))
        assert resolve("hf").origin == "directory"
        assert resolve("./hf").directory == Path("hf")
        assert resolve("~/hf").directory == written["hf"]

    def test_file(self, written: dict[str, Path]) -> None:
        with pytest.raises(ModelNotFound, match="is a file"):
            resolve(written["hf"] / "model.safetensors")

    def test_a_directory_takes_precedence_over_a_bundled_name(
        self, bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "small").mkdir()
        monkeypatch.chdir(tmp_path)
        assert resolve("small").origin == "directory"


class TestBundled:
    def test_by_name(self, bundled: Path) -> None:
        assert bundled_models() == {"small": bundled / "small"}
        found = resolve("small")
        assert (found.name, found.directory, found.origin) == (
            "small",
            bundled / "small",
            "bundled",
        )
        load(found.directory)

    def test_unknown_names_list_them(self, bundled: Path) -> None:
        with pytest.raises(ModelNotFound, match="one of small, or an id"):
            resolve("smal")

    def test_bundled_models_are_listed(self) -> None:
        for name, directory in bundled_models().items():
            assert resolve(name).directory == directory
            load(directory)


NONSENSE = [
    "",
    "nonsense",
    "./nowhere",
    "../up",
    "/no/such/place",
    "a/b/c",
    "a b/c",
    "hf:model",
    "owner/",
    "x" * 5000,
    "~nobody-has-this-name/x",
    "zero\x00byte",
    "\udce9",
]


@pytest.mark.parametrize("name", NONSENSE)
def test_invalid_names(name: str, cache: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(name)
    assert repr(name) in str(caught.value)


@contextmanager
def refusing_server(status: int) -> Iterator[tuple[str, list[str]]]:
    """A hub that answers everything with one status; yields its address and the requested paths."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def online(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Allow the network, with the hub at a local address."""
    from huggingface_hub import constants, utils

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    # Before version 1.0 a session that was made offline stays so.
    getattr(utils, "reset_sessions", lambda: None)()


class TestHub:
    def test_offline_and_not_in_the_cache(self, cache: Path) -> None:
        with pytest.raises(ModelNotFound) as caught:
            resolve("Qwen/Qwen3-ASR-0.6B")
        text = str(caught.value)
        assert "'Qwen/Qwen3-ASR-0.6B' is not in the cache and could not be fetched" in text
        assert "download the files and name their directory" in text
        assert "\n" not in text

    def test_offline_by_environment(self, tmp_path: Path, written: dict[str, Path]) -> None:
        """HF_HUB_OFFLINE and HF_HOME are read when the hub's client is imported."""
        put(tmp_path / "hub", "me/mine", written["hf"])
        code = (
            "from auris.checkpoints.hub import resolve\n"
            "from auris.errors import ModelNotFound\n"
            "print(resolve('me/mine').directory)\n"
            "try: resolve('me/other')\n"
            "except ModelNotFound as error: print(error)\n"
        )
        environment = {
            **os.environ,
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        environment.pop("HF_HUB_CACHE", None)
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.strip().splitlines()
        assert first == str(tmp_path / "hub/models--me--mine/snapshots" / COMMIT)
        assert "could not be fetched" in second

    @pytest.mark.parametrize("layout", ["hf", "published", "native"])
    def test_in_the_cache(self, cache: Path, written: dict[str, Path], layout: str) -> None:
        snapshot = put(cache, "me/mine", written[layout])
        found = resolve("me/mine")
        assert (found.name, found.directory, found.origin) == ("me/mine", snapshot, "hub")
        load(found.directory)

    def test_a_file_with_the_name_of_the_owner_is_ignored(
        self,
        cache: Path,
        written: dict[str, Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        put(cache, "me/mine", written["hf"])
        (tmp_path / "me").write_text("a file")
        monkeypatch.chdir(tmp_path)
        assert resolve("me/mine").origin == "hub"

    def test_revisions(self, cache: Path, written: dict[str, Path]) -> None:
        old = put(cache, "me/mine", written["hf"], "a" * 40, ref="old")
        new = put(cache, "me/mine", written["published"], "b" * 40)
        assert pull("me/mine", revision="old") == old
        assert pull("me/mine", revision="a" * 40) == old
        assert pull("me/mine") == new
        with pytest.raises(ModelNotFound):
            pull("me/mine", revision="none")

    def test_pickled_weights_are_never_fetched(
        self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import huggingface_hub
        from huggingface_hub.utils import filter_repo_objects

        asked: dict[str, Any] = {}

        def fetch(name: str, **options: Any) -> str:
            asked.update(options, name=name)
            return str(tmp_path)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
        assert pull("me/mine", revision="v1") == tmp_path
        assert (asked["name"], asked["revision"]) == ("me/mine", "v1")
        needed = ["config.json", "merges.txt", "model-00001-of-00002.safetensors", "vocab.json"]
        spare = ["README.md", "model.pt", "pytorch_model.bin", "optimizer.pkl", "code.py"]
        kept = filter_repo_objects([*needed, *spare], allow_patterns=asked["allow_patterns"])
        assert [*kept] == needed

    def test_another_cache(self, cache: Path, written: dict[str, Path], tmp_path: Path) -> None:
        snapshot = put(tmp_path / "other", "me/mine", written["hf"])
        assert pull("me/mine", cache_dir=tmp_path / "other") == snapshot
        with pytest.raises(ModelNotFound):
            pull("me/mine")

    @pytest.mark.parametrize("status", [401, 403, 404, 418, 500])
    def test_error_responses(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        with refusing_server(status) as (address, asked):
            online(monkeypatch, address)
            with pytest.raises(ModelNotFound, match="could not be fetched") as caught:
                resolve("me/mine")
            assert any("me/mine" in path for path in asked)
            assert "\n" not in str(caught.value)
            asked.clear()
            with pytest.raises(ModelNotFound, match="could not be fetched"):
                resolve("me/mine", local_files_only=True)
            assert not asked

    def test_an_unreachable_server(
        self, cache: Path, written: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A refused connection is reported like a missing model, unless the cache has it."""
        with refusing_server(404) as (address, _):
            pass
        online(monkeypatch, address)
        with pytest.raises(ModelNotFound, match="could not be fetched"):
            resolve("me/mine")
        snapshot = put(cache, "me/mine", written["hf"])
        assert resolve("me/mine").directory == snapshot

    @pytest.mark.parametrize("name", ["a--b/c", "me/..", "me/mine.git", "-me/mine", "me/x" * 50])
    def test_invalid_ids(self, cache: Path, name: str) -> None:
        with pytest.raises(ModelNotFound):
            resolve(name)

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(MissingExtra, match=r"auris-asr\[hub\]"):
            resolve("me/mine")
        assert cached_models() == {}


class TestCachedModels:
    def test_only_supported_models_are_listed(
        self, cache: Path, written: dict[str, Path], tmp_path: Path
    ) -> None:
        places = {f"me/{name}": put(cache, f"me/{name}", path) for name, path in written.items()}
        other = tmp_path / "other"
        other.mkdir()
        (other / "config.json").write_text('{"model_type": "whisper"}')
        put(cache, "me/whisper", other)
        empty = tmp_path / "empty"
        empty.mkdir()
        put(cache, "me/empty", empty)
        assert cached_models() == places

    def test_the_newest_revision(self, cache: Path, written: dict[str, Path]) -> None:
        for number, commit in enumerate("cab"):
            snapshot = put(cache, "me/mine", written["hf"], commit * 40, ref=commit)
            for file in snapshot.iterdir():
                os.utime(file.resolve(), (1e9 + number, 1e9 + number))
        assert cached_models() == {"me/mine": snapshot}

    def test_no_cache(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert cached_models() == {}
        cache.rmdir()
        assert cached_models() == {}
