#!/usr/bin/env python3
"""Make speech from text with the free synthesizers flite, espeak-ng and festival.

Writes 16 kHz mono FLAC and, per kind and share, a CSV `wav,text,speaker,seconds`:

    synth_digits_{train,dev}.csv      strings of one to ten digits, telephone groupings
    synth_commands_{train,dev}.csv    phrases from the given books of phrases
    synth_sentences_train.csv         sentences and parts of sentences of the given text
    synth_sentences_dev.csv           other sentences, spoken by the held-out voice
    synth_voice_dev.csv               held-out digits and phrases by the held-out voice

A text belongs to training or development by a hash of its letters, so no text of development is,
as it stands, a text of training, and the held-out voice speaks development texts only. The same
seed writes the same clips. Debian packages: flite espeak-ng festival festvox-kallpc16k
festvox-kdlpc16k festvox-us-slt-hts.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import random
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soxr
from flac_file import write_flac
from numpy.typing import NDArray

RATE = 16_000
DEV_SHARE = 0.15
BOOKS = ("phrases.json", "commands.json")
HELD_OUT_VOICE = "flite-rms"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

FLITE = ("kal16", "awb", "rms", "slt")
FESTIVAL = ("kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts")
ESPEAK_ACCENTS = ("en-us", "en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc")
# fmt: off
ESPEAK_VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "adam", "Alex",
    "Alicia", "Andrea", "Andy", "Annie", "anika", "antonio", "aunty", "belinda", "benjamin",
    "boris", "caleb", "david", "Denis", "Diogo", "ed", "edward", "Gene", "grandma", "grandpa",
    "Gustave", "Henrique", "Hugo", "iven", "Jacky", "john", "Lee", "linda", "marcelo", "Marco",
    "Mario", "max", "michael", "michel", "miguel", "mike", "norbert", "pablo", "paul", "pedro",
    "quincy", "rob", "robert", "sandro", "shelby", "steph", "travis", "victor", "zac", "klatt",
    "klatt2", "klatt3", "klatt4",
)
# fmt: on

VOICE_SHARES = {"flite": 0.38, "festival": 0.24, "espeak": 0.38}
"""The three of flite's and three of festival's voices sound most like people, so they get more
than their number among the hundreds of espeak-ng's."""


@dataclass(frozen=True)
class Voice:
    """A way to speak: engine, its voice, and the rate (1 is the engine's own) and pitch."""

    engine: str
    name: str
    stretch: float
    pitch: float

    @property
    def speaker(self) -> str:
        """The name in manifests."""
        return f"{self.engine}-{self.name}"


@dataclass(frozen=True)
class Clip:
    """One recording to make; `spoken` may hold commas for pauses, `text` does not."""

    path: str
    text: str
    spoken: str
    voice: Voice


def draw_voice(rng: random.Random) -> Voice:
    """A training voice with a random rate and pitch."""
    engine = rng.choices(list(VOICE_SHARES), list(VOICE_SHARES.values()))[0]
    if engine == "espeak":
        name = f"{rng.choice(ESPEAK_ACCENTS)}+{rng.choice(ESPEAK_VARIANTS)}"
    else:
        voices = FLITE if engine == "flite" else FESTIVAL
        name = rng.choice([v for v in voices if f"{engine}-{v}" != HELD_OUT_VOICE])
    return Voice(engine, name, rng.uniform(0.85, 1.25), rng.uniform(0.85, 1.2))


def held_out_voice(rng: random.Random) -> Voice:
    """The voice that speaks development texts only."""
    engine, name = HELD_OUT_VOICE.split("-")
    return Voice(engine, name, rng.uniform(0.9, 1.15), rng.uniform(0.92, 1.1))


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


def sentence_maker(path: Path) -> Callable[[random.Random], str]:
    """A function that draws a sentence of at most 30 words without digits."""
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if 2 <= len(line.split()) <= 30 and not re.search(r"\d", line)]
    return lambda rng: rng.choice(lines)


def part_maker(path: Path) -> Callable[[random.Random], str]:
    """A function that draws a training sentence or, as often, 2 to 9 words in a row of one.

    Parts bring rare words without the words that usually stand around them.
    """
    sentence = sentence_maker(path)

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
        held = is_dev(plain(text)) and len(text.split()) > 2
        if held == dev and not (dev and text in seen):
            seen.add(text)
            yield text


# Speech


def speak_flite(clip: Clip, wav: Path) -> None:
    """Speak with flite; pitch is relative to the voice's usual one in Hz."""
    base = {"kal16": 105, "awb": 125, "rms": 100, "slt": 170}[clip.voice.name]
    command = ["flite", "-voice", clip.voice.name, "-t", clip.spoken, "-o", str(wav)]
    command += ["--setf", f"duration_stretch={clip.voice.stretch:.3f}"]
    command += ["--setf", f"int_f0_target_mean={base * clip.voice.pitch:.1f}"]
    subprocess.run(command, check=True, capture_output=True)


def speak_espeak(clip: Clip, wav: Path) -> None:
    """Speak with espeak-ng, whose rate is in words a minute and whose pitch lies in 0..99."""
    speed = round(155 / clip.voice.stretch)
    pitch = round(min(99, max(0, 50 + 120 * (clip.voice.pitch - 1))))
    command = ["espeak-ng", "-v", clip.voice.name, "-s", str(speed), "-p", str(pitch)]
    subprocess.run([*command, "-w", str(wav), clip.spoken], check=True, capture_output=True)


