#!/usr/bin/env python3
"""Make speech from text with the free synthesizers flite, espeak-ng, festival and hibari.

Writes 16 kHz mono FLAC and, per kind and share, a CSV `wav,text,speaker,seconds`:

    synth_digits_{train,dev}.csv      strings of one to ten digits, telephone groupings
    synth_commands_{train,dev}.csv    phrases from the given books of phrases
    synth_sentences_train.csv         sentences and parts of sentences of the given text
    synth_sentences_dev.csv           other sentences, spoken by the held-out voice
    synth_voice_dev.csv               held-out digits and phrases by the held-out voice

A text belongs to training or development by a hash of its letters, so no text of development is,
as it stands, a text of training, and the held-out voice speaks development texts only. Training
clips are randomly placed in a room, and randomly coded. The same seed writes the same clips.

Debian packages: flite espeak-ng festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts.
PyPI: hibari-tts. An engine that is not installed can be left out with --voices.
"""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
import itertools
import json
import lzma
import random
import re
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from channels import pass_through
from flac_file import write_flac
from voices import DEFAULT_SHARES, RATE, Voice, draw_voice, held_out_voice, speak

DEV_SHARE = 0.15
BOOKS = ("phrases.json", "commands.json")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Clip:
    """One recording to make; `spoken` may hold commas for pauses, `text` does not, and `varied`
    ones are randomly placed in a room or coded."""

    path: str
    text: str
    spoken: str
    voice: Voice
    varied: bool


