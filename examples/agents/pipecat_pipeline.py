#!/usr/bin/env python3
"""Live text in Pipecat: python examples/agents/pipecat_pipeline.py URL FILE

The server is `auris serve`, for example at http://127.0.0.1:8000. In an agent, a transport comes
before the service that `speech_to_text` returns, and a language model and a voice after it. Here a
recording takes the place of the microphone, and the text is printed.
"""

from __future__ import annotations

import asyncio
import os
import sys

import numpy as np
import soundfile
import soxr
from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    ProposedUserStartedSpeakingFrame,
    TranscriptionFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.stt import OpenAIRealtimeSTTService
from pipecat.workers.runner import WorkerRunner

RATE, BLOCK = 16_000, 320
SILENCE_SECONDS, MOST_SILENCE_SECONDS = 1.5, 30.0
"""Silence after the recording, at least and at most: it ends when the last turn has its text."""


def speech_to_text(url: str) -> OpenAIRealtimeSTTService:
    """The service of Pipecat, with the address and a model of the server."""
    return OpenAIRealtimeSTTService(
        base_url=f"{url.replace('http', 'ws', 1)}/v1/realtime",
        api_key=os.environ.get("AURIS_API_KEY", "none"),
        turn_detection={"type": "server_vad", "silence_duration_ms": 500},
        settings=OpenAIRealtimeSTTService.Settings(model="tiny"),
    )


class Printer(FrameProcessor):
    """Prints partial text and the text of every turn.

    Attributes:
        turns: number of turns that have begun.
        answered: number of turns whose text is complete.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turns = self.answered = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, ProposedUserStartedSpeakingFrame):
            self.turns += 1
        elif isinstance(frame, InterimTranscriptionFrame):
            print("...", frame.text)
        elif isinstance(frame, TranscriptionFrame):
            print(frame.text)
            self.answered += 1
        await self.push_frame(frame, direction)


def recorded(file: str) -> bytes:
    """A recording as 16-bit samples."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    audio = soxr.resample(samples.mean(1), rate, RATE)
    return (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()


async def speak(worker: PipelineWorker, printer: Printer, audio: bytes) -> None:
    """Send a recording at the speed of a microphone, and silence until each turn has its text."""
    end = len(audio) + round(2 * RATE * MOST_SILENCE_SECONDS)
    for first in range(0, end, 2 * BLOCK):
        block = audio[first : first + 2 * BLOCK].ljust(2 * BLOCK, b"\0")
        await worker.queue_frame(InputAudioRawFrame(block, RATE, num_channels=1))
        await asyncio.sleep(BLOCK / RATE)
        silence = (first - len(audio)) / (2 * RATE)
        if silence >= SILENCE_SECONDS and printer.answered >= max(printer.turns, 1):
            break
    await worker.queue_frame(EndFrame())


async def main(url: str, file: str) -> int:
    """Transcribe one recording."""
    logger.remove()  # The log of Pipecat.
    printer = Printer()
    worker = PipelineWorker(
        Pipeline([speech_to_text(url), printer]), params=PipelineParams(audio_in_sample_rate=RATE)
    )
    failures: list[str] = []

    @worker.event_handler("on_pipeline_started")
    async def start(worker: PipelineWorker, frame: Frame) -> None:
        await speak(worker, printer, audio)

    @worker.event_handler("on_pipeline_error")
    async def stop(worker: PipelineWorker, frame: ErrorFrame) -> None:
        failures.append(frame.error)
        await worker.cancel()

    try:
        audio = recorded(file)
    except (OSError, soundfile.SoundFileError) as error:
        print(error, file=sys.stderr)
        return 1
    runner = WorkerRunner()
    await runner.add_workers(worker)
    await runner.run()
    for failure in failures:
        print(failure, file=sys.stderr)
    return 0 if printer.answered and not failures else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
