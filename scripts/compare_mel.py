#!/usr/bin/env python3
"""Compare the log-mel with transformers' on every clip of some manifests.

    scripts/compare_mel.py ../shared/speech/*_dev.csv

Each CSV has a column wav, relative to its folder. The last line is JSON.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import Qwen3ASRFeatureExtractor

from auris.audio.features import log_mel
from auris.audio.io import load


def clips(manifest: Path) -> Iterator[Path]:
    """The recordings of a manifest."""
    with manifest.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            yield manifest.parent / row["wav"]


def error(path: Path, extractor: Qwen3ASRFeatureExtractor) -> float:
    """Mean square difference over the valid frames of one clip."""
    samples = load(path).samples
    ours = log_mel(samples)
    theirs = extractor(samples, sampling_rate=16000, padding=True)["input_features"]
    return float(torch.mean((ours - torch.as_tensor(theirs)[0, :, : ours.shape[1]]) ** 2))


def main(manifests: list[str]) -> None:
    """Print the worst clip of every manifest."""
    extractor = Qwen3ASRFeatureExtractor()
    worst: dict[str, float] = {}
    count = 0
    for manifest in map(Path, manifests):
        errors = [error(path, extractor) for path in clips(manifest)]
        count += len(errors)
        worst[manifest.name] = max(errors)
        print(f"{manifest.name}: {len(errors)} clips, worst mean square error {max(errors):.3g}")
    print(json.dumps({"clips": count, "worst": max(worst.values()), "by_set": worst}))


if __name__ == "__main__":
    main(sys.argv[1:])
