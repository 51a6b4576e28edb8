"""Word times from a forced aligner: repair of times, long recordings, and random models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from auris import AsrPipeline, ForcedAligner
from auris.alignment.forced import MarkAlignment, Marks, repair
from auris.backends.torch import TorchBackend
from auris.errors import CheckpointError, ConfigError, LanguageError, UnsupportedOption
from auris.models.aligner import Aligner
from auris.types import Samples, Word
from tests.alignment.test_ctc import is_sound
from tests.tiny_models import aligner_config, tiny_model, tiny_tokenizer, tone_speech, write_tiny

CONFIG = aligner_config()
TINY = MarkAlignment(TorchBackend(tiny_model(CONFIG)), CONFIG, tiny_tokenizer())


class Scripted(MarkAlignment):
    """Recognizes the n-th word of the text at `times[n]`, and no word after the end of the clip."""

    def __init__(self, times: Sequence[tuple[float, float]]) -> None:
        super().__init__(TorchBackend(tiny_model(CONFIG)), CONFIG, tiny_tokenizer())
        self.times = times
        self.passes: list[tuple[float, int]] = []
        self.start = 0.0

    def marks(self, samples: Samples, words: Sequence[str]) -> Marks:
        """Times of words that are their numbers; the first sample of a chunk is its position."""
        seconds, start = len(samples) / 16000, float(samples[0])
        self.passes.append((seconds, len(words)))
        times = [
            1000 * min(max(time - start, 0.0), seconds)
            for word in words
            for time in self.times[int(word)]
        ]
        return Marks(times, [0.0] * len(times))


def placed(times: Sequence[tuple[float, float]], seconds: float) -> tuple[list[Word], Scripted]:
    """Words number 0, 1, ... spoken at `times` in a recording whose samples are their times."""
    alignment = Scripted(times)
    samples = (np.arange(round(seconds * 16000)) / 16000).astype(np.float32)
    words = alignment.words(samples, " ".join(map(str, range(len(times)))), "English")
    return words, alignment


@given(st.lists(st.integers(0, 30).map(lambda n: 80.0 * n), min_size=1, max_size=60))
def test_repairs_equal_those_of_the_reference(times: list[float]) -> None:
    module = pytest.importorskip("transformers.models.qwen3_asr.processing_qwen3_asr")
    repaired, runs = repair(times)
    assert repaired == module._fix_timestamps(np.array(times, np.float32))
    assert repaired == sorted(repaired)
    assert all(run or time == there for run, time, there in zip(runs, repaired, times, strict=True))


def test_increasing_times_are_not_changed() -> None:
    assert repair([]) == ([], [])
    assert repair([80.0, 80.0, 160.0]) == ([80, 80, 160], [0, 0, 0])


def test_repaired_runs_are_counted() -> None:
    assert repair([0.0, 800.0, 80.0, 80.0]) == ([0, 0, 80, 80], [0, 1, 0, 0])
    times, runs = repair([0.0, 9000.0, 8000.0, 7000.0, 80.0, 160.0, 240.0])
    assert times == [0, 20, 40, 60, 80, 160, 240]
    assert runs == [0, 3, 3, 3, 0, 0, 0]


def words_of(times: Sequence[float], seconds: float = 10.0) -> list[Word]:
    class FixedTimes(Scripted):
        def marks(self, samples: Samples, words: Sequence[str]) -> Marks:
            return Marks(list(times), [-0.5] * len(times))

    samples = np.zeros(round(seconds * 16000), np.float32)
    return FixedTimes([]).words(samples, " ".join("a" for _ in times[::2]), None)


def test_repaired_words_are_marked() -> None:
    first, second, third = words_of([0, 800, 80, 160, 240, 320])
    assert (first.start, first.end, first.repaired) == (0.0, 0.0, True)
    assert (second.start, second.end, second.repaired) == (0.08, 0.16, False)
    assert not third.repaired
    assert third.confidence == pytest.approx(np.exp(-0.5))


def test_a_run_of_more_than_three_has_no_times() -> None:
    words = words_of([0, 80, 9000, 8900, 8800, 8700, 160, 240, 320, 400, 480, 560])
    assert [word.start for word in words] == [0.0, None, None, 0.16, 0.32, 0.48]
    words = words_of([0, 9000, 8900, 8800, 80, 160, 240, 320, 400, 480])
    assert [(word.start, word.repaired) for word in words[:2]] == [(0.0, True), (0.04, True)]


def test_times_after_the_end_are_clipped() -> None:
    (word,) = words_of([800, 2400], seconds=1.0)
    assert (word.start, word.end, word.repaired) == (0.8, 1.0, True)


@given(st.lists(st.integers(0, 50).map(lambda n: 80.0 * n), max_size=40), st.floats(0.1, 5.0))
def test_words_of_any_scores_are_valid(times: list[float], seconds: float) -> None:
    times = times[: len(times) // 2 * 2]
    words = words_of(times, seconds)
    assert len(words) == len(times) // 2
    is_sound(words, round(seconds * 16000) / 16000)


class TestChunks:
    """Recordings of more than 180 s."""

    @pytest.mark.parametrize("seconds", [179.9, 180.0, 181.0, 300.0, 601.5, 1200.0])
    def test_long_recordings_are_aligned_in_passes(self, seconds: float) -> None:
        count = int(seconds)
        times = [(n * seconds / count, n * seconds / count + 0.4) for n in range(count)]
        words, alignment = placed(times, seconds)
        for word, (start, end) in zip(words, times, strict=True):
            assert word.start == pytest.approx(start, abs=0.002)
            assert word.end == pytest.approx(end, abs=0.002)
        assert max(length for length, _ in alignment.passes) <= 180.0
        assert (len(alignment.passes) == 1) == (seconds <= 180.0)

    @pytest.mark.parametrize("crowded", [0.0, 380.0])
    def test_wrong_estimates_are_corrected(self, crowded: float) -> None:
        """All words in twenty seconds, before or after a long silence."""
        times = [(crowded + n / 10, crowded + n / 10 + 0.05) for n in range(200)]
        words, _ = placed(times, 400.0)
        found = [(word.start, word.end) for word in words]
        if crowded == 0.0:
            assert np.abs(np.array(found) - np.array(times)).max() < 0.002
        is_sound(words, 400.0)

    @given(
        st.lists(st.tuples(st.floats(0, 400), st.floats(0, 400)), max_size=30),
        st.integers(185, 400),
    )
    @example([(1.0, 1.0), (0.0, 0.0), (1.78125, 121.0), (0.0, 0.0)], 185)
    @example([(95.62, 95.62), *[(209.878, 209.878)] * 3], 400)
    def test_words_are_valid(self, times: list[tuple[float, float]], seconds: int) -> None:
        words, _ = placed(times, seconds)
        assert len(words) == len(times)
        is_sound(words, seconds)


class TestTinyModel:
    @pytest.fixture(scope="class")
    def directory(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_tiny(tmp_path_factory.mktemp("models") / "it", "hf", CONFIG, seed=4)

    def test_words(self, directory: Path) -> None:
        aligner = ForcedAligner.from_pretrained(directory, device="cpu", dtype="float32")
        words = aligner.align((tone_speech(2.0), 16000), "Hello, 你好 don't!", "zh")
        assert [word.text for word in words] == ["Hello", "你", "好", "don't"]
        is_sound(words, 2.0)
        for text in ("", " ", "?!"):
            assert aligner.align((tone_speech(2.0), 16000), text) == []

    @pytest.mark.parametrize("language", ["ar", "hi", "Dutch"])
    def test_an_unsupported_language(self, directory: Path, language: str) -> None:
        aligner = ForcedAligner.from_pretrained(directory, device="cpu")
        with pytest.raises(LanguageError, match="forced aligner knows"):
            aligner.align((tone_speech(1.0), 16000), "a", language)

    def test_an_aligner_does_not_transcribe(self, directory: Path) -> None:
        with pytest.raises(ConfigError, match="forced aligner"):
            AsrPipeline.from_pretrained(directory, device="cpu")

    def test_words_of_a_transcript_are_aligned(self, directory: Path, ctc: AsrPipeline) -> None:
        aligner = ForcedAligner.from_pretrained(directory, device="cpu")
        clip = (tone_speech(3.0), 16000)
        done = ctc.transcribe(clip, word_timestamps=True, aligner=aligner)
        assert done.words is not None
        is_sound(done.words, 3.0)

    def test_other_heads_are_refused(self) -> None:
        backend = TorchBackend(tiny_model(CONFIG))
        (states,) = backend.encode([torch.zeros(128, 100)])
        with pytest.raises(UnsupportedOption, match="CTC head"):
            backend.ctc_logits([states])
        with pytest.raises(UnsupportedOption, match="decoder"):
            backend.embed([1], None)
        with pytest.raises(UnsupportedOption, match="forced aligner"):
            TorchBackend(tiny_model()).mark_logits([1], states)

    def test_nan_scores(self) -> None:
        model = tiny_model(CONFIG)
        assert isinstance(model, Aligner)
        model.head.weight.data.fill_(torch.nan)
        alignment = MarkAlignment(TorchBackend(model), CONFIG, tiny_tokenizer())
        with pytest.raises(CheckpointError, match="NaN"):
            alignment.words(tone_speech(1.0), "a", None)

    @given(st.text("the quick你好é1!'\n", max_size=40), st.floats(0.01, 3.0))
    def test_words_are_valid(self, text: str, seconds: float) -> None:
        samples = tone_speech(seconds)
        is_sound(TINY.words(samples, text, None), len(samples) / 16000)