def is_dev(text: str) -> bool:
    """Whether a text belongs to development: decided by its words alone."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") < DEV_SHARE * 2**32


# Texts


def digit_string(rng: random.Random) -> str:
    """Words of one to ten digits, with commas where a speaker would group them."""
    length = rng.choice((1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 10, 10))
    zero = "oh" if rng.random() < 0.12 else "zero"
    words = [rng.choice(DIGITS) for _ in range(length)]
    words = [zero if word == "zero" else word for word in words]
    if length >= 6 and rng.random() < 0.6:
        first = 3
        groups = [words[:first], words[first : 2 * first], words[2 * first :]]
        return ", ".join(" ".join(group) for group in groups if group)
    glue = ", " if rng.random() < 0.25 else " "
    return glue.join(words)


def phrase_maker(paths: list[Path]) -> Callable[[random.Random], str]:
    """A function that fills a random template of a random book of phrases."""
    books = [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def phrase(rng: random.Random) -> str:
        book = rng.choice(books)
        # A template of many slots has more to say than a fixed phrase, which would only repeat.
        weights = [0.4 + template.count("{") for template in book["templates"]]
        template = rng.choices(book["templates"], weights)[0]
        filled = re.sub(r"\{(\w+)\}", lambda slot: rng.choice(book["slots"][slot[1]]), template)
        return " ".join(filled.split())

    return phrase


def read_text(path: Path) -> str:
    """A text file, which xz may have packed."""
    data = path.read_bytes()
    return (lzma.decompress(data) if path.suffix == ".xz" else data).decode("utf-8")


def sentence_maker(paths: list[Path]) -> Callable[[random.Random], str]:
    """A function that draws a file and of it a sentence of at most 30 words without digits."""
    read = {path: read_text(path).splitlines() for path in set(paths)}
    usable = {
        path: [
            line for line in lines if 2 <= len(line.split()) <= 30 and not re.search(r"\d", line)
        ]
        for path, lines in read.items()
    }
    texts = [usable[path] for path in paths]
    return lambda rng: rng.choice(texts[0] if len(texts) == 1 else rng.choice(texts))


def part_maker(paths: list[Path]) -> Callable[[random.Random], str]:
    """A function that draws a training sentence or, as often, 2 to 9 words in a row of one.

    Parts bring rare words without the words that usually stand around them.
    """
    sentence = sentence_maker(paths)

    def part(rng: random.Random) -> str:
        line = next(text for text in iter(lambda: sentence(rng), None) if not is_dev(plain(text)))
        if rng.random() < 0.5:
            return line
        words = line.split()
        size = min(rng.randint(2, 9), len(words))
        first = rng.randint(0, len(words) - size)
        return " ".join(words[first : first + size])

    return part


def plain(text: str) -> str:
    """Text without the commas that only steer the synthesizer."""
    return text.replace(",", "")


def draw_texts(
    make: Callable[[random.Random], str], dev: bool, rng: random.Random
) -> Iterable[str]:
    """Texts of one share; one or two words stay in training, since there are too few of them."""
    seen = set()
    while True:
        text = make(rng)
        development = is_dev(plain(text)) and len(text.split()) > 2
        if development == dev and not (dev and text in seen):
            seen.add(text)
            yield text


# Speech


def make_batch(clips: list[Clip], root: Path, seed: int) -> list[float | None]:
    """Speak clips of one engine as FLAC; the seconds of each, None where it cannot say it."""
    with tempfile.TemporaryDirectory() as folder:
        spoken = [clip.spoken for clip in clips]
        waves = speak(spoken, [clip.voice for clip in clips], Path(folder))
    lengths: list[float | None] = []
    for clip, samples in zip(clips, waves, strict=True):
        if samples is None or not len(samples):
            print(f"{clip.voice.speaker} cannot speak: {clip.spoken}", flush=True)
            lengths.append(None)
            continue
        # Engines differ in level by 20 dB; one level lets the trainer's gain decide.
        samples = samples * (0.5 / max(float(np.abs(samples).max()), 1e-3))
        if clip.varied:
            samples = pass_through(samples, random.Random(f"{seed}-{clip.path}"))
        write_flac(root / clip.path, samples)
        lengths.append(len(samples) / RATE)
    return lengths


def write_set(name: str, clips: list[Clip], root: Path, seed: int, jobs: int) -> None:
    """Speak every clip and write the manifest."""
    by_engine = sorted(clips, key=lambda clip: clip.voice.engine)
    batches = []
    for _, group in itertools.groupby(by_engine, key=lambda clip: clip.voice.engine):
        members = list(group)
        batches += [members[i : i + 100] for i in range(0, len(members), 100)]
    with ProcessPoolExecutor(jobs) as pool:
        make = functools.partial(make_batch, root=root, seed=seed)
        lengths = list(pool.map(make, batches))
    seconds = {
        clip.path: length
        for batch, made in zip(batches, lengths, strict=True)
        for clip, length in zip(batch, made, strict=True)
        if length is not None
    }
    with open(root / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["wav", "text", "speaker", "seconds"])
        for clip in clips:
            if clip.path in seconds:
                length = f"{seconds[clip.path]:.2f}"
                writer.writerow([clip.path, clip.text, clip.voice.speaker, length])
    print(f"{name}: {len(seconds)} clips, {sum(seconds.values()) / 3600:.2f} hours", flush=True)


def plan(
    name: str, texts: Iterable[str], voices: Iterable[Voice], count: int, varied: bool
) -> list[Clip]:
    """The clips of one kind."""
    chosen = itertools.islice(zip(texts, voices, strict=False), count)
    return [
        Clip(f"{name}/{i:05d}.flac", plain(text), text, voice, varied)
        for i, (text, voice) in enumerate(chosen)
    ]


def main() -> None:
    """Write all sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for FLAC and CSV")
    parser.add_argument(
        "--sentences",
        type=Path,
        nargs="+",
        required=True,
        help="texts, one sentence a line, perhaps as .xz; each is drawn from as often, and one "
        "that is given twice twice as often",
    )
    books = [Path(__file__).parents[1] / "recipes" / name for name in BOOKS]
    parser.add_argument("--phrases", type=Path, nargs="+", default=books, help="books of phrases")
    parser.add_argument("--digits", type=int, default=3000, help="training clips of digits")
    parser.add_argument("--commands", type=int, default=8000, help="training clips of phrases")
    parser.add_argument("--read", type=int, default=15000, help="training clips of sentences")
    parser.add_argument("--dev", type=int, default=200, help="clips of each development set")
    parser.add_argument(
        "--voices", default=DEFAULT_SHARES, type=json.loads, help="share of each engine, as JSON"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    phrase = phrase_maker(args.phrases)
    sentence, part = sentence_maker(args.sentences), part_maker(args.sentences)
    shares: dict[str, float] = args.voices

    def make(name: str, makers: dict[str, int], dev: bool, held_out: bool = False) -> None:
        rng = random.Random(f"{args.seed}-{name}")
        sentences = sentence if dev else part
        sources = {"digits": digit_string, "commands": phrase, "sentences": sentences}
        clips = []
        for kind, count in makers.items():
            texts = draw_texts(sources[kind], dev, rng)
            voices = iter(
                lambda: held_out_voice(rng) if held_out else draw_voice(rng, shares), None
            )
            clips += plan(f"{name}/{kind}", texts, voices, count, varied=not dev)
        if clips:
            write_set(name, clips, args.out, args.seed, args.jobs)

    make("synth_digits_dev", {"digits": args.dev}, dev=True)
    make("synth_commands_dev", {"commands": args.dev}, dev=True)
    make("synth_sentences_dev", {"sentences": args.dev // 2}, dev=True, held_out=True)
    half = args.dev // 2
    make("synth_voice_dev", {"digits": half, "commands": half}, dev=True, held_out=True)
    make("synth_digits_train", {"digits": args.digits}, dev=False)
    make("synth_commands_train", {"commands": args.commands}, dev=False)
    make("synth_sentences_train", {"sentences": args.read}, dev=False)


if __name__ == "__main__":
    main()
