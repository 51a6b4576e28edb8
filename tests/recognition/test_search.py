"""Beam search and hotwords through whole pipelines: files, batches, live streams, and refusals."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from auris import AsrPipeline
from auris.checkpoints.ctc_head import save_ctc_head
from auris.errors import UsageError
from auris.recognition.ctc import CtcRecognizer
from auris.recognition.options import CallOptions
from tests.streaming.live import same, stable, updates_of
from tests.tiny_models import ctc_config, qwen_config, tone_speech, write_tiny

RATE = 16000
HOTWORDS = [*string.punctuation, "fox", "kitchen lights", "你", "好", "世", "今", "e", "th"]
"""Short ones, since texts of a random model are no words."""

SEARCH_OPTIONS = ("beam_size", "hotwords")

SEARCHES: list[CallOptions] = [
    {"beam_size": 3},
    {
        "hotwords": HOTWORDS,
    },
    {"beam_size": 2, "hotwords": HOTWORDS},
    {"beam_size": 4, "languages": ["en", "zh"]},
]


@pytest.fixture(scope="module", params=["decoder", "decoder and CTC head", "CTC head"])
def pipeline(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsrPipeline:
    if request.param == "CTC head":
        directory = write_tiny(
            tmp_path_factory.mktemp("models") / "ctc", config=ctc_config(), seed=3
        )
        return AsrPipeline.from_pretrained(directory, device="cpu")
    config = qwen_config()
    directory = write_tiny(tmp_path_factory.mktemp("models") / "qwen", config=config, seed=1)
    if request.param == "decoder and CTC head":
        torch.manual_seed(2)
        head = nn.Linear(config.decoder.hidden, config.decoder.vocab + 1)
        save_ctc_head(head, config, torch.float32, directory)
    return AsrPipeline.from_pretrained(directory, device="cpu")


def budget(pipeline: AsrPipeline) -> dict[str, Any]:
    """Few tokens, for models that have a budget."""
    return {} if isinstance(pipeline.recognizer, CtcRecognizer) else {"max_new_tokens": 9}


def test_searches_change_texts(pipeline: AsrPipeline) -> None:
    clips = [(tone_speech(2.0, seed), RATE) for seed in range(4)]
    changed = 0
    for options in SEARCHES:
        plain = {name: options[name] for name in ("language", "languages") if name in options}
        before, after = (
            [
                one.segments[0].tokens
                for one in pipeline.transcribe(clips, **budget(pipeline), **given)
            ]
            for given in (plain, options)
        )
        changed += before != after
    assert changed > 1


@pytest.mark.parametrize("options", SEARCHES, ids=["beam", "hotwords", "both", "languages"])
def test_a_batch_gives_the_text_of_each_recording_alone(
    pipeline: AsrPipeline, options: dict[str, Any]
) -> None:
    clips = [(tone_speech(0.4 + 1.3 * seed, seed), RATE) for seed in range(4)]
    together = pipeline.transcribe(clips, batch_size=3, **budget(pipeline), **options)
    for seed, (clip, transcript) in enumerate(zip(clips, together, strict=True)):
        alone = pipeline.transcribe(clip, **budget(pipeline), **options)
        same(transcript.segments, alone.segments, f"clip {seed}")


@pytest.mark.parametrize("options", SEARCHES, ids=["beam", "hotwords", "both", "languages"])
def test_the_final_text_of_a_stream_is_that_of_the_file(
    pipeline: AsrPipeline, options: dict[str, Any]
) -> None:
    samples = tone_speech(4.3, 5)
    common = {"chunk_seconds": 2.0, "end_at_pauses": True, **budget(pipeline), **options}
    updates = updates_of(pipeline.stream(**common), samples, [7000])
    whole = pipeline.transcribe((samples, RATE), **common)
    same(stable(updates), whole.segments, str(options))
    assert any(not update.final for update in updates)


@pytest.mark.parametrize("options", SEARCHES, ids=["beam", "hotwords", "both", "languages"])
def test_partial_text_is_that_without_a_search(
    pipeline: AsrPipeline, options: dict[str, Any]
) -> None:
    """A step has the text of a file that ends there, whatever is settled."""
    samples = tone_speech(2.2, 5)
    options = {**budget(pipeline), **options}
    stream = pipeline.stream(settle_seconds=0.5, end_at_pauses=False, **options)
    partial = next(one for one in updates_of(stream, samples, [7000]) if one.seconds == 1.5)
    plain = {name: value for name, value in options.items() if name not in SEARCH_OPTIONS}
    whole = pipeline.transcribe((samples[: round(1.5 * RATE)], RATE), **plain)
    same([partial.segment], whole.segments, "a step")


def test_names_that_are_said_are_written_and_others_are_not() -> None:
    """The bundled model on tones: no speech, whatever words are expected."""
    pipeline = AsrPipeline.from_pretrained("tiny", device="cpu")
    clip = (tone_speech(3.0, 1), RATE)
    names = ["Kubernetes", "Auris", "Grafana", "Okonkwo"]
    for beam_size in (1, 4):
        transcript = pipeline.transcribe(clip, hotwords=names, beam_size=beam_size)
        assert not any(name.lower() in transcript.text.lower() for name in names)
    plain, none = (pipeline.transcribe(clip, **given) for given in ({}, {"hotwords": [" "]}))
    assert none.segments == plain.segments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size has to be"),
        ({"beam_size": 17}, "from 1 to 16"),
        ({"beam_size": 2, "temperature": 0.5}, "temperature is 0.5"),
        ({"hotwords": ["Ada"], "temperature": 0.5}, "temperature is 0.5"),
        ({"hotwords": "Ada"}, "list of strings"),
        ({"hotwords": [3]}, "list of strings"),
        ({"hotwords": ["a" * 300]}, "the longest has 300"),
    ],
)
def test_impossible_searches_are_refused(
    qwen: AsrPipeline, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        qwen.transcribe((tone_speech(0.5), RATE), **options)


def test_hotwords_are_distinct_and_their_spaces_do_not_matter(qwen_directory: Path) -> None:
    from auris.recognition.options import decode_options

    given: CallOptions = {"hotwords": ["New  York", "Ada", " New York ", ""]}
    assert decode_options(None, "", given).hotwords == ("New York", "Ada")
