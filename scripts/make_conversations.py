#!/usr/bin/env python3
"""Make conversations whose speakers are known in time, from recordings of single speakers.

    NAME.flac        the conversation
    NAME.rttm        who speaks when
    NAME.stm         the words of each turn, with --whole-clips
    NAME-known/      recordings of speakers, with --known-seconds
    conversations.csv  the columns wav, rttm, stm, known, speakers, seconds, overlap

For `auris benchmark der` and `auris benchmark cpwer`. Clips come from manifests with the columns
wav, text and speaker; by default of development sets, so that no model has been trained on the
speakers. Turns are 0.5 to 20 s long: whole clips of a speaker, or the beginning of one, whose words
are not known. Reference times come from the levels of the clips before they are mixed. Known
speakers are all of a conversation but the last one, and one who takes no part; their recordings are
clips that no conversation has. The same seed makes the same conversations.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from channels import in_room
from flac_file import RATE, write_flac
from numpy.typing import NDArray

from auris.audio.io import load

Wave = NDArray[np.float32]
Stretch = tuple[float, float, str]
"""Start and end in seconds, and the speaker."""

FRAME = RATE // 100
SPEECH_DB = -30.0
"""A frame this far below the loud frames of its clip is silent."""

NOISE_DB, MOST_NOISE_DB = 8.0, -12.0
"""So is one that is less than this above the quietest frames, but not one that is louder than the
second number, relative to the loud frames."""

LONGEST_PAUSE = 0.3
"""A longer pause inside a clip ends a stretch of the reference, in seconds."""

SHORT_TURNS = 0.2
"""Share of turns that are the beginning of a clip, 0.5 to 1.5 s long; their text is not known."""

LEAST_SPEAKER_SECONDS = 40.0
"""Speakers with less audio do not take part."""

WAVE_LEVEL = 0.05
"""Root mean square of the speech of a clip, before its speaker's gain."""


@dataclass(frozen=True)
class Clip:
    """A recording of one speaker."""

    path: Path
    text: str
    speaker: str


@dataclass(frozen=True)
class Plan:
    """What a conversation is made of."""

    name: str
    speakers: tuple[str, ...]
    seconds: float
    overlap: float
    noise_db: float
    room: int


def read_clips(manifests: Sequence[Path], names: set[str] | None) -> dict[str, list[Clip]]:
    """Clips by speaker, of speakers with enough audio."""
    clips: dict[str, list[Clip]] = {}
    seconds: dict[str, float] = {}
    for manifest in manifests:
        with manifest.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                name = row["speaker"]
                several = name in ("", "unknown", "film") or "_cut_" in name
                if several or (names is not None and name not in names):
                    continue
                clips.setdefault(name, []).append(
                    Clip(manifest.parent / row["wav"], row["text"], name)
                )
                seconds[name] = seconds.get(name, 0.0) + float(row["seconds"])
    return {name: clips[name] for name in sorted(clips) if seconds[name] >= LEAST_SPEAKER_SECONDS}


def speech_frames(samples: Wave) -> NDArray[np.bool_]:
    """Whether each 10 ms of a clip hold speech, by their level; short pauses are filled."""
    count = len(samples) // FRAME
    powers = np.square(samples[: count * FRAME].reshape(count, FRAME).astype(np.float64)).mean(1)
    smooth = np.convolve(powers, np.ones(5) / 5, "same")
    quiet, loud = 10 * np.log10(np.percentile(smooth, (5, 95)) + 1e-12)
    limit = max(loud + SPEECH_DB, min(quiet + NOISE_DB, loud + MOST_NOISE_DB))
    active = 10 * np.log10(smooth + 1e-12) > limit
    indices = np.flatnonzero(active)
    for before, after in pairwise(indices):
        if after - before <= LONGEST_PAUSE * 100:
            active[before:after] = True
    return np.asarray(active)


def trimmed(samples: Wave) -> tuple[Wave, NDArray[np.bool_]]:
    """A clip from its first to its last speech, with its active frames."""
    active = speech_frames(samples)
    indices = np.flatnonzero(active)
    if not len(indices):
        return samples[:0], active[:0]
    first, last = indices[0], indices[-1] + 1
    part = samples[first * FRAME : last * FRAME]
    level = np.sqrt(np.square(part, dtype=np.float64).mean())
    return (part * (WAVE_LEVEL / max(level, 1e-6))).astype(np.float32), active[first:last]


