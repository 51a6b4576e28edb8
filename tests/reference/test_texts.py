"""Transcripts of test sets against transformers, and deliberate differences."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from auris import config
from auris.cli.main import main
from auris.diagnostics import parity
from auris.diagnostics.parity import Parity, SetAgreement, compare_set
from auris.recognition import qwen as recognizers
from auris.recognition import recognizer, scheduler
from auris.types import Segment
from tests.recordings import write_wav
from tests.tiny_models import ctc_config, qwen_config, write_tiny

pytest.importorskip("transformers", minversion="5.23")

SECONDS = {"short": 0.3, "chunk": 1.0, "window": 9.7, "long": 41.0}
"""The last one is cut into two pieces."""


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models never end a text."""
    monkeypatch.setattr(config, "TOKENS_PER_SECOND", 1)


def quick(out: Path, layout: Any = "hf") -> Path:
    """A random model whose texts are short: a quarter of all tokens end them."""
    directory = write_tiny(out, layout, seed=9)
    path = directory / "generation_config.json"
    content = json.loads(path.read_text())
    content["eos_token_id"] = list(range(0, qwen_config().decoder.vocab, 4))
    path.write_text(json.dumps(content))
    return directory


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick(tmp_path_factory.mktemp("models") / "it")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test set: recordings with transcripts in set.csv."""
    root = tmp_path_factory.mktemp("clips")
    for seed, (name, seconds) in enumerate(SECONDS.items()):
        write_wav(root / f"{name}.wav", seconds, seed)
    rows = [f"{name}.wav,words" for name in SECONDS]
    (root / "set.csv").write_text("\n".join(["wav,text", *rows]))
    return root


@pytest.fixture(scope="module")
def both(model: Path) -> Parity:
    return Parity(model)


def compared(both: Parity, clips: Path, *names: str) -> SetAgreement:
    return compare_set(both, "it", [clips / f"{name}.wav" for name in names or SECONDS])


@pytest.mark.parametrize("layout", ["hf", "published"])
def test_texts_agree(tmp_path: Path, clips: Path, layout: str) -> None:
    found = compared(Parity(quick(tmp_path / "it", layout)), clips)
    for file, one in found.differences.items():
        print(f"{file}: {one}")
    assert (found.clips, found.different, found.failed) == (len(SECONDS), 0, {})
    assert found.identical + found.ties == found.clips
    assert found.ties <= 1
    assert found.tokens > 100
    assert found.seconds == pytest.approx(sum(SECONDS.values()))


def test_a_wrong_text_is_detected(
    both: Parity, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = recognizers.parse_reply

    def wrong(text: str, forced: str | None = None) -> Any:
        return dataclasses.replace(real(text, forced), text="something else")

    monkeypatch.setattr(recognizers, "parse_reply", wrong)
    found = compared(both, clips, "chunk", "window")
    assert (found.identical, found.ties, found.different) == (0, 0, 2)
    for one in found.differences.values():
        assert one.ours == "something else"
        assert one.note == "at 0.0 s: the same tokens are read differently"


def test_a_wrong_language_is_detected(
    both: Parity, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = recognizers.parse_reply
    monkeypatch.setattr(
        recognizers,
        "parse_reply",
        lambda text, forced: dataclasses.replace(real(text, forced), language="Klingon"),
    )
    assert both.agree(clips / "chunk.wav").verdict == "different"


def test_wrongly_joined_texts_are_detected(
    both: Parity, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "join_texts", "".join)
    one = both.agree(clips / "long.wav")
    assert (one.verdict, one.note) == (
        "different",
        "every chunk is the same, the joined text is not",
    )


def test_an_error_of_only_the_pipeline_is_not_a_tie(
    both: Parity, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = recognizer.log_mel
    monkeypatch.setattr(recognizer, "log_mel", lambda *given: 0.1 * real(*given))
    monkeypatch.setattr(parity, "TIE_MARGIN", float("inf"))
    one = both.agree(clips / "window.wav")
    assert one.verdict == "different"
    assert one.note.endswith(", by the pipeline alone")


def test_a_missing_chunk_is_an_error(
    both: Parity, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scheduler._Recording.transcript

    def shorter(recording: Any, *given: Any) -> Any:
        whole = real(recording, *given)
        segments: tuple[Segment, ...] = whole.segments[:1]
        return dataclasses.replace(whole, segments=segments)

    monkeypatch.setattr(scheduler._Recording, "transcript", shorter)
    with pytest.raises(ValueError, match="zip"):
        both.agree(clips / "long.wav")


class TestWrongWeights:
    @pytest.fixture
    def wrong(self, model: Path) -> Parity:
        both = Parity(model)
        both.model.decoder.norm.weight.data.neg_()
        return both

    def test_a_difference_has_its_position_and_margin(self, wrong: Parity, clips: Path) -> None:
        found = compared(wrong, clips, "window")
        assert found.different == 1
        (one,) = found.differences.values()
        assert one.note.startswith("at 0.0 s: token ")
        assert ", margin " in one.note

    def test_a_difference_between_nearly_equal_logits_is_a_tie(
        self, wrong: Parity, clips: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parity, "TIE_MARGIN", float("inf"))
        found = compared(wrong, clips, "window")
        assert (found.identical, found.ties, found.different) == (0, 1, 0)
        (one,) = found.differences.values()
        assert one.verdict == "tie"
        assert one.ours != one.theirs

    def test_one_different_chunk_outweighs_a_tie(
        self, wrong: Parity, clips: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        margins = iter([float("inf"), 0.0])
        real = parity.token_difference

        def judged(*given: Any) -> Any:
            monkeypatch.setattr(parity, "TIE_MARGIN", next(margins))
            return real(*given)

        monkeypatch.setattr(parity, "token_difference", judged)
        one = wrong.agree(clips / "long.wav")
        assert one.verdict == "different"
        assert one.note.count(" s: token ") == 2


class TestCommand:
    def run(self, *arguments: object) -> int:
        with pytest.raises(SystemExit) as end:
            main(["benchmark", "parity", *map(str, arguments)])
        return int(end.value.code or 0)

    def test_it_prints_json(
        self, model: Path, clips: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run("--test-set", clips / "set.csv", "-m", model, "--limit", 2) == 0
        out = capsys.readouterr().out
        summary = json.loads(out.splitlines()[-1])
        assert summary["model"] == str(model)
        (found,) = summary["sets"]
        assert (found["name"], found["clips"], found["different"]) == (str(clips / "set.csv"), 2, 0)
        assert "identical  ties different" in out

    def test_a_difference_is_listed_with_exit_code_1(
        self,
        model: Path,
        clips: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        real = recognizers.parse_reply
        monkeypatch.setattr(
            recognizers,
            "parse_reply",
            lambda text, forced: dataclasses.replace(real(text, forced), text="oh no"),
        )
        assert self.run("--test-set", clips / "set.csv", "-m", model, "--limit", 1) == 1
        out = capsys.readouterr().out
        assert f"different: {clips / 'short.wav'} at 0.0 s" in out
        assert "auris 'oh no', transformers '" in out
        assert json.loads(out.splitlines()[-1])["sets"][0]["different"] == 1

    def test_skipped_comparisons_are_reported(
        self, model: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        test_set = tmp_path / "set.csv"
        test_set.write_text(f"wav,text\nmissing.wav,x\n{clips / 'short.wav'},y\n")
        assert self.run("--test-set", test_set, "-m", model) == 1
        out, err = capsys.readouterr()
        assert f"not compared: {tmp_path / 'missing.wav'}" in err
        (found,) = json.loads(out.splitlines()[-1])["sets"]
        assert (found["clips"], found["identical"], len(found["failed"])) == (1, 1, 1)

    def test_without_transformers(
        self,
        model: Path,
        clips: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        assert self.run("--test-set", clips / "set.csv", "-m", model) == 1
        assert "auris-asr[reference]" in capsys.readouterr().err

    def test_a_ctc_model_has_no_reference(
        self, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = write_tiny(tmp_path / "ctc", config=ctc_config())
        assert self.run("--test-set", clips / "set.csv", "-m", other) == 2
        assert "Qwen3-ASR models only" in capsys.readouterr().err
