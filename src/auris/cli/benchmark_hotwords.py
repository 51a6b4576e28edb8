"""`auris benchmark hotwords`: names that are written with a list of hotwords."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

from auris.cli.declare import option
from auris.cli.options import (
    BeamSize,
    HotwordList,
    Limit,
    Lm,
    ModelOptions,
    TestSets,
)
from auris.cli.table import Table, write_json
from auris.cli.values import read_hotwords


def hotwords(
    test_set: TestSets,
    model: ModelOptions,
    hotwords: HotwordList = None,
    other_set: Annotated[
        list[str] | None,
        option("Recordings that say none of the names: a CSV or a folder. Repeatable."),
    ] = None,
    size: Annotated[
        list[int] | None,
        option("Names in a list. Longer lists have made-up names. Repeatable.", default="100"),
    ] = None,
    lm: Lm = "auto",
    beam_size: BeamSize = None,
    limit: Limit = None,
) -> None:
    """Measure how many names are written with a list of hotwords, and what else changes.

    The names that the test sets say are those of --hotwords. They are divided into lists. Shown are
    the names that are written without a list and with it, names that are written where they are not
    said, the words of the other sets that change, and the CPU time relative to that without a list.
    """
    from auris.evaluation.hotwords import score_hotwords
    from auris.evaluation.sets import read_set

    names = read_hotwords(hotwords)
    named, others = (
        {file: text for source in sources for file, text in islice(read_set(source).items(), limit)}
        for sources in (test_set, other_set or [])
    )
    pipeline = model.pipeline(lm=lm, beam_size=beam_size)
    formats = {"spoken": ">6", "without": ">8", "with": ">6", "wrong": ">6", "words": ">7"}
    table = Table("list", formats | {"changed": ">8", "time": ">6.2f"})
    scores = []
    for one in size or [100]:
        score = score_hotwords(pipeline, names, named, others, one, beam_size=beam_size)
        scores.append(score)
        counts = (score.spoken, score.plain, score.written, score.wrong, score.words, score.changed)
        table.row(str(one), *counts, score.seconds)
    write_json({"model": pipeline.model.name, "lists": scores})
