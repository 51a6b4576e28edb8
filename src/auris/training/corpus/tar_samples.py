"""Samples of tar files in the layout of WebDataset: members of one name with several suffixes."""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Iterator
from typing import Any

from auris.audio.io import Excerpt
from auris.audio.listing import MEDIA
from auris.errors import UnreadableAudio
from auris.scale.rows import StorageFailures, StoredFile, unreadable_source

LARGEST_MEMBER = 1 << 26
"""Bytes of the largest recording in a tar file that is read."""


def tar_samples(
    uri: str, failures: StorageFailures
) -> Iterator[tuple[str, Excerpt, dict[str, Any]]]:
    """The samples of a tar file: name, recording, and values of its .json and .txt members.

    The members of a sample follow each other; a second recording or text of the same name begins
    another sample. Errors are those of the filesystem and of tarfile.
    """
    key, parts, audio, values = "", set[str](), None, dict[str, Any]()
    with StoredFile(uri, failures=failures)() as file, tarfile.open(fileobj=file) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # Else all headers stay in memory.
            if not member.isfile():
                continue
            stem, suffix = posixpath.splitext(member.name)
            part = "audio" if suffix.lower() in MEDIA else suffix
            if stem != key or part in parts:
                if audio is not None:
                    yield f"{uri}/{key}", audio, values
                key, parts, audio, values = stem, set(), None, {}
            parts.add(part)
            if part == "audio":
                audio = _audio(tar, member)
            elif suffix == ".json":
                values |= _json(_read(tar, member))
            elif suffix == ".txt":
                values["text"] = _read(tar, member).decode("utf-8", "replace").strip()
    if audio is not None:
        yield f"{uri}/{key}", audio, values


def _audio(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Excerpt:
    if member.size > LARGEST_MEMBER:
        error = UnreadableAudio(
            f"A recording in a tar file may have up to {LARGEST_MEMBER >> 20} MiB",
            f"it has {member.size >> 20}",
            "cut it",
        )
        return unreadable_source(error)
    return Excerpt(_read(tar, member))


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None  # It is a regular file.
    return file.read()


def _json(content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
