#!/usr/bin/env python3
"""Quantize a checkpoint and tell what it took, the last line in JSON.

scripts/measure_quantizing.py IN OUT [int8|int4]
"""

from __future__ import annotations

import json
import struct
import sys
import time
from pathlib import Path

from auris.checkpoints.quantize import quantize
from auris.evaluation.loading import peak_gb


def largest_gb(directory: Path) -> float:
    """Size of the largest tensor of a checkpoint, by the headers of its files."""
    largest = 0
    for path in directory.glob("*.safetensors"):
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        ends = [one["data_offsets"] for name, one in header.items() if name != "__metadata__"]
        largest = max([largest, *(end - begin for begin, end in ends)])
    return largest / 1e9


def main() -> None:
    """Measure, and print."""
    source, out = map(Path, sys.argv[1:3])
    dtype = sys.argv[3] if len(sys.argv) > 3 else "int8"
    before, began = peak_gb(), time.perf_counter()
    quantize(source, out, dtype)  # type: ignore[arg-type]
    seconds, peak, largest = time.perf_counter() - began, peak_gb(), largest_gb(source)
    multiple = (peak - before) / largest
    print(
        f"quantized to {dtype} in {seconds:.0f} s; at most {peak:.2f} GB, {before:.2f} before, "
        f"so {multiple:.2f} times the largest tensor ({largest:.2f} GB) above the base"
    )
    figures = {"seconds": seconds, "peak_gb": peak, "base_gb": before, "largest_gb": largest}
    print(json.dumps({"quantizing": str(out), "dtype": dtype, **figures, "multiple": multiple}))


if __name__ == "__main__":
    main()
