"""The plan of a corpus: what its sources list, divided into shards, in the folder of a run."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from auris.errors import OutputError, TrainingError
from auris.scale.plan import Shard, divided
from auris.scale.storage import absolute
from auris.scale.units import InputUnit
from auris.training.corpus.rows import TEXT, corpus_units
from auris.training.corpus.settings import CorpusReading
from auris.training.data import ClipForm, TrainedOn, form_text, is_lower_case, known_language
from auris.training.manifests import UNNAMED, manifest_row

PLAN = "plan.json"

MOST_TEXTS = 200_000
"""Texts of a corpus from which a vocabulary is learned: the first ones that sources state."""


@dataclass(frozen=True)
class Pool:
    """Shards among which none is preferred: all of a corpus, or those of one source with a weight.

    Attributes:
        units: the file with the units of the shards.
    """

    units: Path
    shards: tuple[Shard, ...]

    def read(self, shard: Shard) -> list[InputUnit]:
        """The units of a shard."""
        with open(self.units, "rb") as file:
            file.seek(shard.offset)
            lines = file.read(shard.length).splitlines()
        return [InputUnit.from_json(line) for line in lines]


@dataclass(frozen=True)
class CorpusPlan:
    """The shards of a corpus.

    Attributes:
        pools: one, or one for each source that has a weight.
        digest: hash of everything that the sources list.
    """

    pools: tuple[Pool, ...]
    digest: str

    def describe(self) -> str:
        """The plan as text."""
        shards = [shard for pool in self.pools for shard in pool.shards]
        hours = sum(shard.seconds for shard in shards) / 3600
        listed = sum(shard.units for shard in shards)
        return (
            f"the corpus has {listed} entries in {len(shards)} shards, {hours:.2f} hours, in which "
            "an entry without a duration counts by its size, or 30 s"
        )

    def units(self) -> Iterator[InputUnit]:
        """All units, in order."""
        for pool in self.pools:
            with open(pool.units, "rb") as file:
                yield from map(InputUnit.from_json, file)

    def texts(self, form: ClipForm) -> list[str]:
        """Texts that the sources state, at most `MOST_TEXTS`, as they are trained on."""
        rows = (
            manifest_row(unit.fields, None, "", form.language)
            for unit in self.units()
            if TEXT in unit.fields
        )
        written = (form_text(row.text, form.form) for row in rows)
        return list(islice(filter(None, written), MOST_TEXTS))

    def trained_on(self, form: ClipForm, contexts: bool) -> TrainedOn:
        """What a model sees, as far as the sources state it.

        Args:
            form: of its texts.
            contexts: whether rows get contexts anyway.
        """
        languages: set[str | None] = set()
        stated = lower_case = english_lower_case = True
        for unit in self.units():
            stated &= unit.kind == "file"
            given = {"language": unit.fields.get("lang"), **unit.fields}
            row = manifest_row(given, None, "", form.language)
            if not row.speechless:
                languages.add(known_language(row.language))
            contexts |= bool(unit.fields.get("prompt"))
            text = form_text(row.text, form.form) or ""
            # A text that the source does not state may lie in a file next to the recording.
            lower_case &= TEXT in unit.fields and is_lower_case(text)
            english_lower_case &= is_lower_case(text, english=True)
        names = sorted({name for name in languages if name} - {UNNAMED})
        if not stated:
            return TrainedOn()
        if names == ["English"]:
            lower_case &= english_lower_case
        return TrainedOn(tuple(names) if UNNAMED not in languages else (), contexts, lower_case)


def write_plan(folder: Path, sources: Sequence[str], reading: CorpusReading) -> None:
    """List sources and divide them into shards.

    Raises:
        UsageError: there is no such source, or its format is wrong.
        TrainingError: a manifest is wrong, or there are fewer shards than readers.
        OutputError: the folder cannot be written.
    """
    groups = [[source] for source in sources] if reading.weights else [list(sources)]
    digest = hashlib.sha256()
    pools = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, group in enumerate(groups):
            listed = chain.from_iterable(map(corpus_units, group))
            name = f"units-{number}.jsonl"
            with open(folder / name, "wb") as file:
                shards = list(divided(listed, reading.shard_seconds, file, Counter()))
            if not shards:
                raise TrainingError(
                    "A corpus has to list recordings", f"{', '.join(group)} lists none", "check it"
                )
            if len(shards) < reading.readers:
                raise TrainingError(
                    "A corpus needs at least as many shards as readers",
                    f"{', '.join(group)} has {len(shards)}, and there are {reading.readers}",
                    "lower corpus.readers or corpus.shard_seconds, or write more files",
                )
            digest.update("".join(shard.name for shard in shards).encode())
            pools.append({"units": name, "shards": [astuple(shard) for shard in shards]})
        content = {"corpus": _named(sources), "digest": digest.hexdigest(), "pools": pools}
        (folder / PLAN).write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            "The folder of a run has to be writable",
            f"writing in {str(folder)!r} failed ({error})",
            "name another, or make room there",
        ) from error


def read_plan(folder: Path, sources: Sequence[str]) -> CorpusPlan:
    """The plan in a folder.

    Raises:
        TrainingError: it is of other sources, or damaged.
    """
    try:
        content: dict[str, Any] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        begun, digest = content["corpus"], content["digest"]
        pools = tuple(
            Pool(folder / pool["units"], tuple(Shard(*shard) for shard in pool["shards"]))
            for pool in content["pools"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            "A run that reads a corpus has to have its plan",
            f"{folder / PLAN}: {error}",
            "start a new run",
        ) from error
    if begun != _named(sources):
        raise TrainingError(
            "A run is resumed with the corpus it began with",
            f"that was {', '.join(begun)}",
            "give the same --corpus in the same order, or start a new run",
        )
    return CorpusPlan(pools, digest)


def _named(sources: Sequence[str]) -> list[str]:
    return [absolute(source) for source in sources]