def stretches(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and end frame of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


@dataclass(frozen=True)
class Turn:
    """What a speaker says at once: samples, active frames, and the text where it is known."""

    speaker: str
    samples: Wave
    active: NDArray[np.bool_]
    text: str | None


class Voices:
    """The clips of the speakers, given out in a random order again and again."""

    def __init__(
        self, clips: dict[str, list[Clip]], rng: random.Random, short_turns: float
    ) -> None:
        self._clips, self._rng, self._short_turns = clips, rng, short_turns
        self._waiting: dict[str, list[Clip]] = {}

    def turn(self, speaker: str) -> Turn:
        """The next turn of a speaker."""
        if self._rng.random() < self._short_turns:
            samples, active = self._next(speaker)[:2]
            length = round(self._rng.uniform(0.5, 1.5) * 100)
            return Turn(speaker, samples[: length * FRAME], active[:length], None)
        wanted = np.exp(self._rng.uniform(np.log(1.0), np.log(18.0))) * 100
        samples, active, text = self._next(speaker)
        texts = [text]
        while len(active) < wanted:
            more, longer, text = self._next(speaker)
            if len(active) + len(longer) > 2000:
                break
            pause = self._rng.randint(10, 30)
            samples = np.concatenate([samples, np.zeros(pause * FRAME, np.float32), more])
            active = np.concatenate([active, np.ones(pause, bool), longer])
            texts.append(text)
        return Turn(speaker, samples, active, " ".join(texts))

    def _next(self, speaker: str) -> tuple[Wave, NDArray[np.bool_], str]:
        while True:
            if not self._waiting.get(speaker):
                self._waiting[speaker] = list(self._clips[speaker])
                self._rng.shuffle(self._waiting[speaker])
            clip = self._waiting[speaker].pop()
            samples, active = trimmed(load(clip.path).samples)
            if len(active) >= 50:
                return samples, active, clip.text


def conversation(
    plan: Plan, voices: Voices, rng: random.Random
) -> tuple[Wave, list[Stretch], list[tuple[float, float, str, str]], float]:
    """Samples, reference stretches, texts, and the share of speech that overlaps."""
    frames = round(plan.seconds * 100)
    mixed = np.zeros((frames + 2500) * FRAME, np.float32)
    speaking = np.zeros((len(plan.speakers), frames + 2500), bool)
    gains = {name: 10 ** (rng.uniform(-4, 4) / 20) for name in plan.speakers}
    texts: list[tuple[float, float, str, str]] = []
    end = rng.randint(20, 100)
    previous = ""
    order = list(plan.speakers)
    rng.shuffle(order)
    while end < frames - 100:
        others = [name for name in plan.speakers if name != previous] or list(plan.speakers)
        name = order.pop() if order else rng.choice(others)
        turn = voices.turn(name)
        current = speaking.sum()
        overlapped = (speaking.sum(0) > 1).sum() * 2 / max(current, 1)
        start = end + rng.randint(5, 90)
        if previous and overlapped < plan.overlap:
            most = min(len(turn.active), 300) * 3 // 4
            start = max(end - rng.randint(30, max(most, 31)), 0)
        samples = turn.samples * gains[name]
        mixed[start * FRAME : start * FRAME + len(samples)] += samples
        speaking[plan.speakers.index(name), start : start + len(turn.active)] |= turn.active
        if turn.text is not None:
            texts.append((start / 100, (start + len(turn.active)) / 100, name, turn.text))
        end = max(end, start + len(turn.active))
        previous = name
    length = (end + rng.randint(20, 100)) * FRAME
    generator = np.random.default_rng(rng.getrandbits(32))
    placed = mixed[:length]
    if plan.room:
        placed = in_room(placed, np.random.default_rng(plan.room))
    placed = placed + noise(length, generator) * WAVE_LEVEL * 10 ** (-plan.noise_db / 20)
    placed = placed / max(1.0, float(np.abs(placed).max()) / 0.9)
    reference = sorted(
        (first / 100, last / 100, name)
        for row, name in zip(speaking, plan.speakers, strict=True)
        for first, last in stretches(row)
    )
    overlap = float((speaking.sum(0) > 1).sum() / max((speaking.sum(0) > 0).sum(), 1))
    return placed.astype(np.float32), reference, texts, overlap


def take_known(clips: dict[str, list[Clip]], seconds: float) -> dict[str, Wave]:
    """Take the first clips of each speaker out, until they are so long together."""
    known = {}
    for speaker, all_clips in clips.items():
        parts: list[Wave] = []
        while sum(map(len, parts)) < seconds * RATE and len(all_clips) > 1:
            parts.append(trimmed(load(all_clips.pop(0).path).samples)[0])
        known[speaker] = np.concatenate(parts)[: round(seconds * RATE)]
    return known


def write_known(folder: Path, plan: Plan, known: dict[str, Wave]) -> None:
    """Write the recordings of the known speakers of a conversation."""
    absent = next(name for name in reversed(known) if name not in plan.speakers)
    folder.mkdir(exist_ok=True)
    for name in (*plan.speakers[:-1], absent):
        write_flac(folder / f"{name}.flac", known[name])


def noise(length: int, generator: np.random.Generator) -> Wave:
    """Noise of a room: its power falls with the frequency; blocks keep the memory small."""
    blocks = []
    for first in range(0, length, 30 * RATE):
        size = min(30 * RATE, length - first)
        spectrum = np.fft.rfft(generator.standard_normal(size))
        hertz = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 30.0)
        block = np.fft.irfft(spectrum / np.sqrt(hertz), size)
        blocks.append(block / np.sqrt(np.square(block).mean()))
    return np.concatenate(blocks).astype(np.float32)


