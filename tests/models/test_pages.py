"""Large tensors in large pages, and mapped pages that are given back."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest
import torch

from auris.models import pages

CPU = torch.device("cpu")
MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def huge_bytes(tensor: torch.Tensor) -> int:
    """Bytes of large pages in the mappings that a tensor lies in."""
    first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            begin, end = (int(part, 16) for part in head.split("-"))
            inside = begin < last and end > first
        elif inside and head == "AnonHugePages:":
            found += int(line.split()[1]) << 10
    return found


@pytest.mark.parametrize("shape", [(0,), (3, 5), (9, 1 << 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    made = pages.zeros(shape, dtype, CPU)
    assert (made.shape, made.dtype) == (shape, dtype)
    assert not made.any()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_tensors_lie_in_large_pages() -> None:
    if not MODES.exists() or "[never]" in MODES.read_text():
        pytest.skip("the system has no large pages")
    for size in (30 << 20, 25 << 20):  # glibc keeps them for the next tensors.
        torch.ones(size, dtype=torch.uint8)
    size = 2 * pages.LARGE_TENSOR
    made = pages.zeros((size,), torch.uint8, CPU)
    assert huge_bytes(made) > size / 2
    assert not made.any()


def test_only_whole_pages_inside_are_given_back(tmp_path: Path) -> None:
    page = mmap.PAGESIZE
    path = tmp_path / "zeros"
    path.write_bytes(bytes(5 * page))
    mapped = torch.from_file(str(path), size=5 * page, dtype=torch.uint8)
    mapped.fill_(7)  # In private memory: what is given back is read from the file again.
    pages.release(mapped[page - 1 : 3 * page + 1])
    given_back = (mapped == 0).nonzero().flatten()
    if hasattr(mmap, "MADV_DONTNEED") and sys.platform == "linux":
        assert (int(given_back.min()), int(given_back.max())) == (page, 3 * page - 1)
    assert len(given_back) in (0, 2 * page)
