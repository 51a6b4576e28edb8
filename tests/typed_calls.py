"""Calls that type checkers have to accept; only mypy checks this file."""

from __future__ import annotations

from pathlib import Path

from auris import AsrPipeline, Device, Transcript


def calls(pipeline: AsrPipeline, names: list[str], paths: list[Path]) -> list[Transcript]:
    """Lists of one kind of source, a tuple of paths, and single sources."""
    one: Transcript = pipeline.transcribe("a.wav")
    other: Transcript = pipeline.transcribe(Path("a.wav"), language="en")
    by_name: list[Transcript] = pipeline.transcribe(names)
    by_path: list[Transcript] = pipeline.transcribe(paths)
    pair: list[Transcript] = pipeline.transcribe(("a.wav", "b.wav"))
    pipeline.results(names)
    AsrPipeline("tiny", "cpu", dtype="int8")
    AsrPipeline("tiny", Device.METAL)
    AsrPipeline.from_pretrained("tiny", device="cpu", revision=None)
    return [one, other, *by_name, *by_path, *pair]