def plans(speakers: Sequence[str], args: argparse.Namespace, rng: random.Random) -> list[Plan]:
    """The conversations to make: numbers of speakers, overlap, noise and rooms take turns."""
    made = []
    for index in range(args.count):
        count = args.least + index % (args.most - args.least + 1)
        overlap = (0.0, 0.05, 0.1, 0.2)[index // 2 % 4]
        chosen = tuple(rng.sample(list(speakers), count))
        noise_db = rng.uniform(12, 35)
        made.append(Plan(f"talk{index:02d}", chosen, args.seconds, overlap, noise_db, index % 3))
    return made


def main() -> None:
    """Write the conversations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("manifests", type=Path, nargs="+", help="CSV with wav, text and speaker")
    parser.add_argument("--out", type=Path, required=True, help="folder for the conversations")
    parser.add_argument("--count", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--least", type=int, default=2, help="smallest number of speakers")
    parser.add_argument("--most", type=int, default=6, help="largest number of speakers")
    parser.add_argument("--speakers", nargs="*", help="names of the speakers to use (all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--whole-clips", action="store_true", help="no beginnings of clips, so all words are known"
    )
    parser.add_argument(
        "--known-seconds", type=float, help="length of recordings of known speakers (none)"
    )
    args = parser.parse_args()
    rng = random.Random(args.seed)
    clips = read_clips(args.manifests, set(args.speakers) if args.speakers else None)
    known = take_known(clips, args.known_seconds) if args.known_seconds else {}
    voices = Voices(clips, rng, 0.0 if args.whole_clips else SHORT_TURNS)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for plan in plans(list(clips), args, rng):
        samples, reference, texts, overlap = conversation(plan, voices, rng)
        write_flac(args.out / f"{plan.name}.flac", samples)
        lines = [
            f"SPEAKER {plan.name} 1 {start:.3f} {end - start:.3f} <NA> <NA> {name} <NA> <NA>\n"
            for start, end, name in reference
        ]
        (args.out / f"{plan.name}.rttm").write_text("".join(lines), encoding="utf-8")
        words = f"{plan.name}.stm" if args.whole_clips else ""
        if words:
            lines = [
                f"{plan.name} 1 {name} {start:.3f} {end:.3f} {' '.join(text.split())}\n"
                for start, end, name, text in texts
            ]
            (args.out / words).write_text("".join(lines), encoding="utf-8")
        if known:
            write_known(args.out / f"{plan.name}-known", plan, known)
        folder = f"{plan.name}-known" if known else ""
        row = [f"{plan.name}.flac", f"{plan.name}.rttm", words, folder, len(plan.speakers)]
        rows.append([*row, f"{len(samples) / RATE:.2f}", f"{overlap:.3f}"])
    columns = ["wav", "rttm", "stm", "known", "speakers", "seconds", "overlap"]
    with (args.out / "conversations.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    print(f"{args.out}: {len(rows)} conversations")


if __name__ == "__main__":
    main()
