"""Native libraries that cannot be loaded, fail, or get no threads."""

from __future__ import annotations

import importlib
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import auris
from auris.backends import native
from auris.backends.memory import within_memory
from auris.checkpoints.packed_formats import Packing, pack
from auris.diagnostics.doctor import environment
from auris.errors import DeviceError
from auris.pipeline import AsrPipeline
from tests.recordings import clip, tokens
from tests.tiny_models import write_tiny

HEADER = Path(auris.__file__).parents[2] / "native" / "auris_native.h"

needs_native = pytest.mark.skipif(not native.available(), reason="built without native code")


@pytest.fixture
def looked_for_anew() -> Iterator[None]:
    native._loaded.cache_clear()
    yield
    native._loaded.cache_clear()


def broken(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is damaged, lacks the functions, or is of another version."""
    library = tmp_path / "_native.so"
    if kind == "damaged":
        library.write_bytes(b"no library")
    elif kind == "foreign":
        foreign = importlib.import_module("safetensors._safetensors_rust").__file__
        assert foreign is not None
        library = Path(foreign)
    else:
        monkeypatch.setattr(native, "ABI", native.ABI + 1)
        return
    monkeypatch.setattr(native, "_paths", lambda: [tmp_path / "nothing", library])


@pytest.mark.usefixtures("looked_for_anew")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("damaged", "_native.so cannot be loaded"),
        ("foreign", "auris_abi"),
        pytest.param(
            "version", f"version {native.ABI}, and {native.ABI + 1} is needed", marks=needs_native
        ),
    ],
)
def test_an_unusable_library_has_one_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    reason: str,
) -> None:
    directory = write_tiny(tmp_path / "m", seed=1)
    broken(kind, tmp_path, monkeypatch)
    said = [
        tokens(
            AsrPipeline.from_pretrained(directory, dtype="int8").transcribe(
                clip(1.0), max_new_tokens=3
            )
        )
        for _ in range(2)
    ]
    assert said[0] == said[1]
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "models on the CPU are slower" in warning.getMessage()
    assert reason in warning.getMessage()
    (found,) = [finding for finding in environment() if finding.what == "int8 and int4"]
    assert found.text.startswith("PyTorch step")
    assert reason in found.text


@pytest.mark.usefixtures("looked_for_anew")
def test_a_package_without_native_code_has_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "_paths", lambda: [tmp_path / "nothing"])
    assert not native.available()
    assert native.missing() == "the package was built without a C++ compiler"
    assert not caplog.records


@pytest.mark.skipif(not HEADER.exists(), reason="an installed package")
def test_the_interface_versions_are_equal() -> None:
    (version,) = re.findall(r"#define AURIS_ABI (\d+)", HEADER.read_text(encoding="utf-8"))
    assert int(version) == native.ABI


@needs_native
def test_native_exceptions_are_raised_in_the_caller() -> None:
    matrix = native.Matrix(width=64, **pack(torch.ones(16, 64), Packing("int8")))
    x, out = torch.ones(1, 64), torch.empty(1, 16)
    library = native._built()
    # So many rows that a vector rejects the length, which is not a lack of memory.
    with pytest.raises(RuntimeError, match=r"the native code failed: .*vector"):
        library.auris_products(matrix.struct, x.data_ptr(), 1 << 62, out.data_ptr(), 1)
    with pytest.raises(MemoryError):
        library.auris_products(matrix.struct, x.data_ptr(), 1 << 52, out.data_ptr(), 1)
    assert torch.equal(native.products(x, matrix), torch.full((1, 16), 64.0))


WITHOUT_THREADS = """
import ctypes, torch
from auris.backends import native
from auris.checkpoints.packed_formats import Packing, pack
torch.set_num_threads(1)
matrix = native.Matrix(width=256, **pack(torch.randn(512, 256), Packing("int8")))
x = torch.randn(64, 256)
alone = native.products(x, matrix)
attributes = ctypes.create_string_buffer(256)
libc = ctypes.CDLL(None)
libc.pthread_attr_init(attributes)
libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(1 << 47))
assert libc.pthread_setattr_default_np(attributes) == 0
torch.set_num_threads(4)
shared = native.products(x, matrix)
torch.set_num_threads(1)
assert torch.equal(shared, alone)
print("done")
"""


@needs_native
@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc for impossible stacks")
def test_missing_threads_are_tolerated() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THREADS],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate"
            " memory: you tried to allocate 8 bytes. Error code 12 (Cannot allocate memory)"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_is_a_device_error(error: Exception) -> None:
    with pytest.raises(DeviceError, match="not enough memory"), within_memory():
        raise error


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: an illegal memory access was encountered",
        "view size is not compatible with input tensor's size and stride (memory format)",
        "more than one element of the written-to tensor refers to a single memory location",
        "cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned in memory",
    ],
)
def test_other_errors_that_mention_memory_are_not_changed(message: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(message)), within_memory():
        raise RuntimeError(message)
