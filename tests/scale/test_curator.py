"""`CuratorModel`: an adapter of NeMo Curator's speech recognition stage."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auris import AsrPipeline
from auris.errors import UnknownModel, UsageError
from auris.scale import CuratorModel
from auris.scale.curator import CuratorResult
from tests.tiny_models import tone_speech

RATE = 16_000


def item(samples: np.ndarray, language: str | None = None) -> dict[str, Any]:
    """A recording as the stage gives it."""
    known = {"language": None, "language_code": language, "task_id": "a"}
    return {"waveform": samples, "sample_rate": RATE, **known}


def test_results_are_those_of_the_pipeline(qwen: AsrPipeline, qwen_directory: Path) -> None:
    model = CuratorModel(str(qwen_directory), {"device": "cpu"}, batch_size=2, max_new_tokens=8)
    model.download_weights_on_node()
    with pytest.raises(UsageError, match="load_model was not called"):
        model.transcribe_batch([item(tone_speech(1.0, 1))])
    model.load_model(num_gpus=0)
    clips = [tone_speech(1.0 + 0.5 * n, n) for n in range(3)]
    items = [item(clips[0], "en"), item(clips[1], "zh"), item(clips[2])]
    results = model.transcribe_batch(items)
    for samples, language, result in zip(clips, ("en", "zh", None), results, strict=True):
        expected = qwen.transcribe((samples, RATE), language, max_new_tokens=8)
        assert (result.text, result.skipped) == (expected.text, False)
        assert result.extras["language"] == expected.language
    json.dumps(results[0].extras)
    assert model.transcribe_batch([]) == []
    model.unload_model()
    with pytest.raises(UsageError):
        model.transcribe_batch(items)


def test_what_cannot_be_transcribed_is_skipped(ctc_directory: Path) -> None:
    model = CuratorModel(str(ctc_directory), load={"device": "cpu", "threads": 1})
    model.load_model(num_gpus=0)
    items = [
        item(np.zeros(0, np.float32)),
        item(np.full(RATE, np.nan, np.float32)),
        item(tone_speech(1.0, 1), "xx"),
        item(tone_speech(1.0, 1)),
    ]
    results = model.transcribe_batch(items)
    assert [result.skip_reason for result in results] == [
        "empty_audio",
        "audio_error",
        "language_not_supported",
        None,
    ]
    assert [result.skipped for result in results] == [True, True, True, False]
    assert results[2].unsupported_language == "xx"
    assert all(result.extras["error"] for result in results[:3])


def test_a_model_that_does_not_exist() -> None:
    with pytest.raises(UnknownModel):
        CuratorModel("/nowhere").download_weights_on_node()


@pytest.mark.no_cover
@pytest.mark.skipif(not importlib.util.find_spec("nemo_curator"), reason="needs nemo-curator")
def test_the_stage_of_nemo_curator_runs_it(qwen_directory: Path) -> None:
    from nemo_curator.models.asr.base import ASRAdapter, ASRResult
    from nemo_curator.stages.audio.inference.asr.stage import ASRStage
    from nemo_curator.tasks import AudioTask

    assert isinstance(CuratorModel("tiny"), ASRAdapter)
    assert vars(CuratorResult()) == vars(ASRResult(""))
    stage = ASRStage(
        adapter_target="auris.scale.CuratorModel",
        model_id=str(qwen_directory),
        waveform_key="waveform",
        extras_key="auris",
        adapter_kwargs={"max_new_tokens": 8, "load": {"device": "cpu"}},
    )
    stage.resources.gpus = 0
    stage.setup_on_node()
    stage.setup()
    data = [
        {"waveform": tone_speech(1.0, 1), "sampling_rate": RATE, "source_lang": language}
        for language in ("en", None, "xx")
    ]
    tasks = stage.process_batch([AudioTask(data=row) for row in data])
    assert [task.data.get("_skipme") for task in tasks[:2]] == [None, None]
    assert tasks[2].data["_skipme"]
    assert tasks[0].data["auris"]["segments"][0]["end"] == 1.0
    stage.teardown()
