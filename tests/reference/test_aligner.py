"""Random forced aligners, layer by layer and in times, against transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from auris import ForcedAligner
from auris.alignment.forced import MarkAlignment, repair
from auris.backends.torch import TorchBackend
from auris.checkpoints.export import convert
from auris.diagnostics.parity import _recorded, _stages, compare_states
from auris.models.aligner import Aligner
from auris.text.prompt import alignment_ids
from auris.types import Samples
from tests.tiny_models import aligner_config, tone_speech, write_tiny

transformers = pytest.importorskip("transformers", minversion="5.23")

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"head_bias": True},
    "many classes": {"classes": 500, "kv_heads": 1},
    "window of 1 s": {"window_frames": 100, "head_dim": 24, "decoder_heads": 2},
}
TEXTS = {
    "one word": ("Hello!", "English"),
    "marks": ("the quick, brown fox (it's ten past nine) -- don't-stop 42%", "English"),
    "chinese": ("你好，世界 ok 今天天气很好。", "Chinese"),
    "no language": ("Ünïcödé Привет мир", None),
}
SECONDS = (0.2, 1.0, 2.41, 8.0, 17.3)
EXTREMES = {("marks", 17.3), ("no language", 0.2)}
"""The cases of models in layout "hf", which differs in names of weights and settings alone."""
CASES = [
    pytest.param((name, layout), text, seconds, id=f"{name}-{layout}-{said}-{seconds}")
    for name in CONFIGS
    for layout in ("published", "hf")
    for said, text in TEXTS.items()
    for seconds in SECONDS
    if layout == "published" or (said, seconds) in EXTREMES
]


class Both:
    """One checkpoint in both implementations."""

    def __init__(self, directory: Path, hf: Path) -> None:
        aligner = ForcedAligner.from_pretrained(directory, device="cpu", dtype="float32")
        assert isinstance(aligner.alignment, MarkAlignment)
        self.aligner, self.ours = aligner, aligner.alignment
        self.processor = transformers.AutoProcessor.from_pretrained(hf)
        model, info = transformers.Qwen3ASRForTokenClassification.from_pretrained(
            hf, output_loading_info=True, dtype=torch.float32
        )
        assert not any(info.values()), info
        self.theirs = model.eval()

    def inputs(self, samples: Samples, text: str, language: str | None) -> tuple[Any, list[str]]:
        """What the reference's processor makes of a request, and its words."""
        inputs, (words,) = self.processor.prepare_forced_aligner_inputs(
            samples, text, language, processor_kwargs={"sampling_rate": 16000}
        )
        return inputs, words


@pytest.fixture(scope="module")
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    name, layout = request.param
    folder = tmp_path_factory.mktemp("model")
    config = aligner_config(**CONFIGS[name])
    directory = write_tiny(folder / "it", layout, config, seed=len(name))
    hf = directory if layout == "hf" else convert(directory, folder / "hf", "hf")
    return Both(directory, hf)


@torch.inference_mode()
@pytest.mark.parametrize(("both", "said", "seconds"), CASES, indirect=["both"], scope="module")
def test_layers_and_times_agree(both: Both, said: tuple[str, str | None], seconds: float) -> None:
    text, language = said
    samples = tone_speech(seconds, seed=round(seconds))
    inputs, words = both.inputs(samples, text, language)
    backend = both.ours.backend
    assert isinstance(backend, TorchBackend)
    assert isinstance(backend.model, Aligner)
    model, theirs_model = backend.model, both.theirs.model
    stages = _stages(model.encoder, model.encoder.norm, model.projector, model.decoder)
    with _recorded({**stages, "head": model.head}) as ours:
        marks = both.ours.marks(samples, words)
    tower, projector = theirs_model.audio_tower, theirs_model.multi_modal_projector
    stages = _stages(tower, tower.ln_post, projector, theirs_model.language_model)
    with _recorded(stages) as theirs:
        logits = both.theirs(**inputs).logits
    audio = int((inputs["input_ids"] == both.ours.config.audio_token_id).sum())
    assert alignment_ids(both.ours.tokenizer, audio, words) == inputs["input_ids"][0].tolist()
    mark = both.theirs.config.timestamp_token_id
    at_marks = inputs["input_ids"][0] == mark
    theirs["head"] = logits[0][at_marks]
    for row in compare_states(ours, theirs):
        assert row.ok, row
    assert marks.times == (theirs["head"].argmax(-1) * 80.0).tolist()
    (items,) = both.processor.decode_forced_alignment(
        logits, inputs["input_ids"], [words], timestamp_token_id=mark
    )
    repaired, runs = repair(marks.times)
    expected = [time for item in items for time in (item["start_time"], item["end_time"])]
    assert [time / 1000 for time in repaired] == expected
    found = both.aligner.align((samples, 16000), text, language)
    assert [word.text for word in found] == [item["text"] for item in items]
    for index, (word, item) in enumerate(zip(found, items, strict=True)):
        if max(runs[2 * index : 2 * index + 2]) > 3:
            assert (word.start, word.end) == (None, None)
        elif item["end_time"] <= seconds:
            assert (word.start, word.end) == (item["start_time"], item["end_time"])
