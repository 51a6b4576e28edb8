"""Times of words are compared with known ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auris.alignment.aligner import ForcedAligner
from auris.cli.main import main
from auris.errors import UsageError
from auris.evaluation.words import TimedClip, errors_of, fit_offset, read_timed
from auris.types import Word

CLIP_FILE = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"
CLIP = TimedClip(Path("a.wav"), "one two", (("one", 1.0, 1.5), ("two", 1.5, 2.0)))


class Late(ForcedAligner):
    """Aligns every word with a delay, and one of them not at all."""

    def __init__(self, start: float, end: float, words: int = 2) -> None:
        self.late = (start, end)
        self.count = words

    def align(self, *given: object, **options: object) -> list[Word]:
        start, end = self.late
        words = [Word(t, s + start, e + end) for t, s, e in CLIP.words]
        return [*words[: self.count], *(Word(w.text, None, None) for w in words[self.count :])]


def test_errors_are_measured_after_removing_the_offset() -> None:
    offset = fit_offset(Late(0.1, 0.3), [CLIP])
    errors = errors_of(Late(0.1, 0.3), [CLIP], offset)
    assert offset == pytest.approx(-0.1)
    assert (errors.start, errors.end) == pytest.approx((0.0, 0.2))
    assert (errors.start_bias, errors.end_bias) == pytest.approx((0.0, 0.2))
    assert (errors.words, errors.missing) == (2, 0)


def test_words_without_times_are_counted_separately() -> None:
    errors = errors_of(Late(0.0, 0.0, words=1), [CLIP], 0.0)
    assert (errors.words, errors.missing, errors.start) == (1, 1, 0.0)
    other = TimedClip(Path("a.wav"), "one", (("one", 0.0, 1.0),))
    assert errors_of(Late(0.0, 0.0), [other], 0.0).missing == 1
    assert fit_offset(Late(0.0, 0.0), []) == 0.0


def test_an_unreadable_set(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    with pytest.raises(UsageError, match=r"set\.jsonl"):
        read_timed(path)
    for text, found in (
        ('{"audio": "a.wav", "text": "a"}', "line 1 of .* has no 'words'"),
        ("wav,text", "line 1 of .* is no such object: 'wav,text'"),
        ('[{"words": 1}]', "line 1 of .* is no such object"),
    ):
        path.write_text(text + "\n")
        with pytest.raises(UsageError, match=found):
            read_timed(path)


def test_the_command_prints_errors_of_every_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [{"text": word, "start": 0.1, "end": 1.0} for word in ("kitchen", "fan")]
    path = tmp_path / "set.jsonl"
    line = {"audio": str(CLIP_FILE), "text": "kitchen fan", "words": words}
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "words", "--test-set", str(path), "--fit-set", str(path)])
    assert not end.value.code
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["sets"][str(path)]["words"] == 2
