"""Beam, language model, hotwords and CTC head together: batch, stream and file agree."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from auris import AsrPipeline
from auris.checkpoints.ctc_head import save_ctc_head
from auris.checkpoints.export import export
from auris.checkpoints.lm_weights import LmWeights, save_lm_weights
from auris.decoding.language_model_file import packed_model
from auris.models.qwen_asr import QwenAsr
from auris.recognition.ctc import CtcRecognizer
from auris.text.prompt import TURN_END
from tests.decoding.texts import small_model
from tests.streaming.live import same, stable, updates_of
from tests.tiny_models import (
    ctc_config,
    qwen_config,
    tiny_model,
    tiny_tokenizer,
    tone_speech,
    write_tiny,
)

RATE = 16000
KINDS = ["decoder", "decoder and CTC head", "CTC head"]
WORDS = [*string.punctuation, "fox", "kitchen lights", "你", "好", "世", "今", "e", "th"]
"""Short ones, since texts of a random model are no words."""

FEW = settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write_model(kind: str, directory: Path) -> None:
    """A random model; a decoder ends some texts early, since only complete texts are compared."""
    if kind == "CTC head":
        write_tiny(directory, config=ctc_config(), seed=4)
        return
    config = qwen_config()
    model = tiny_model(config, seed=4)
    assert isinstance(model, QwenAsr)
    tokenizer = tiny_tokenizer()
    with torch.no_grad():
        model.decoder.embed.weight[tokenizer.id(TURN_END)] *= 2.0
    export(model, config, tokenizer, directory, layout="native", dtype=torch.float32)
    if kind == "decoder and CTC head":
        torch.manual_seed(2)
        head = nn.Linear(config.decoder.hidden, config.decoder.vocab + 1)
        save_ctc_head(head, config, torch.float32, directory)


@pytest.fixture(scope="module", params=KINDS)
def pipeline(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsrPipeline:
    folder = tmp_path_factory.mktemp("together")
    lm = folder / "words.ngrams"
    lm.write_bytes(packed_model(small_model()))
    write_model(request.param, folder / "model")
    save_lm_weights(LmWeights(0.03, 0.5, beam_size=3), folder / "model")
    return AsrPipeline.from_pretrained(folder / "model", device="cpu", lm=lm)


def options_of(pipeline: AsrPipeline, beam_size: int, hotwords: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"beam_size": beam_size, "hotwords": hotwords}
    if not isinstance(pipeline.recognizer, CtcRecognizer):
        options |= {"max_new_tokens": 7, "language": "en"}
    return options


LISTS = st.sampled_from([WORDS, WORDS[:20], WORDS[10:], WORDS[::2]])


@FEW
@given(
    st.lists(st.tuples(st.integers(3, 40), st.integers(0, 99)), min_size=2, max_size=4),
    st.integers(2, 4),
    st.integers(1, 4),
    LISTS,
)
def test_a_batch_gives_the_text_of_each_recording_alone(
    pipeline: AsrPipeline,
    clips: list[tuple[int, int]],
    batch_size: int,
    beam_size: int,
    hotwords: list[str],
) -> None:
    recordings = [(tone_speech(length / 10, seed), RATE) for length, seed in clips]
    options = options_of(pipeline, beam_size, hotwords)
    together = pipeline.transcribe(recordings, batch_size=batch_size, **options)
    for recording, transcript in zip(recordings, together, strict=True):
        alone = pipeline.transcribe(recording, **options)
        same(transcript.segments, alone.segments, f"{clips}, {options}")


@FEW
@given(st.integers(12, 40), st.integers(0, 99), st.integers(500, 20_000), st.integers(1, 4), LISTS)
def test_the_final_text_of_a_stream_is_that_of_the_file(
    pipeline: AsrPipeline,
    length: int,
    seed: int,
    block: int,
    beam_size: int,
    hotwords: list[str],
) -> None:
    samples = tone_speech(length / 10, seed)
    options = {
        "chunk_seconds": 2.0,
        "end_at_pauses": True,
        **options_of(pipeline, beam_size, hotwords),
    }
    updates = updates_of(pipeline.stream(**options), samples, [block])
    whole = pipeline.transcribe((samples, RATE), **options)
    same(stable(updates), whole.segments, f"{length}, {seed}, {options}")


@pytest.mark.parametrize("pipeline", ["decoder", "CTC head"], indirect=True)
def test_a_text_changes_with_hotwords(pipeline: AsrPipeline) -> None:
    """The beginnings of texts are hotwords, too; a decoder then ends the texts there. Where a
    decoder has a CTC head, the frames of a random one allow no phrase that the decoder writes."""
    clips = [(tone_speech(2.0, seed), RATE) for seed in range(6)]
    plain = pipeline.transcribe(clips, **options_of(pipeline, 3, []))
    beginnings = [one.text.partition("\N{REPLACEMENT CHARACTER}")[0] for one in plain]
    options = options_of(pipeline, 3, [*WORDS, *filter(None, beginnings)])
    changed = pipeline.transcribe(clips, **options)
    assert [one.segments[0].tokens for one in plain] != [one.segments[0].tokens for one in changed]
