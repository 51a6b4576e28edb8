#!/usr/bin/env python3
"""Error rates without a context, and with one of which half is spoken."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from auris.cli.options import ModelOptions
from auris.cli.table import write_json
from auris.evaluation.sets import read_set
from auris.evaluation.wer import normalizer_named, require_jiwer, word_edits
from auris.pipeline import AsrPipeline
from command_line import run_command


def draw_list(
    words: set[str], counts: Mapping[str, int], size: int, most_spoken: int, rng: random.Random
) -> tuple[list[str], list[str]]:
    """Words that are spoken, at most `most_spoken` and the rarest first, and others."""
    spoken = sorted(words, key=lambda word: (counts[word], word))[:most_spoken]
    others = [word for word in counts if word not in words]
    return spoken, rng.sample(others, min(len(others), size - len(spoken)))


def measure_set(
    pipeline: AsrPipeline, path: Path, size: int, most_spoken: int, seed: int
) -> dict[str, Any]:
    """Rates and counts of one set."""
    require_jiwer()
    normalize = normalizer_named("spoken")
    clips = {file: normalize(text) for file, text in read_set(path).items()}
    counts = Counter(word for text in clips.values() for word in set(text.split()))
    rng = random.Random(seed)
    edits, counted = Counter[str](), Counter[str]()
    for file, reference in clips.items():
        spoken, others = draw_list(set(reference.split()), counts, size, most_spoken, rng)
        context = spoken + others
        rng.shuffle(context)
        for kind, given in (("without", ""), ("with", ", ".join(context))):
            text = normalize(pipeline.transcribe(str(file), context=given).text)
            edits[kind] += word_edits(reference, text).total()
            written = set(text.split())
            counted[f"said_{kind}"] += len(written & set(spoken))
            counted[f"unsaid_{kind}"] += len(written & set(others))
        counted["said"] += len(spoken)
        counted["unsaid"] += len(others)
    words = sum(len(reference.split()) for reference in clips.values())
    rates = {f"wer_{kind}": count / max(words, 1) for kind, count in edits.items()}
    return {"set": path.stem, "words": words, **rates, **counted}


def contexts(
    sets: Annotated[list[str], typer.Argument(metavar="SET...", help="Test sets.")],
    model: ModelOptions,
    size: Annotated[int, typer.Option(min=2, help="Words of a context.")] = 20,
    spoken: Annotated[
        int | None, typer.Option(min=0, help="Most words of it that are spoken; half by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the contexts.")] = 1,
) -> None:
    """Measure the effect of a context: word error rates without one, and with one of which half is
    spoken.

    Every clip is transcribed twice, without a context and with a list of words: half of them, or
    `--spoken`, are spoken in the clip (the rarest of the set first), the others are words of other
    clips of the set. For each set a line of JSON has both word error rates, and how many of the
    spoken words and of the others are in the texts without and with the context.
    """
    most_spoken = size // 2 if spoken is None else min(spoken, size)
    pipeline = model.pipeline()
    for name in sets:
        write_json(measure_set(pipeline, Path(name), size, most_spoken, seed))


if __name__ == "__main__":
    run_command(contexts)
