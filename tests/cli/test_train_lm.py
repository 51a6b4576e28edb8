"""`auris train lm`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auris.decoding.language_model_file import load_language_model
from tests.cli.command import Auris
from tests.decoding.texts import TEXTS


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """The texts as a file."""
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


def test_the_command_writes_a_model_and_its_perplexity(
    auris: Auris, tmp_path: Path, text: Path
) -> None:
    out = tmp_path / "words.ngrams"
    done = auris("train", "lm", text, "--out", out, "--min-count", 1, "--dev", text)
    assert (done.code, done.err) == (0, "")
    assert "read 8 sentences" in done.out
    assert re.search(rf"wrote {re.escape(str(out))}, \d+\.\d kB\n", done.out)
    assert "perplexity" in done.out
    assert load_language_model(out).is_known("shells")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--order", 6], "--order has to be 2 to 5, but it is 6"),
        (["--prune", "1,0"], "do not fall"),
        (["--prune", "x"], "whole numbers"),
        (["--vocabulary", 70_000], "65000"),
        (["--max-size", 0.001], "--max-size has to leave room"),
        (["--min-count", 100], "lower --min-count"),
    ],
)
def test_impossible_options_are_refused(
    auris: Auris, tmp_path: Path, text: Path, options: list[object], fault: str
) -> None:
    out = tmp_path / "words.ngrams"
    done = auris("train", "lm", text, "--out", out, *options)
    assert done.code in (1, 2)
    assert fault in done.err
    assert not out.exists()