def speak_festival(clips: list[Clip], wavs: list[Path]) -> None:
    """Many clips in one process, since festival takes long to start."""
    lines, current = [], None
    for clip, wav in sorted(zip(clips, wavs, strict=True), key=lambda pair: pair[0].voice.name):
        if clip.voice.name != current:
            current = clip.voice.name
            lines.append(f"(voice_{current})")
        text = clip.spoken.replace("\\", " ").replace('"', " ")
        lines.append(f"(Parameter.set 'Duration_Stretch {clip.voice.stretch:.3f})")
        save = f'(utt.save.wave (utt.synth (Utterance Text "{text}")) "{wav}" \'riff)'
        # A text that festival cannot speak ends neither the process nor the texts after it.
        lines.append(f"(unwind-protect {save} nil)")
    script = wavs[0].with_suffix(".scm")
    script.write_text("\n".join(lines), encoding="latin-1", errors="ignore")
    subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)


def read_wav(path: Path) -> NDArray[np.float32]:
    """Mono float32 samples at 16 kHz."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        blocks = [frame.to_ndarray() for frame in container.decode(stream)]
        samples = np.concatenate(blocks, axis=1)[0].astype(np.float32) / 32768.0
    resampled = samples if stream.rate == RATE else soxr.resample(samples, stream.rate, RATE)
    return np.asarray(resampled, dtype=np.float32)


def make_batch(clips: list[Clip], root: Path) -> list[float | None]:
    """Speak clips of one engine as FLAC; the seconds of each, None where it cannot say it."""
    with tempfile.TemporaryDirectory() as folder:
        wavs = [Path(folder) / f"{i}.wav" for i in range(len(clips))]
        if clips[0].voice.engine == "festival":
            speak_festival(clips, wavs)
        else:
            speak = speak_flite if clips[0].voice.engine == "flite" else speak_espeak
            for clip, wav in zip(clips, wavs, strict=True):
                speak(clip, wav)
        lengths: list[float | None] = []
        for clip, wav in zip(clips, wavs, strict=True):
            if not wav.exists():
                print(f"{clip.voice.speaker} cannot speak: {clip.spoken}", flush=True)
                lengths.append(None)
                continue
            samples = read_wav(wav)
            level = np.abs(samples).max()
            # Engines differ in level by 20 dB; one level lets the trainer's gain decide.
            samples = samples * (0.5 / max(level, 1e-3))
            write_flac(root / clip.path, samples)
            lengths.append(len(samples) / RATE)
    return lengths


def write_set(name: str, clips: list[Clip], root: Path, jobs: int) -> None:
    """Speak every clip and write the manifest."""
    by_engine = sorted(clips, key=lambda clip: clip.voice.engine)
    batches = []
    for _, group in itertools.groupby(by_engine, key=lambda clip: clip.voice.engine):
        members = list(group)
        batches += [members[i : i + 100] for i in range(0, len(members), 100)]
    with ThreadPoolExecutor(jobs) as pool:
        lengths = list(pool.map(lambda batch: make_batch(batch, root), batches))
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


def plan(name: str, texts: Iterable[str], voices: Iterable[Voice], count: int) -> list[Clip]:
    """The clips of one kind."""
    chosen = itertools.islice(zip(texts, voices, strict=False), count)
    return [
        Clip(f"{name}/{i:05d}.flac", plain(text), text, voice)
        for i, (text, voice) in enumerate(chosen)
    ]


def main() -> None:
    """Write all sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for FLAC and CSV")
    parser.add_argument("--sentences", type=Path, required=True, help="text, one sentence a line")
    books = [Path(__file__).parents[1] / "recipes" / name for name in BOOKS]
    parser.add_argument("--phrases", type=Path, nargs="+", default=books, help="books of phrases")
    parser.add_argument("--digits", type=int, default=3000, help="training clips of digits")
    parser.add_argument("--commands", type=int, default=8000, help="training clips of phrases")
    parser.add_argument("--read", type=int, default=15000, help="training clips of sentences")
    parser.add_argument("--dev", type=int, default=200, help="clips of each development set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    phrase = phrase_maker(args.phrases)
    sentence, part = sentence_maker(args.sentences), part_maker(args.sentences)

    def make(name: str, makers: dict[str, int], dev: bool, unheard: bool = False) -> None:
        rng = random.Random(f"{args.seed}-{name}")
        sentences = sentence if dev else part
        sources = {"digits": digit_string, "commands": phrase, "sentences": sentences}
        clips = []
        for kind, count in makers.items():
            texts = draw_texts(sources[kind], dev, rng)
            voices = iter(lambda: held_out_voice(rng) if unheard else draw_voice(rng), None)
            clips += plan(f"{name}/{kind}", texts, voices, count)
        write_set(name, clips, args.out, args.jobs)

    make("synth_digits_dev", {"digits": args.dev}, dev=True)
    make("synth_commands_dev", {"commands": args.dev}, dev=True)
    make("synth_sentences_dev", {"sentences": args.dev // 2}, dev=True, unheard=True)
    half = args.dev // 2
    make("synth_voice_dev", {"digits": half, "commands": half}, dev=True, unheard=True)
    make("synth_digits_train", {"digits": args.digits}, dev=False)
    make("synth_commands_train", {"commands": args.commands}, dev=False)
    make("synth_sentences_train", {"sentences": args.read}, dev=False)


if __name__ == "__main__":
    main()
