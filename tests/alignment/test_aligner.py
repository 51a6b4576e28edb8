"""`ForcedAligner` and the words of transcripts, on tiny models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from auris import AsrPipeline, ForcedAligner, Word
from auris.checkpoints.export import export
from auris.errors import (
    AlignmentError,
    EmptyAudio,
    LanguageError,
    MissingExtra,
    UnsupportedOption,
    UsageError,
)
from auris.types import Samples, Segment
from tests.alignment.test_ctc import is_sound
from tests.tiny_models import qwen_config, randomize, tiny_model, tiny_tokenizer, tone_speech

SPEECH = (tone_speech(2.0), 16000)
TEXT = "the quick brown fox"


@pytest.fixture(scope="module")
def headed_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-ASR model with a CTC head."""
    config = qwen_config()
    head = nn.Linear(config.decoder.hidden, config.decoder.vocab + 1)
    randomize(head, seed=5)
    out = tmp_path_factory.mktemp("models") / "headed"
    return export(tiny_model(), config, tiny_tokenizer(), out, layout="hf", ctc_head=head)


@pytest.fixture(scope="module")
def aligner(ctc_directory: Path) -> ForcedAligner:
    return ForcedAligner.from_pretrained(ctc_directory, device="cpu")


class Refusing:
    """An aligner that supports no language and aligns nothing."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def check(self, language: str | None) -> None:
        """Accept at first."""

    def words(self, samples: Samples, text: str, language: str | None) -> list[Word]:
        """Nothing."""
        raise self.error

    def segment_words(
        self, samples: Samples, segment: Segment, states: Tensor | None = None
    ) -> list[Word]:
        """Nothing."""
        raise self.error


def test_words_of_a_text(aligner: ForcedAligner) -> None:
    words = aligner.align(SPEECH, TEXT, "en")
    assert [word.text for word in words] == TEXT.split()
    is_sound(words, 2.0)


def test_times_are_relative_to_the_source(aligner: ForcedAligner) -> None:
    samples = np.concatenate([np.zeros(16000, np.float32), SPEECH[0]])
    moved = aligner.align((samples, 16000), TEXT, start=1.0)
    for word, there in zip(moved, aligner.align(SPEECH, TEXT), strict=True):
        assert word.start is not None
        assert there.start is not None
        assert word.start == pytest.approx(there.start + 1.0, abs=1e-9)
    is_sound(moved, 3.0)


def test_a_qwen_model_aligns_with_its_ctc_head(headed_directory: Path) -> None:
    aligner = ForcedAligner.from_pretrained(headed_directory, device="cpu")
    words = aligner.align(SPEECH, "Hello, 你好 World!", "zh")
    assert [word.text for word in words] == ["Hello", "你", "好", "World"]
    is_sound(words, 2.0)
    assert aligner.align(SPEECH, "") == []


def test_a_model_without_a_head_cannot_align(qwen_directory: Path) -> None:
    with pytest.raises(UnsupportedOption, match="forced aligner or a model with a CTC head"):
        ForcedAligner.from_pretrained(qwen_directory, device="cpu")


@pytest.mark.parametrize(
    ("audio", "given", "error"),
    [
        ((np.zeros(0, np.float32), 16000), {}, EmptyAudio),
        (SPEECH, {"language": "Klingon"}, LanguageError),
        (SPEECH, {"language": "de"}, UnsupportedOption),
        (SPEECH, {"text": None}, UsageError),
        (SPEECH, {"text": "\udcff"}, UsageError),
        (SPEECH, {"text": TEXT * 9}, AlignmentError),
        (SPEECH, {"start": 5.0}, EmptyAudio),
    ],
)
def test_invalid_input_is_refused(
    aligner: ForcedAligner, audio: Any, given: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        aligner.align(audio, **{"text": TEXT, **given})


@pytest.mark.parametrize("fixture", ["ctc_directory", "headed_directory"])
def test_words_of_a_transcript(request: pytest.FixtureRequest, fixture: str) -> None:
    pipeline = AsrPipeline.from_pretrained(request.getfixturevalue(fixture), device="cpu")
    audio = (tone_speech(5.0), 16000)
    options: dict[str, Any] = {"chunk_seconds": 2.0}
    if fixture == "headed_directory":
        options["max_new_tokens"] = 20
    plain = pipeline.transcribe(audio, **options)
    timed = pipeline.transcribe(audio, word_timestamps=True, **options)
    assert plain.words is None
    assert timed.text == plain.text
    assert timed.words is not None
    assert len(timed.segments) > 1
    assert timed.timings["align"] > 0
    for segment in timed.segments:
        assert segment.words is not None
        is_sound([word.moved(-segment.start) for word in segment.words], 5.0)
        assert all(
            segment.start <= word.start <= (word.end or 0.0) <= segment.end
            for word in segment.words
            if word.start is not None
        )


def test_an_aligner_can_be_passed(qwen: AsrPipeline, aligner: ForcedAligner) -> None:
    with pytest.raises(UnsupportedOption, match="forced aligner or a model with a CTC head"):
        qwen.transcribe(SPEECH, word_timestamps=True)
    done = qwen.transcribe(SPEECH, word_timestamps=True, aligner=aligner, max_new_tokens=9)
    assert done.words is not None
    with pytest.raises(UnsupportedOption, match="English only"):
        qwen.transcribe(SPEECH, "de", word_timestamps=True, aligner=aligner, max_new_tokens=9)


@pytest.mark.parametrize("token", [3, 10**6])
def test_tokens_of_another_model_are_not_used_as_units(aligner: ForcedAligner, token: int) -> None:
    text = "the quick, brown fox"
    written = Segment(0.0, 2.0, text, "English", (token,) * 4, (-0.1,) * 4, "stop")
    words = aligner.with_words(written, SPEECH[0]).words
    assert words is not None
    assert [word.text for word in words] == text.replace(",", "").split()
    assert times(words) == times(aligner.align(SPEECH, text, "en"))


def test_a_segment_without_speech_has_no_words(ctc: AsrPipeline) -> None:
    own = ForcedAligner(ctc._own_aligner.alignment)
    written = Segment(0.0, 2.0, "", None, (5, 6), (-0.1, -0.1), "stop", no_speech=True)
    assert own.with_words(written, SPEECH[0]).words == ()


def test_the_bundled_models_align_words_of_each_other() -> None:
    clip = Path(__file__).parents[2] / "examples" / "kitchen_fan.flac"
    for writer, placer in (("tiny", "tiny-ctc"), ("tiny-ctc", "tiny")):
        pipeline = AsrPipeline.from_pretrained(writer)
        own = pipeline.transcribe(clip, word_timestamps=True)
        aligner = ForcedAligner.from_pretrained(placer)
        given = pipeline.transcribe(clip, word_timestamps=True, aligner=aligner)
        assert own.words is not None
        assert given.words is not None
        said = [word.text for word in given.words]
        assert said == [word.text for word in own.words] == given.text.split()
        starts = zip(own.words, given.words, strict=True)
        assert all(abs((a.start or 0.0) - (b.start or 9.0)) < 0.25 for a, b in starts)


@pytest.mark.parametrize("kind", [AlignmentError, LanguageError])
def test_words_that_cannot_be_aligned_have_no_times(kind: Any) -> None:
    aligner = ForcedAligner(Refusing(kind("rule", "found", "remedy")))
    piece = Segment(3.0, 5.0, "hi, there", "English", (), (), "stop")
    assert aligner.with_words(piece, SPEECH[0]).words == (
        Word("hi", None, None),
        Word("there", None, None),
    )


def test_a_missing_package_is_an_error(ctc: AsrPipeline) -> None:
    aligner = ForcedAligner(Refusing(MissingExtra("rule", "found", "remedy")))
    with pytest.raises(MissingExtra):
        ctc.transcribe(SPEECH, word_timestamps=True, aligner=aligner)


def times(words: Sequence[Word] | None) -> list[tuple[float | None, float | None]]:
    return [(word.start, word.end) for word in words or ()]


def test_words_do_not_depend_on_the_batch(headed_directory: Path) -> None:
    pipeline = AsrPipeline.from_pretrained(headed_directory, device="cpu", dtype="float32")
    clips: list[Any] = [(tone_speech(1.0 + n / 2, n), 16000) for n in range(3)]
    together = pipeline.transcribe(clips, batch_size=3, word_timestamps=True, max_new_tokens=12)
    for clip, done in zip(clips, together, strict=True):
        alone = pipeline.transcribe(clip, word_timestamps=True, max_new_tokens=12)
        assert times(alone.words) == times(done.words)
