#!/usr/bin/env python3
"""Measure what a context does: error rates without one and with one of which half is said.

Every clip is transcribed twice, without a context and with a list of words of which half are said
in it (the rarest of the set first) and half are words of other clips of the set. One line of JSON a
set: word error rates, how many of the said words of the lists are written without and with
the list, and how many of the unsaid ones.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from auris.evaluation.wer import normalizer_named, read_set, require_jiwer
from auris.pipeline import AsrPipeline


def draw_list(
    words: set[str], counts: Mapping[str, int], size: int, rng: random.Random
) -> tuple[list[str], list[str]]:
    """Words that are said, at most half of `size` and the rarest first, and words that are not."""
    said = sorted(words, key=lambda word: (counts[word], word))[: size // 2]
    others = [word for word in counts if word not in words]
    return said, rng.sample(others, min(len(others), size - len(said)))


def measure_set(pipeline: AsrPipeline, path: Path, size: int, seed: int) -> dict[str, object]:
    """Rates and counts of one set."""
    jiwer, normalize = require_jiwer(), normalizer_named("spoken")
    clips = {file: normalize(text) for file, text in read_set(path).items()}
    counts = Counter(word for text in clips.values() for word in set(text.split()))
    rng = random.Random(seed)
    references, texts = [], {"without": [""] * 0, "with": [""] * 0}
    found = Counter[str]()
    for file, reference in clips.items():
        said, unsaid = draw_list(set(reference.split()), counts, size, rng)
        context = said + unsaid
        rng.shuffle(context)
        references.append(f"= {reference}")
        for kind, given in (("without", ""), ("with", ", ".join(context))):
            text = normalize(pipeline.transcribe(str(file), context=given).text)
            texts[kind].append(f"= {text}")
            written = set(text.split())
            found[f"said_{kind}"] += len(written & set(said))
            found[f"unsaid_{kind}"] += len(written & set(unsaid))
        found["said"] += len(said)
        found["unsaid"] += len(unsaid)
    words = sum(len(reference.split()) - 1 for reference in references)
    rates = {}
    for kind, hypotheses in texts.items():
        marked = jiwer.process_words(references, hypotheses)
        edits = marked.substitutions + marked.insertions + marked.deletions
        rates[f"wer_{kind}"] = edits / max(words, 1)
    return {"set": path.stem, "words": words, **rates, **found}


def main() -> None:
    """Measure sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sets", type=Path, nargs="+", help="CSV with the columns wav and text")
    parser.add_argument("--model", default=None, help="directory or bundled model")
    parser.add_argument("--size", type=int, default=20, help="words of a list")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    pipeline = AsrPipeline.from_pretrained(args.model, threads=args.threads)
    for path in args.sets:
        print(json.dumps(measure_set(pipeline, path, args.size, args.seed)), flush=True)


if __name__ == "__main__":
    main()
