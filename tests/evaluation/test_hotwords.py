"""The measurement of hotwords."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from auris.errors import UsageError
from auris.evaluation.hotwords import lists_of, made_up_names, score_hotwords

NAMES = ["Okonkwo", "Grafana", "Tbilisi"]
TEXTS = {
    "a": "please call Okonkwo",
    "b": "ask Grafana about it",
    "c": "we are in Tbilisi",
    "d": "no name at all",
}


class Listener:
    """Writes names only if they are in the list, and Grafana in place of "name", too."""

    def transcribe(self, file: str, **options: Any) -> Any:
        text = TEXTS[Path(file).name]
        listed = options["hotwords"]
        for name in NAMES:
            if name not in listed and name != "Tbilisi":
                text = text.replace(name, "someone")
        if "Grafana" in listed:
            text = text.replace("name", "Grafana")
        return SimpleNamespace(text=text)


def test_names_that_are_written_and_words_that_change_are_counted() -> None:
    pytest.importorskip("jiwer")
    named = {Path(name): TEXTS[name] for name in "abc"}
    others = {Path("d"): TEXTS["d"]}
    score = score_hotwords(Listener(), NAMES, named, others, 5)
    assert (score.spoken, score.plain, score.written) == (3, 1, 3)
    assert (score.wrong, score.words, score.changed) == (1, 4, 1)
    assert score.recall == 1.0
    with pytest.raises(UsageError, match="hotwords"):
        score_hotwords(Listener(), ["Nobody"], named, others, 5)


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_every_name_is_in_a_list_of_the_size(size: int) -> None:
    lists = lists_of(NAMES, size)
    assert {len(one) for one in lists} == {size}
    assert all(len(set(one)) == size for one in lists)
    assert set(NAMES) <= {name for one in lists for name in one}
    with pytest.raises(UsageError, match="size is 0"):
        lists_of(NAMES, 0)
    with pytest.raises(UsageError, match="with hotwords"):
        lists_of([], size)


def test_made_up_names_are_distinct_and_the_same_each_time() -> None:
    names = made_up_names(3000)
    assert len(set(names)) == 3000
    assert names[:100] == made_up_names(100)
