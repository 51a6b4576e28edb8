"""cpWER: fixed values of meeteval, hand counts, and the command."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auris import Diarizer
from auris.cli.main import main
from auris.errors import UsageError
from auris.evaluation.cpwer import Utterance, read_stm, speaker_word_errors
from auris.evaluation.wer import word_edits
from tests.diarization.voices import diarizer
from tests.server.live import EXAMPLE

pytest.importorskip("jiwer")

Talk = list[tuple[str, float, str]]

# fmt: off
MEETEVAL: list[tuple[Talk, Talk, int, int, int]] = [
    ([("B", 1, "a d b a b"), ("A", 3, "b d a b"), ("A", 4, "c b d b"), ("A", 6, "d b b a a"),
      ("A", 8, "b c"), ("B", 10, "b b b d c")],
     [("1", 1, "b b c a"), ("2", 3, "a c a c c"), ("2", 5, "b d d"), ("1", 6, "a c d"),
      ("1", 9, "d a d"), ("1", 10, "b a b d c")], 25, 14, 15),
    ([("C", 1, "c d a c c"), ("A", 3, "b"), ("B", 5, "c c"), ("C", 6, "c c b"), ("A", 8, "d b a"),
      ("A", 11, "b"), ("C", 13, "d d b")],
     [("1", 0, "c b b b"), ("2", 2, "d c"), ("1", 4, "c b d b"), ("2", 7, "d c c"),
      ("2", 9, "a d")], 18, 13, 11),
    ([("A", 1, "b a d"), ("B", 3, "c"), ("A", 5, "c d c"), ("B", 7, "a d"), ("B", 9, "d c c")],
     [("3", 1, "d c b"), ("4", 3, "b b b"), ("3", 5, "a d b"), ("4", 7, "c a b b d"),
      ("2", 8, "a d"), ("2", 10, "b"), ("1", 13, "d b"), ("1", 15, "c d a b")], 12, 20, 15),
    ([("A", 1, "b b d"), ("A", 3, "b d a a b"), ("A", 4, "a"), ("A", 7, "d")],
     [("3", 1, "a"), ("1", 2, "a b c d b"), ("1", 4, "b a b a"), ("3", 6, "a c a a"),
      ("3", 9, "b a d a c"), ("3", 11, "c c a b")], 10, 19, 15),
    ([("C", 0, "c b c a b"), ("C", 3, "b b c d d"), ("B", 4, "c"), ("A", 6, "a"), ("E", 9, "d d"),
      ("D", 11, "a"), ("E", 13, "b"), ("D", 14, "a")],
     [("2", 0, "d c"), ("1", 3, "c d d"), ("1", 5, "d c a")], 17, 14, 11),
]
# fmt: on
"""Reference, transcript, words, errors of cp_word_error_rate and of siso_word_error_rate of
meeteval 0.4.3."""


def talk(utterances: Talk) -> list[Utterance]:
    return [Utterance(*one) for one in utterances]


@pytest.mark.parametrize(("reference", "found", "words", "errors", "plain"), MEETEVAL)
def test_errors_are_those_of_meeteval(
    reference: Talk, found: Talk, words: int, errors: int, plain: int
) -> None:
    # The order of utterances in the lists does not matter.
    scored = speaker_word_errors(talk(reference)[::-1], talk(found))
    assert (scored.words, scored.errors, scored.plain_errors) == (words, errors, plain)


def talks(names: str) -> st.SearchStrategy[Talk]:
    words = st.lists(st.sampled_from("abc"), max_size=4).map(" ".join)
    one = st.tuples(st.sampled_from(names), st.integers(0, 50).map(float), words)
    return st.lists(one, max_size=8, unique_by=lambda utterance: utterance[1])


@given(talks("ABC"), talks("123"))
def test_errors_are_those_of_the_best_of_all_mappings(reference: Talk, found: Talk) -> None:
    truth, guess = (
        [
            " ".join(
                text for speaker, _, text in sorted(one, key=lambda u: u[1]) if speaker == name
            )
            for name in names
        ]
        for one, names in ((reference, "ABC"), (found, "123"))
    )
    best = min(
        sum(word_edits(row, column).total() for row, column in zip(truth, order, strict=True))
        for order in permutations(guess)
    )
    assert speaker_word_errors(talk(reference), talk(found)).errors == best


def test_nothing() -> None:
    nothing = speaker_word_errors([], [])
    assert (nothing.cpwer, nothing.wer, nothing.expected) == (0.0, 0.0, 0)
    missed = speaker_word_errors(talk([("A", 0, "a b")]), [])
    assert (missed.cpwer, missed.speakers) == (1.0, 0)
    assert (missed + nothing).errors == 2


def test_stm_is_read(tmp_path: Path) -> None:
    path = tmp_path / "talk.stm"
    path.write_text(
        ";; a comment\n\ntalk 1 A 0.5 2 Hello there\ntalk 1 B 2 3 <o,f0> Hi.\ntalk 1 A 4 5\n"
    )
    assert read_stm(path) == [
        Utterance("A", 0.5, "Hello there"),
        Utterance("B", 2.0, "Hi."),
        Utterance("A", 4.0, ""),
    ]
    path.write_text("talk 1 A x 2 Hello\n")
    with pytest.raises(UsageError, match="line 1"):
        read_stm(path)
    with pytest.raises(UsageError, match="readable STM"):
        read_stm(tmp_path / "missing.stm")


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Diarizer, "from_pretrained", lambda model=None: diarizer())
    (tmp_path / "talk.flac").write_bytes(EXAMPLE.read_bytes())
    (tmp_path / "talk.stm").write_text("talk 1 A 0 1 switch the kitchen\ntalk 1 B 1 2 fan off\n")
    (tmp_path / "set.csv").write_text("wav,stm\ntalk.flac,talk.stm\n")
    arguments = ["benchmark", "cpwer", "-m", "tiny-ctc", "--normalizer", "spoken"]
    listing = str(tmp_path / "set.csv")
    for more in ([], ["--known-count"]):
        with pytest.raises(SystemExit) as done:
            main([*arguments, "--test-set", listing, *more])
        assert done.value.code == 0
        out = capsys.readouterr().out
        (scores,) = json.loads(out.splitlines()[-1])["sets"]
        total = scores["total"]
        assert (total["words"], total["expected"], total["speakers"]) == (5, 2, 1)
        # All words have one speaker, so those of the other one are missing and superfluous.
        assert total["errors"] >= total["plain_errors"] + 2
        assert scores["cpwer"] == pytest.approx(total["errors"] / 5)
    (tmp_path / "empty.csv").write_text("wav,stm\n")
    with pytest.raises(SystemExit):
        main([*arguments, "--test-set", str(tmp_path / "empty.csv")])
    assert "holds no recordings" in capsys.readouterr().err
