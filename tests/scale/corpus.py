"""A small corpus, and runs over it."""

from __future__ import annotations

from typing import Any

from auris import AsrPipeline
from auris.scale.plan import Plan, read_plan
from auris.scale.run import CorpusSettings, merged_lines, transcribe_corpus
from auris.scale.storage import Storage
from auris.scale.transcriber import ShardTranscriber
from auris.scale.worker import WorkerReport
from tests.audio.media import wav
from tests.tiny_models import tone_speech

CLIPS = 7
"""Recordings of the corpus, of which one is no audio."""


def write_corpus(address: str) -> str:
    """Write the corpus into a folder; returns its address."""
    storage = Storage(address)
    for number in range(CLIPS - 1):
        samples = tone_speech(0.5 + 0.25 * (number % 3), number)
        storage.put(f"calls/{number}.wav", wav(samples[None]))
    storage.put("calls/bad.wav", b"no sound")
    return f"{address}/calls"


def transcriber(pipeline: AsrPipeline, **options: Any) -> ShardTranscriber:
    """Transcribes with short texts."""
    return ShardTranscriber(pipeline, options={"batch_size": 2, **options})


def settings(source: str, **options: Any) -> CorpusSettings:
    """Shards of about two recordings, and leases that end soon."""
    return CorpusSettings(source, **{"shard_seconds": 5.0, "lease_seconds": 0.4, **options})


def run(
    pipeline: AsrPipeline, source: str, output: str, start: float = 0.0, **options: Any
) -> WorkerReport:
    """One worker until everything is finished."""
    return transcribe_corpus(transcriber(pipeline, **options), output, settings(source), start)


def merged(output: str) -> bytes:
    """The merged results of a run."""
    return b"".join(merged_lines(plan_of(output)))


def plan_of(output: str) -> Plan:
    """The plan of a run."""
    plan = read_plan(Storage(output))
    assert plan is not None
    return plan
