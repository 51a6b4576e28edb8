"""Folders on local disk, in memory and on a loopback S3 server."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.scale.ray_double import double

__all__ = ["double"]

HAS_S3 = all(importlib.util.find_spec(name) for name in ("moto", "s3fs", "flask"))
"""Whether S3 can be tested: pip install s3fs 'moto[server]'."""

needs_s3 = pytest.mark.skipif(not HAS_S3, reason="needs s3fs and moto[server]")

S3_SETTINGS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """An address below which each test uses a folder of its own."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {**S3_SETTINGS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem(use_listings_cache=False).mkdir("corpora")
    yield "s3://corpora"
    server.stop()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def make_address(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A new folder of a kind of filesystem."""
    if kind == "local":
        return str(tmp_path / "run")
    pytest.importorskip("fsspec")
    name = uuid4().hex
    if kind == "memory":
        return f"memory://{name}"
    return f"{request.getfixturevalue('s3')}/{name}"


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=needs_s3)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new folder of every kind of filesystem."""
    return make_address(request.param, tmp_path, request)
