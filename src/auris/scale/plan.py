"""Plans: the units of a source divided into shards, written once into the folder of a run.

`plan.json` binds the folder to one run: the source, the model and the options. It is created
exclusively, so of several processes that plan at once one decides, and the others read its plan.
The units are in one file of JSON lines; an index says where those of each shard are. So a worker
reads a few bytes of each shard, and the units of the shards that it takes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from auris.errors import UsageError
from auris.output.results_file import changes
from auris.scale.storage import Storage
from auris.scale.units import InputUnit

PLAN = "plan.json"

RESULTS = "results"

MOST_ROWS = 10_000
"""Largest number of recordings in a shard, where it is known."""

HASH_LETTERS = 16


@dataclass(frozen=True)
class Shard:
    """Units that are transcribed together, in order; one result is written for all of them.

    Attributes:
        name: its place in the plan and a hash of its units.
        offset, length: where the units are in the file of units, in bytes.
        units: number of units.
        seconds: of audio, see `InputUnit.weight`.
    """

    name: str
    offset: int
    length: int
    units: int
    seconds: float

    @property
    def result(self) -> str:
        """Name of the object with its result."""
        return f"{RESULTS}/{self.name}.jsonl"


@dataclass
class _Draft:
    """A shard that is being filled."""

    number: int = 0
    offset: int = 0
    length: int = 0
    units: int = 0
    rows: int = 0
    seconds: float = 0.0
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, unit: InputUnit, line: bytes) -> None:
        """Count a unit."""
        self.length += len(line)
        self.units += 1
        self.rows += unit.rows or 1
        self.seconds += unit.weight
        self.digest.update(line)

    def done(self) -> Shard:
        """The shard."""
        name = f"{self.number:06}-{self.digest.hexdigest()[:HASH_LETTERS]}"
        return Shard(name, self.offset, self.length, self.units, round(self.seconds, 3))

    def following(self) -> _Draft:
        """The next one, empty."""
        return _Draft(self.number + 1, self.offset + self.length)


def divided(
    units: Iterable[InputUnit], shard_seconds: float, file: IO[bytes], basis: Counter[str]
) -> Iterator[Shard]:
    """Divide units into shards.

    Args:
        units: in order.
        shard_seconds: a shard is full when another unit would make it longer.
        file: where the units are written.
        basis: counts by what the units are measured.
    """
    draft = _Draft()
    for unit in units:
        full = draft.seconds + unit.weight > shard_seconds or draft.rows >= MOST_ROWS
        if draft.units and full:
            yield draft.done()
            draft = draft.following()
        line = unit.to_json().encode() + b"\n"
        basis[unit.basis] += 1
        file.write(line)
        draft.add(unit, line)
    if draft.units:
        yield draft.done()


@dataclass(frozen=True)
class Plan:
    """The shards of a run.

    Attributes:
        storage: the folder of the run.
        run: everything that results depend on, and the source.
        shards: in order.
        units_file: name of the file of units.
        basis: how many units were measured by "seconds", "bytes" and "rows".
    """

    storage: Storage
    run: Mapping[str, Any]
    shards: tuple[Shard, ...]
    units_file: str
    basis: Mapping[str, int]

    @property
    def seconds(self) -> float:
        """Seconds of audio of all shards, see `InputUnit.weight`."""
        return sum(shard.seconds for shard in self.shards)

    def units(self, shard: Shard) -> list[InputUnit]:
        """The units of a shard."""
        end = shard.offset + shard.length
        lines = self.storage.read_range(self.units_file, shard.offset, end)
        return [InputUnit.from_json(line) for line in lines.splitlines()]

    def finished(self, among: Iterable[Shard] | None = None) -> set[str]:
        """Names of the shards with a result.

        Args:
            among: look for these one by one, where they are few; by default all are listed.
        """
        if among is not None:
            return {shard.name for shard in among if self.storage.exists(shard.result)}
        return {name.removesuffix(".jsonl") for name in self.storage.names(RESULTS)}


def write_plan(
    storage: Storage, run: Mapping[str, Any], units: Iterable[InputUnit], shard_seconds: float
) -> Plan:
    """Plan a run, unless another process has done so meanwhile; returns the plan that counts.

    Raises:
        UsageError: the source is wrong, or the folder has the plan of another run.
        OutputError: the plan cannot be written.
    """
    basis: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="auris-plan-") as folder:
        files = {kind: Path(folder, kind) for kind in ("units", "shards")}
        with open(files["units"], "wb") as listed, open(files["shards"], "w") as index:
            for shard in divided(units, shard_seconds, listed, basis):
                index.write(json.dumps(list(asdict(shard).values())) + "\n")
        names = {}
        for kind, path in files.items():
            names[kind] = f"plan/{kind}-{_digest(path)}.jsonl"
            storage.upload(path, names[kind])
    content = {"run": dict(run), "basis": dict(basis), **names}
    storage.create(PLAN, json.dumps(content, indent=1).encode() + b"\n")
    plan = read_plan(storage, run)
    assert plan is not None
    return plan


def read_plan(storage: Storage, run: Mapping[str, Any] | None = None) -> Plan | None:
    """The plan in a folder; None if there is none.

    Args:
        run: what the plan has to be made for; None accepts any.

    Raises:
        UsageError: the plan is of another run, or no plan.
    """
    data = storage.read(PLAN)
    if data is None:
        return None
    try:
        content = json.loads(data)
        begun, basis, names = content["run"], content["basis"], content
        index = storage.read(names["shards"])
        if index is None:
            raise ValueError("the index is missing")
        shards = tuple(Shard(*json.loads(line)) for line in index.splitlines())
        units_file = names["units"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "--output has to be a new folder, or that of a run",
            f"{PLAN} in {storage.url!r} is not a plan",
            "name another folder",
        ) from error
    required = begun if run is None else json.loads(json.dumps(dict(run)))
    if begun != required:
        raise UsageError(
            "A run can only be continued with the same model, options and input",
            f"that in {storage.url!r} began with {changes(begun, required)}",
            "give the same ones, or name another folder",
        )
    return Plan(storage, begun, shards, units_file, basis)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:HASH_LETTERS]
