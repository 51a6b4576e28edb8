"""The benchmark of streams: its comparisons, and that it ends in one line of JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from auris import AsrPipeline
from auris.cli.main import main
from auris.evaluation.live_delays import DelayScore, LiveDelays, word_ends
from auris.evaluation.streaming import compare_clips, compare_segments, score_stream
from auris.evaluation.wer import word_error_rate
from auris.streaming.decoder import StepCost
from auris.streaming.session import StreamUpdate
from auris.types import Segment, Word
from tests.recordings import write_wav

SEGMENT = Segment(1.0, 3.0, "one two", "English", (5, 6), (-0.1, -0.7), "stop")


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        (SEGMENT, "identical"),
        (replace(SEGMENT, tokens=(5, 7), logprobs=(-0.1, -0.7001)), "tie"),
        (replace(SEGMENT, tokens=(5, 7), logprobs=(-0.1, -0.71)), "different"),
        (replace(SEGMENT, tokens=(5,), logprobs=(-0.1,)), "different"),
        (replace(SEGMENT, text="one"), "different"),
        (replace(SEGMENT, language=None), "different"),
        (replace(SEGMENT, end=2.9), "different"),
    ],
)
def test_segments_are_compared_under_the_tie_rule(other: Segment, verdict: str) -> None:
    assert compare_segments([SEGMENT, SEGMENT], [SEGMENT, other]) == verdict
    assert compare_segments([SEGMENT], []) == "different"


def test_words_without_times_are_distributed_over_their_chunk() -> None:
    assert word_ends(SEGMENT) == [2.0, 3.0]
    assert word_ends(replace(SEGMENT, text="")) == []
    words = (Word("one", 1.1, 1.4), Word("two", 1.5, None))
    assert word_ends(replace(SEGMENT, words=words)) == [1.4, 3.0]


def test_delays_end_where_words_settle_or_are_final() -> None:
    cost = StepCost(1, 1, 1)
    partial = StreamUpdate(
        0, False, SEGMENT, 3.5, cost, settled="One", delta="One", settled_words=1
    )
    final = StreamUpdate(0, True, SEGMENT, 5.0, cost, settled_words=1, revised=1)
    delays = LiveDelays()
    assert delays.score() == DelayScore(0, 0, 0, None, None, None, None)
    assert delays.score().revised_share == 0.0
    delays.add([partial, final])
    assert (delays.settled, delays.final) == ([1.5, 2.0], [3.0, 2.0])
    score = delays.score()
    assert (score.words, score.early, score.revised, score.revised_share) == (2, 1, 1, 50.0)
    assert (score.settled_seconds, score.final_seconds) == (1.75, 2.5)


@pytest.mark.parametrize("given", ["", "a", "0.1,,2", "0", "-1", "nan", "inf"])
def test_invalid_feed_sizes_are_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "stream", "--audio", "a.wav", "--feed-seconds", given])
    assert end.value.code == 2
    assert "--feed-seconds" in capsys.readouterr().err


def test_a_stream_is_compared_with_its_file(ctc: AsrPipeline, tmp_path: Path) -> None:
    recording = write_wav(tmp_path / "clip.wav", 7.3)
    score = score_stream(ctc, str(recording), [0.01, 5.0, 0.3], chunk_seconds=3.0)
    assert (score.seconds, score.steps, score.verdict) == (7.3, 14, "identical")
    assert score.chunks == 4
    assert score.late_gb >= score.early_gb * 0.9 > 0.0
    assert score.busy > 0.0


def test_the_command_ends_in_json(
    qwen_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = str(write_wav(tmp_path / "clip.wav", 2.0))
    options = ["--model", str(qwen_directory), "--device", "cpu", "--max-new-tokens", "4"]
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "stream", "--audio", recording, *options])
    assert not end.value.code
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["recordings"][0]["name"] == recording
    assert result["recordings"][0]["verdict"] == "identical"


def test_clips_are_compared_several_at_once(
    ctc_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        path = write_wav(tmp_path / f"{number}.wav", 0.4 + number)
        path.with_suffix(".txt").write_text("words")
    options = ["--model", str(ctc_directory), "--device", "cpu", "--streams", "3"]
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "stream", "--test-set", str(tmp_path), *options])
    assert not end.value.code
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    (found,) = result["sets"].values()
    expected = {"clips": 5, "identical": 5, "ties": 0, "different": []}
    measured = {name: found[name] for name in ("delays", "step_seconds")}
    assert found == {**expected, **measured, "live_wer": None, "file_wer": None}
    assert found["delays"]["words"] > 0
    assert found["step_seconds"] > 0


def test_word_errors_of_every_second_clip(
    ctc_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jiwer")
    for number in range(3):
        path = write_wav(tmp_path / f"{number}.wav", 1.0 + number)
        path.with_suffix(".txt").write_text("four words of text")
    options = ["--model", str(ctc_directory), "--device", "cpu", "--errors", "--every", "2"]
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "stream", "--test-set", str(tmp_path), *options])
    assert not end.value.code
    lines = capsys.readouterr().out.splitlines()
    (found,) = json.loads(lines[-1])["sets"].values()
    assert found["clips"] == 2
    assert found["live_wer"] >= 1.0
    assert found["file_wer"] >= 1.0
    assert "live WER" in lines[0]


def test_a_word_error_rate_is_one_over_all_words() -> None:
    pytest.importorskip("jiwer")
    one, two = Path("one"), Path("two")
    references = {one: "Switch the fan off.", two: ""}
    assert word_error_rate(references, {one: "switch a fan off"}) == 0.25
    assert word_error_rate(references, {one: "switch the fan off", two: "so"}) == 0.25
    assert word_error_rate(references, {two: ""}) is None


def test_a_clip_may_be_compared_twice(ctc: AsrPipeline, tmp_path: Path) -> None:
    clip = write_wav(tmp_path / "clip.wav", 1.0)
    assert compare_clips(ctc, [clip, clip], [0.5], streams=2).identical == 2


def test_a_set_without_audio_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "stream"])
    assert end.value.code == 2
    assert "--test-set" in capsys.readouterr().err
