#!/usr/bin/env python3
"""Build the bundled English language model.

    scripts/build_language_model.py SPEECH TEXTS [--dev CSV]... [--out FILE]

SPEECH holds recorded sets (NAME_train.csv and NAME_dev.csv), TEXTS the files gutenberg.txt.xz,
spoken.txt.xz and ljspeech_sentences.txt with a sentence a line. Transcripts of training sets count
ten times, spoken texts and ljspeech_sentences.txt twice. Sentences of development sets, those of
SPEECH and of --dev, are left out of all texts: lines that are one of four words or more, and lines
that contain one of seven words or more. The same texts give the same file.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from auris.checkpoints.hub import bundled_models
from auris.decoding.arpa import open_text
from auris.text.normalize import spoken
from auris.training.language_model import (
    MEGABYTE,
    LanguageModelSettings,
    save_language_model,
    score_text,
    train_language_model,
)

COPIES = {"gutenberg.txt.xz": 1, "spoken.txt.xz": 2, "ljspeech_sentences.txt": 2}
"""How often the texts count."""

TRANSCRIPT_COPIES = 10

LEFT_OUT = ("an4",)
"""Sets whose licence is not known."""

LEAST_WORDS = 4
"""Shorter sentences of development sets, such as digits, are also sentences of everybody."""

LEAST_WORDS_INSIDE = 7
"""Sentences of this length are also looked for inside of longer lines."""

SETTINGS = LanguageModelSettings(
    order=3, most_words=60_000, least_count=3, prune=(0, 1), most_bytes=15 * MEGABYTE
)


class DevelopmentSentences:
    """Recognizes lines with sentences of development sets."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._whole = {text for text in texts if len(text.split()) >= LEAST_WORDS}
        self._inside: dict[tuple[str, ...], list[str]] = {}
        for text in self._whole:
            words = tuple(text.split())
            if len(words) >= LEAST_WORDS_INSIDE:
                self._inside.setdefault(words[:LEAST_WORDS_INSIDE], []).append(text)

    def __contains__(self, line: str) -> bool:
        if line in self._whole:
            return True
        words = line.split()
        for start in range(len(words) - LEAST_WORDS_INSIDE + 1):
            found = self._inside.get(tuple(words[start : start + LEAST_WORDS_INSIDE]), ())
            rest = " ".join(words[start:]) + " "
            if any(rest.startswith(f"{text} ") for text in found):
                return True
        return False


def transcripts(paths: Iterable[Path]) -> list[str]:
    """The normalized texts of manifests, without those that cannot be normalized."""
    texts = []
    for path in paths:
        with path.open(newline="", encoding="utf-8-sig") as file:
            texts += [spoken(row["text"]) for row in csv.DictReader(file)]
    return list(filter(None, texts))


def lines_of(path: Path) -> Iterator[str]:
    """The normalized lines of a text."""
    with open_text(path) as file:
        for line in file:
            if text := spoken(line):
                yield text


def write_lines(lines: Iterable[str], without: DevelopmentSentences, out: Path) -> None:
    """Write lines to a file, without some of them, and report how many."""
    dropped = 0
    with out.open("w", encoding="utf-8") as file:
        for line in lines:
            if line in without:
                dropped += 1
            else:
                file.write(f"{line}\n")
    print(f"{out.name}: left out {dropped} lines with sentences of development sets", flush=True)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("speech", type=Path, help="folder of recorded sets")
    parser.add_argument("texts", type=Path, help="folder of texts")
    parser.add_argument("--dev", type=Path, action="append", default=[], help="a further manifest")
    default = bundled_models()["tiny"].parent / "english-lm" / "english.ngrams"
    parser.add_argument("--out", type=Path, default=default, help=f"default: {default}")
    given = parser.parse_args()
    dev_sets = sorted(given.speech.glob("*_dev.csv"))
    development = DevelopmentSentences(transcripts([*dev_sets, *given.dev]))
    trained = [
        path
        for path in sorted(given.speech.glob("*_train.csv"))
        if path.stem.removesuffix("_train") not in LEFT_OUT
    ]
    with tempfile.TemporaryDirectory() as folder:
        texts = []
        for name, copies in COPIES.items():
            out = Path(folder) / name.removesuffix(".xz")
            write_lines(lines_of(given.texts / name), development, out)
            texts += [out] * copies
        out = Path(folder) / "transcripts.txt"
        write_lines(transcripts(trained), development, out)
        model = train_language_model(
            [*texts, *[out] * TRANSCRIPT_COPIES], SETTINGS, lambda line: print(line, flush=True)
        )
        size = save_language_model(model, given.out)
        print(f"wrote {given.out}, {size / MEGABYTE:.1f} MB")
        for path in dev_sets:
            measured = Path(folder) / f"{path.stem}.txt"
            measured.write_text("\n".join(transcripts([path])), encoding="utf-8")
            score = score_text(model, [measured])
            print(f"{path.stem}: perplexity {score.perplexity:.1f} over {score.words} words")


if __name__ == "__main__":
    main()
