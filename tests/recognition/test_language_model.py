"""A language model in whole pipelines: files, batches, live streams, options and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auris import AsrPipeline
from auris.checkpoints.lm_weights import LmWeights, save_lm_weights
from auris.decoding.language_model_file import packed_model
from auris.errors import CheckpointError, UnsupportedOption, UsageError
from auris.evaluation.lm_weights import fit_weights
from auris.recognition.ctc import CtcRecognizer
from auris.recognition.fingerprint import model_values
from tests.decoding.texts import small_model
from tests.streaming.live import same, stable, updates_of
from tests.tiny_models import ctc_config, qwen_config, tone_speech, write_tiny

RATE = 16000

WEIGHTS = LmWeights(2.0, 1.0, beam_size=3)
"""Large ones, since texts of a random model are no words."""


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "words.ngrams"
    path.write_bytes(packed_model(small_model()))
    return path


@pytest.fixture(scope="module", params=["decoder", "CTC head"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ctc_config() if request.param == "CTC head" else qwen_config()
    path = write_tiny(tmp_path_factory.mktemp("models") / "model", config=config, seed=3)
    save_lm_weights(WEIGHTS, path)
    return path


@pytest.fixture(scope="module")
def pipeline(directory: Path, lm: Path) -> AsrPipeline:
    return AsrPipeline.from_pretrained(directory, device="cpu", lm=lm)


def budget(pipeline: AsrPipeline) -> dict[str, Any]:
    """Few tokens, for models that have a budget."""
    if isinstance(pipeline.recognizer, CtcRecognizer):
        return {}
    return {"max_new_tokens": 9, "language": "en"}


def test_a_language_model_changes_texts(pipeline: AsrPipeline, directory: Path) -> None:
    clips = [(tone_speech(2.0, seed), RATE) for seed in range(4)]
    plain = AsrPipeline.from_pretrained(directory, device="cpu")
    before, after = (
        [one.segments[0].tokens for one in each.transcribe(clips, **budget(pipeline))]
        for each in (plain, pipeline)
    )
    assert before != after


def test_a_batch_gives_the_text_of_each_recording_alone(pipeline: AsrPipeline) -> None:
    clips = [(tone_speech(0.4 + 1.3 * seed, seed), RATE) for seed in range(4)]
    together = pipeline.transcribe(clips, batch_size=3, **budget(pipeline))
    for seed, (clip, transcript) in enumerate(zip(clips, together, strict=True)):
        alone = pipeline.transcribe(clip, **budget(pipeline))
        same(transcript.segments, alone.segments, f"clip {seed}")


def test_the_final_text_of_a_stream_is_that_of_the_file(pipeline: AsrPipeline) -> None:
    samples = tone_speech(4.3, 5)
    options = {"chunk_seconds": 2.0, "end_at_pauses": True, **budget(pipeline)}
    updates = updates_of(pipeline.stream(**options), samples, [7000])
    same(stable(updates), pipeline.transcribe((samples, RATE), **options).segments, "stream")


def test_the_beam_is_that_of_the_weights_if_a_call_names_none(pipeline: AsrPipeline) -> None:
    clip = (tone_speech(2.0, 1), RATE)
    default = pipeline.transcribe(clip, **budget(pipeline))
    same(
        default.segments,
        pipeline.transcribe(clip, beam_size=WEIGHTS.beam_size, **budget(pipeline)).segments,
        "default beam",
    )


def test_the_weights_of_the_model_are_used_and_shape_the_fingerprint(
    pipeline: AsrPipeline, directory: Path, lm: Path
) -> None:
    used = pipeline.recognizer.scorers.lm
    assert used is not None
    assert used.weights == WEIGHTS
    values = model_values(pipeline)
    assert values["lm"] == {**used.values, "weight": 2.0}
    assert model_values(AsrPipeline.from_pretrained(directory, device="cpu"))["lm"] is None


def test_a_temperature_is_refused(pipeline: AsrPipeline) -> None:
    with pytest.raises(UnsupportedOption, match="temperature"):
        pipeline.transcribe((tone_speech(1.0, 1), RATE), temperature=0.5)


def test_a_missing_or_wrong_file_is_refused(directory: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "words.ngrams"
    wrong.write_text("no language model")
    missing = tmp_path / "none.ngrams"
    for path, message in ((wrong, "from texts with auris train lm"), (missing, "No such file")):
        with pytest.raises(CheckpointError, match=message) as refused:
            AsrPipeline.from_pretrained(directory, device="cpu", lm=path)
        assert "Error" not in str(refused.value), "the message has the name of an exception"


def test_weights_are_fitted_on_recordings(directory: Path, lm: Path, tmp_path: Path) -> None:
    pytest.importorskip("jiwer")
    from tests.audio.media import wav

    clip = tmp_path / "a.wav"
    clip.write_bytes(wav(tone_speech(1.0, 1)[None]))
    pipeline = AsrPipeline.from_pretrained(directory, device="cpu", lm=lm)
    trials = list(fit_weights(pipeline, {"dev": {clip: "the cat sat"}}, trials=3))
    assert trials[0].weights == WEIGHTS
    assert all(trial.rate >= 0.0 for trial in trials)
    plain = AsrPipeline.from_pretrained(directory, device="cpu")
    with pytest.raises(UsageError, match="lm"):
        list(fit_weights(plain, {"dev": {clip: "the cat sat"}}, trials=1))
