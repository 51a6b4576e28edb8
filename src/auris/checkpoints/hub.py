"""Finding models: directories, bundled models, and hub ids in the cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from auris.checkpoints.gguf_header import SUFFIX as GGUF_SUFFIX
from auris.errors import MissingExtra, ModelNotFound, UnknownModel, UsageError

DEFAULT_MODEL = "tiny"
"""The bundled model that is used when none is named."""

SPEAKER_MODEL = "speaker"
"""The bundled speaker encoder, which is no speech recognizer."""

HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
"""OWNER/NAME, or OWNER/NAME@REVISION."""

FILES = ["*.json", "*.safetensors", "*.jinja", "merges.txt"]
"""What a model directory may hold; pickled weights are never fetched."""

OUR_MARKS = (b'"qwen3_asr"', b'"auris"')
"""One of these is in the config.json of every model that can be used."""


@dataclass(frozen=True)
class ResolvedModel:
    """A name and the directory of its model."""

    name: str
    directory: Path
    origin: Literal["directory", "bundled", "hub"]


def bundled_models() -> dict[str, Path]:
    """Speech recognizers inside the package, by name."""
    root = Path(str(resources.files("auris"))) / "bundled"
    models = {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}
    models.pop(SPEAKER_MODEL, None)
    return models


def bundled_speaker_model() -> Path:
    """The speaker encoder inside the package."""
    return Path(str(resources.files("auris"))) / "bundled" / SPEAKER_MODEL


def bundled_language_models() -> dict[str, Path]:
    """Files of language models inside the package, by name."""
    root = Path(str(resources.files("auris"))) / "bundled"
    return {path.stem: path for path in sorted(root.glob("*/*.ngrams"))}


def cached_models() -> dict[str, Path]:
    """Hub models in the cache that look like ours, by id; none without huggingface_hub."""
    try:
        from huggingface_hub import CacheNotFound, scan_cache_dir
    except ImportError:
        return {}
    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return {}
    models = {}
    for repo in sorted(repos, key=lambda repo: str(repo.repo_id)):
        # The newest revision that was fetched is the one that counts.
        for revision in sorted(repo.revisions, key=lambda revision: float(revision.last_modified)):
            config = revision.snapshot_path / "config.json"
            if config.exists() and any(mark in config.read_bytes() for mark in OUR_MARKS):
                models[str(repo.repo_id)] = Path(revision.snapshot_path)
    return models


def _path(name: str | Path) -> Path:
    """A name as a path that the file system can look up."""
    try:
        path = Path(name).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    # A home of an unknown user, a name that is too long, a folder without permission, a zero byte.
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise UnknownModel(
            f"{str(name)!r} is no valid model name ({error})",
            "",
            "name a directory, a bundled model or a hub id",
        ) from None
    return path


def resolve(
    name: str | Path, local_files_only: bool = False, revision: str | None = None
) -> ResolvedModel:
    """Find a model.

    Args:
        name: a directory, a GGUF file, the name of a bundled model, or a hub id such as
            "Qwen/Qwen3-ASR-0.6B" (fetched when it is not in the cache yet), also with a branch, a
            tag or a commit: "Qwen/Qwen3-ASR-0.6B@main".
        local_files_only: never use the network.
        revision: the branch, tag or commit, if the name has none.

    Raises:
        UnknownModel: it is no directory, bundled model or hub id.
        ModelNotFound: the hub id is not in the cache and cannot be fetched.
        UsageError: there are two revisions, or one of what is not on the hub.
        MissingExtra: a hub id without huggingface_hub installed.
    """
    path = _path(name)
    if str(name) and (path.is_dir() or (path.is_file() and path.suffix.lower() == GGUF_SUFFIX)):
        _check_no_revision(name, revision, "a directory")
        return ResolvedModel(str(name), path, "directory")
    bundled = bundled_models()
    if str(name) in bundled:
        _check_no_revision(name, revision, "a bundled model")
        return ResolvedModel(str(name), bundled[str(name)], "bundled")
    if str(name) and path.exists():
        raise UnknownModel(
            f"{str(name)!r} is a file",
            "a model is a directory",
            f"name the directory that holds config.json, or a {GGUF_SUFFIX} file",
        )
    if isinstance(name, str) and HUB_ID.fullmatch(name) and not name.startswith("."):
        directory = pull(name, revision, local_files_only)
        return ResolvedModel(name if revision is None else f"{name}@{revision}", directory, "hub")
    raise UnknownModel(
        f"{str(name)!r} is neither a directory nor a bundled model nor a hub id (owner/name)",
        "",
        f"name a directory, one of {', '.join(bundled) or 'the bundled models (none here)'}, "
        "or an id such as Qwen/Qwen3-ASR-0.6B",
    )


def _check_no_revision(name: str | Path, revision: str | None, kind: str) -> None:
    if revision is not None:
        raise UsageError(
            "--revision needs a hub id",
            f"{str(name)!r} is {kind}",
            "leave it out, or name a hub id",
        )


def pull(
    name: str,
    revision: str | None = None,
    local_files_only: bool = False,
    cache_dir: Path | None = None,
) -> Path:
    """Fetch a model from the hub into the cache and return its directory.

    The cache is huggingface_hub's own: HF_HOME, HF_HUB_CACHE and `cache_dir` move it,
    HF_HUB_OFFLINE=1 and `local_files_only` forbid the network.

    Raises:
        UsageError: the name is no hub id, or there are two revisions.
        ModelNotFound: the hub has no such model, cannot be reached, or the cache lacks it.
        MissingExtra: huggingface_hub is not installed.
    """
    match = HUB_ID.fullmatch(name)
    if match is None:
        raise UsageError(
            "A hub id has to be OWNER/NAME or OWNER/NAME@REVISION",
            f"{name!r} was given",
            "correct the name",
        )
    if match[2] is not None and revision not in (None, match[2]):
        raise UsageError(
            "Only one revision can be chosen",
            f"{name!r} and --revision {revision} name two",
            "leave one of them out",
        )
    name, revision = match[1], match[2] or revision
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtra(
            "Hub ids need the package huggingface_hub",
            "it is not installed",
            "run pip install 'auris-asr[hub]', or name a directory",
        ) from None
    try:
        directory = snapshot_download(
            name,
            revision=revision,
            local_files_only=local_files_only,
            allow_patterns=FILES,
            cache_dir=cache_dir,
        )
    # Whatever the hub's client meets on the way (no network, no such model, no permission, not in
    # the cache, a connection that breaks off) ends the same way for the caller; its kinds of
    # errors have changed with the library that it fetches with.
    except Exception as error:
        requested = name if revision is None else f"{name}@{revision}"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelNotFound(
            f"{requested!r} is not in the cache and could not be fetched "
            f"({type(error).__name__}: {reason})",
            "",
            "check the name and the network, or download the files and name their directory",
        ) from None
    return Path(directory)
