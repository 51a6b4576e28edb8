#!/usr/bin/env python3
"""Make development sets from others: clips in a row, and audio in which nobody speaks.

    joined_SET_dev.csv  the clips of a given set in rows of up to 30 seconds, with short pauses
    silence_dev.csv     twelve minutes of silence, noise and music in clips of 30 s, without text
    silence_short_dev.csv
                        the same in 120 clips of half a second to eight

Training has no examples of plucked strings and bells. Silence, swelling noise, crackle and sweeps
are similar to its examples. The same seed writes the same files.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from flac_file import write_flac
from numpy.typing import NDArray

from auris.audio import io

RATE = 16_000
ROW_SECONDS = 30.0
PAUSE_SECONDS = (0.2, 0.8)
SILENCE_CLIPS = 24
SHORT_SECONDS = (0.5, 8.0)
SHORT_CLIPS = 120

Wave = NDArray[np.float32]


def read_rows(path: Path) -> list[tuple[Path, str]]:
    """Recordings and texts of a manifest."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [(path.parent / row["wav"], row["text"]) for row in csv.DictReader(file)]


def join_set(path: Path, out: Path, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Rows of one set, which `out` receives as files; names and texts."""
    done: list[tuple[str, str]] = []
    parts: list[Wave] = []
    texts: list[str] = []

    def flush() -> None:
        if parts:
            name = f"joined/{path.stem.removesuffix('_dev')}_{len(done):03d}.flac"
            write_flac(out / name, np.concatenate(parts))
            done.append((name, " ".join(texts)))
            parts.clear()
            texts.clear()

    rows = read_rows(path)
    for index in rng.permutation(len(rows)).tolist():
        file, text = rows[index]
        samples = io.load(file).samples
        pause = np.zeros(int(rng.uniform(*PAUSE_SECONDS) * RATE), np.float32)
        if sum(map(len, parts)) + len(samples) > ROW_SECONDS * RATE:
            flush()
        parts.extend([samples, pause])
        texts.append(text)
    flush()
    return done


# Audio without speech


def silence(rng: np.random.Generator, length: int) -> Wave:
    """Nothing, or the faint noise of a converter."""
    return np.asarray(rng.choice([0.0, 3e-5]) * rng.standard_normal(length), dtype=np.float32)


def swelling_noise(rng: np.random.Generator, length: int) -> Wave:
    """Filtered noise that comes and goes, as of cars or waves."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum *= 1.0 / np.maximum(np.arange(len(spectrum)), 50.0) ** rng.uniform(0.3, 1.0)
    wave = np.fft.irfft(spectrum, length)
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * np.arange(length) / RATE / rng.uniform(2, 9))
    return np.asarray(wave * swell, dtype=np.float32)


def crackle(rng: np.random.Generator, length: int) -> Wave:
    """An old record: clicks over hiss."""
    clicks = (rng.random(length) < 8.0 / RATE) * rng.standard_normal(length)
    return np.asarray(clicks + 0.02 * rng.standard_normal(length), dtype=np.float32)


def sweeps(rng: np.random.Generator, length: int) -> Wave:
    """A siren: tones whose pitch rises and falls."""
    pitch = 500 + 300 * np.sin(2 * np.pi * np.arange(length) / RATE / rng.uniform(0.5, 4))
    return np.asarray(np.sin(2 * np.pi * np.cumsum(pitch) / RATE), dtype=np.float32)


def plucked_strings(rng: np.random.Generator, length: int) -> Wave:
    """Arpeggios on strings by the algorithm of Karplus and Strong (1983)."""
    wave = np.zeros(length)
    begin = 0
    while begin < length:
        pitch = 110.0 * 2 ** (rng.choice([0, 3, 5, 7, 10, 12, 15, 19, 24]) / 12)
        period = round(RATE / pitch)
        string = rng.uniform(-1, 1, period)
        periods = []
        for _ in range(int(1.2 * RATE / period)):
            periods.append(string)
            string = 0.498 * (string + np.roll(string, 1))
        tone = np.concatenate(periods)[: length - begin]
        wave[begin : begin + len(tone)] += tone
        begin += int(rng.choice([0.15, 0.3, 0.45]) * RATE)
    return wave.astype(np.float32)


def bells(rng: np.random.Generator, length: int) -> Wave:
    """Bells: partials that are no multiples of each other, as on a church tower."""
    wave = np.zeros(length)
    for begin in range(0, length, int(rng.uniform(0.3, 1.5) * RATE)):
        times = np.arange(min(length - begin, 3 * RATE)) / RATE
        pitch = rng.uniform(150.0, 900.0)
        for ratio in (0.5, 1.0, 1.19, 1.56, 2.0, 2.51, 3.01):
            tone = np.sin(2 * np.pi * pitch * ratio * times + rng.uniform(0, 6))
            wave[begin : begin + len(times)] += tone * np.exp(-times * ratio * 1.5) / ratio
    return wave.astype(np.float32)


MAKERS: tuple[Callable[[np.random.Generator, int], Wave], ...] = (
    silence,
    swelling_noise,
    crackle,
    sweeps,
    plucked_strings,
    bells,
)


def silence_set(
    out: Path, rng: np.random.Generator, folder: str, lengths: Sequence[float]
) -> list[tuple[str, str]]:
    """Clips without speech, of some seconds each; names and empty texts."""
    rows = []
    for n, seconds in enumerate(lengths):
        make = MAKERS[n % len(MAKERS)]
        wave = make(rng, int(seconds * RATE))
        peak = float(np.abs(wave).max())
        if make is not silence:
            wave = wave * np.float32(10 ** (rng.uniform(-40, -1) / 20) / peak)
        name = f"{folder}/{n:02d}_{make.__name__}.flac"
        write_flac(out / name, wave)
        rows.append((name, ""))
    return rows


def write_manifest(path: Path, rows: list[tuple[str, str]]) -> None:
    """A CSV of names and texts."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("wav", "text"), *rows])
    print(f"{path}: {len(rows)} clips")


def main() -> None:
    """Write both sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for FLAC and CSV")
    parser.add_argument("--set", type=Path, nargs="*", default=[], help="manifests to join")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.set:
        name = path.stem.removesuffix("_dev")
        write_manifest(args.out / f"joined_{name}_dev.csv", join_set(path, args.out, rng))
    write_manifest(
        args.out / "silence_dev.csv",
        silence_set(args.out, rng, "silence", [ROW_SECONDS] * SILENCE_CLIPS),
    )
    lengths = rng.uniform(*SHORT_SECONDS, SHORT_CLIPS).tolist()
    write_manifest(
        args.out / "silence_short_dev.csv", silence_set(args.out, rng, "silence_short", lengths)
    )


if __name__ == "__main__":
    main()
