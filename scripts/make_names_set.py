#!/usr/bin/env python3
"""Make a test set of hotwords: sentences with rare names, spoken by free synthesizers.

    names_dev.csv    one sentence for each name of a list, in the columns of synthesize_speech.py

Every fourth sentence is spoken by the voice that never speaks training texts. The same seed writes
the same clips. `auris benchmark hotwords` measures a model on them.

Debian packages: flite espeak-ng festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from synthesize_speech import Clip, write_set
from voices import Voice, draw_voice, held_out_voice

NAMES = Path(__file__).parents[1] / "recipes" / "rare_names.txt"
SHARES = {"flite": 0.4, "festival": 0.2, "espeak": 0.4}

SENTENCES = (
    "please call {} tomorrow morning",
    "i'd like to speak to {} about my order",
    "send a message to {} and say that i am late",
    "{} is waiting in the kitchen",
    "can you tell me more about {}",
    "we are going to {} next week",
    "the meeting with {} is on monday at ten",
    "what is the best way to learn about {}",
    "my friend {} lives in the old house",
    "they have never heard of {} before",
    "turn on the light and ask for {}",
    "how do you spell the name {}",
    "i think that {} was the first one",
    "add {} to the shopping list",
    "there is a letter from {} on the table",
    "she wrote a book about {} last year",
)


def main() -> None:
    """Write the set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for FLAC and CSV")
    parser.add_argument("--names", type=Path, default=NAMES, help="a name on each line")
    parser.add_argument(
        "--voices", default=SHARES, type=json.loads, help="share of each engine, as JSON"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    names = args.names.read_text(encoding="utf-8").split()

    def voice(number: int) -> Voice:
        return draw_voice(rng, args.voices) if number % 4 else held_out_voice(rng)

    clips = []
    for number, name in enumerate(names):
        text = SENTENCES[number % len(SENTENCES)].format(name)
        clips.append(Clip(f"names/{number:04d}.flac", text, text, voice(number), varied=False))
    write_set("names_dev", clips, args.out, args.seed, args.jobs)


if __name__ == "__main__":
    main()
