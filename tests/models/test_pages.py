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
    size = 64 << 20  # More than glibc takes from memory that has been used before.
    assert huge_bytes(pages.zeros((size,), torch.uint8, CPU)) > size / 2


def test_advice_outside_of_a_page_is_not_given(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(bytes(range(256)) * 64)
    mapped = torch.from_file(str(path), size=1 << 14, dtype=torch.uint8)
    for part in (mapped, mapped[3:7], mapped[1 : mmap.PAGESIZE + 1]):
        wanted = part.clone()
        pages.release(part)
        assert torch.equal(part, wanted)
