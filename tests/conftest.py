"""Settings of all tests, and tiny models for tests of the pipeline."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from auris import AsrPipeline
from tests.tiny_models import ctc_config, write_tiny

# Slow examples on a busy machine are not errors.
settings.register_profile("auris", deadline=None)
settings.load_profile("auris")


NOT_MEASURED = {
    "architecture",
    "benchmarks",
    "fuzzing",
    "page",
    "reference",
    "test_docs.py",
    "test_equality.py",
}
"""Folders and files of tests that run few lines of the package that others do not, and take much
longer while coverage is measured: it slows all code in Python, that of other packages too."""

LONGEST = "test_tutorials.py"
"""The file with the longest tests: begun last, one of them would run alone at the end."""


def pytest_configure(config: pytest.Config) -> None:
    """End the first of two measurements that pytest-cov begins in a worker process. Nobody reads
    it; it would go on, and take its time, where the second is paused."""
    coverage = config.pluginmanager.getplugin("_cov")
    first = getattr(coverage, "cov_controller", None)
    if first is not None and "PYTEST_XDIST_WORKER" in os.environ:
        first.pause()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, and do not measure coverage in `NOT_MEASURED` and in tests of
    random inputs, which run the same lines hundreds of times.

    Threads that run while measuring is paused are not measured later, so tests of servers are.
    """
    items.sort(key=lambda item: item.path.name != LONGEST)
    for item in items:
        folders = item.path.parts
        random = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if not NOT_MEASURED.isdisjoint(folders) or (random and "server" not in folders):
            item.add_marker(pytest.mark.no_cover)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """Measure in one worker process alone what runs where tests are imported: it is the same in all
    of them, and takes twice as long where it is measured."""
    coverage = session.config.pluginmanager.getplugin("_cov")
    measured = getattr(coverage, "cov_controller", None)
    if measured is None or os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        return (yield)
    measured.pause()
    try:
        return (yield)
    finally:
        measured.resume()


def pytest_collection_finish() -> None:
    """Exclude the imported modules from garbage collection, which takes long otherwise."""
    gc.collect()
    gc.freeze()


def encodable(value: Any) -> Any:
    """A value of JSON in which halves of surrogate pairs are escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {encodable(key): encodable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [encodable(one) for one in value]
        return parts if isinstance(value, list) else tuple(parts)
    return value


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """pytest-xdist cannot send half a surrogate pair, in a log or a message of an assertion: the
    whole run would end with an internal error."""
    return encodable((yield))


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A test that sets the number of threads does not change it for later tests, in which threads
    would wait for each other on a busy machine."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


SIGNALS = ("SIGINT", "SIGTERM", "SIGALRM")


def process_state() -> dict[str, Any]:
    """What one test could change for all later ones of its process."""
    handlers = {
        name: signal.getsignal(getattr(signal, name)) for name in SIGNALS if hasattr(signal, name)
    }
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if hasattr(signal, "SIG_BLOCK") else ()
    loggers = [logging.getLogger(name) for name in (None, "auris")]
    return {
        **handlers,
        "blocked signals": set(blocked),
        "unraisablehook": sys.unraisablehook,
        "threading.excepthook": threading.excepthook,
        "logging": [(logger.level, logger.propagate, logger.disabled) for logger in loggers],
        "log handlers": [
            handler
            for logger in loggers
            for handler in logger.handlers
            if not type(handler).__module__.startswith("_pytest.")
        ],
    }


@pytest.fixture(autouse=True)
def same_process_state() -> Iterator[None]:
    """A test leaves signal handlers, hooks of exceptions and loggers as they were."""
    before, excepthook = process_state(), sys.excepthook
    yield
    sys.excepthook = excepthook  # Typer sets it at every call of a command.
    assert process_state() == before


@pytest.fixture(scope="module")
def qwen_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "qwen", seed=1)


@pytest.fixture(scope="module")
def ctc_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "ctc", config=ctc_config())


@pytest.fixture(scope="module")
def qwen(qwen_directory: Path) -> AsrPipeline:
    return AsrPipeline.from_pretrained(qwen_directory, device="cpu")


@pytest.fixture(scope="module")
def ctc(ctc_directory: Path) -> AsrPipeline:
    return AsrPipeline.from_pretrained(ctc_directory, device="cpu")
