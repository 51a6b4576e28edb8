#!/usr/bin/env python3
"""Manifests for the Free Spoken Digit Dataset, as docs/tutorials/decoder.md uses them.

    python scripts/make_digit_sets.py digits

The folder is a copy of https://github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA 4.0). Its
recordings have names such as recordings/7_jackson_32.wav. The script writes into the folder

    train.csv   recordings from number 5 on, with their speakers
    dev.csv     recordings 0 to 4 of every speaker and digit, as the dataset's authors recommend
    text.csv    strings of two to six digits without audio
"""

from __future__ import annotations

import argparse
import csv
import random
import re
from pathlib import Path

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.(?:wav|flac)")
DEV_RECORDINGS = 5

Row = tuple[Path | str, str, str]
"""Recording, text and speaker."""


def main() -> None:
    """Write the manifests."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="copy of the dataset")
    parser.add_argument("--texts", type=int, default=500, help="strings of digits in text.csv")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    train: list[Row] = []
    dev: list[Row] = []
    for path in sorted(args.folder.rglob("*_*_*.*")):
        if found := NAME.fullmatch(path.name):
            row = (path.relative_to(args.folder), DIGITS[int(found[1])], found[2])
            (dev if int(found[3]) < DEV_RECORDINGS else train).append(row)
    if not train or not dev:
        raise SystemExit(f"{args.folder} has no recordings such as recordings/7_jackson_32.wav")
    rng = random.Random(args.seed)
    texts: list[Row] = [
        ("", " ".join(rng.choices(DIGITS, k=rng.randint(2, 6))), "") for _ in range(args.texts)
    ]
    for name, rows in {"train": train, "dev": dev, "text": texts}.items():
        with open(args.folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("wav", "text", "speaker"), *rows])
        print(f"{args.folder / name}.csv: {len(rows)} rows")


if __name__ == "__main__":
    main()
