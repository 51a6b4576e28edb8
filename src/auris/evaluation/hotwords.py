"""How often hotwords are written where they are said and where they are not, and what they cost.

A set of names holds recordings with rare names in their texts. Its names are divided into lists,
and every recording is transcribed without a list and with the one that holds its name. Recordings
of other sets are transcribed without a list and with one in turn, so that what changes there is an
error. Longer lists are filled up with made-up names.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from auris.errors import UsageError
from auris.evaluation.wer import normalizer_named, require_jiwer, word_edits
from auris.pipeline import AsrPipeline

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from auris.recognition.options import CallOptions

ONSETS = (
    *"bcdfghjklmnprstvwz",
    "br",
    "ch",
    "dr",
    "gr",
    "kh",
    "kr",
    "pr",
    "sh",
    "st",
    "th",
    "tr",
    "vl",
)
VOWELS = (*"aeioaeiou", "ai", "ei", "ou")
ENDS = ("", "", "n", "s", "r", "l", "k", "m", "x", "nd")


@dataclass(frozen=True)
class HotwordScore:
    """Hotwords of one size of lists.

    Attributes:
        size: phrases of each list.
        spoken: names that are said in the set of names.
        plain, written: how many of them are written without a list and with it.
        wrong: names of the list that are written in recordings of any set where they are not said.
        words: words of the other sets, as they are transcribed without a list.
        changed: how many of them are others with it.
        seconds: CPU time with the list, relative to that without.
    """

    size: int
    spoken: int
    plain: int
    written: int
    wrong: int
    words: int
    changed: int
    seconds: float

    @property
    def recall(self) -> float:
        """Share of the names that are said which are written with the list."""
        return self.written / max(self.spoken, 1)


def made_up_names(count: int, seed: int = 1) -> list[str]:
    """Distinct names that nobody says."""
    rng = random.Random(seed)
    names: dict[str, None] = {}
    while len(names) < count:
        syllables = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.randint(2, 4))]
        names["".join(syllables).capitalize() + rng.choice(ENDS)] = None
    return list(names)


def lists_of(names: Sequence[str], size: int) -> list[list[str]]:
    """Lists of a size in which every name occurs, filled up with other and made-up names."""
    if size < 1:
        raise UsageError("A list of hotwords needs phrases", f"the size is {size}", "enlarge it")
    if not names:
        raise UsageError(
            "Measuring hotwords needs a list of them", "there are none", "give it with --hotwords"
        )
    count = -(-len(names) // size)
    others = [*names, *made_up_names(size)]
    lists = []
    for number in range(count):
        own = list(names[number::count])
        own += [name for name in others if name not in own][: size - len(own)]
        lists.append(own)
    return lists


def score_hotwords(
    pipeline: AsrPipeline,
    names: Sequence[str],
    named: Mapping[Path, str],
    others: Mapping[Path, str],
    size: int,
    **options: Unpack[CallOptions],
) -> HotwordScore:
    """Measure lists of one size.

    Args:
        names: single words; each text of the set of names has one or more of them.
        named: the texts of the set of names by file.
        others: those of other recordings.
        size: phrases of each list.

    Raises:
        UsageError: no text has a name, or an option is impossible.
        MissingExtra: jiwer is not installed.
    """
    require_jiwer()
    lists = lists_of(names, size)
    spelled = {" ".join(_words(name)) for name in names}
    spoken = plain = written = wrong = total = changed = 0
    without, spent = 0.0, 0.0
    # Lists are read and compiled before anything is measured.
    for chosen in lists:
        _timed(pipeline, next(iter(named)), chosen, options)
    for number, (file, reference) in enumerate([*named.items(), *others.items()]):
        own = spelled & set(_words(reference)) if file in named else set()
        fitting = [one for one in lists if not own or own & {name.lower() for name in one}]
        chosen = (fitting or lists)[number % len(fitting or lists)]
        # In turn, since the first transcript of a recording takes longer.
        turn = 1 if number % 2 else -1
        timed = [_timed(pipeline, file, given, options) for given in ((), chosen)[::turn]]
        (before, one), (with_list, other) = timed[::turn]
        without, spent = without + one, spent + other
        listed = {" ".join(_words(name)) for name in chosen}
        spoken += len(own)
        plain += len(own & set(before))
        written += len(own & set(with_list))
        wrong += len(listed & set(with_list) - set(_words(reference)))
        if file in others and before:
            total += len(before)
            changed += word_edits(" ".join(before), " ".join(with_list)).total()
    if not spoken:
        raise UsageError(
            "The texts of the test set have to say names of the list",
            "none of them does",
            "name the list of its names with --hotwords",
        )
    seconds = spent / max(without, 1e-9)
    return HotwordScore(size, spoken, plain, written, wrong, total, changed, seconds)


def _timed(
    pipeline: AsrPipeline, file: Path, hotwords: Sequence[str], options: CallOptions
) -> tuple[list[str], float]:
    """Words of a recording, and the CPU time."""
    began = time.process_time()
    given: CallOptions = {**options, "hotwords": hotwords}
    transcript = pipeline.transcribe(str(file), **given)
    return _words(transcript.text), time.process_time() - began


def _words(text: str) -> list[str]:
    return normalizer_named("spoken")(text).split()
