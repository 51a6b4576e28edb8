"""The classes that the examples do not use, or settings of them: URL FILE; prints their texts.

It runs in the Python that has the packages, so it imports nothing of Auris.
"""

from __future__ import annotations

import asyncio
import sys
import wave

from livekit.agents import utils
from livekit.agents.utils.audio import audio_frames_from_file
from livekit.plugins import openai
from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.stt import OpenAIRealtimeSTTService, OpenAISTTService
from pipecat.services.stt_service import STTService
from pipecat.workers.runner import WorkerRunner

RATE = 24_000


async def livekit_upload(url: str, file: str) -> str:
    """LiveKit's class without the realtime API, as a voice agent with its own detector uses it."""
    async with (
        utils.http_context.open(),
        openai.STT(model="tiny", base_url=f"{url}/v1", api_key="none") as engine,
    ):
        frames = [frame async for frame in audio_frames_from_file(file, RATE)]
        event = await engine.recognize(frames)
        return event.alternatives[0].text


class Texts(FrameProcessor):
    """Collects texts; `first` is set with the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.first = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            self.texts.append(frame.text)
            self.first.set()
        await self.push_frame(frame, direction)


async def pipecat_turn(service: STTService, file: str) -> str:
    """The text of a turn whose begin and end a detector of the pipeline has found."""
    with wave.open(file) as recording:
        audio = recording.readframes(recording.getnframes())
    texts = Texts()
    worker = PipelineWorker(
        Pipeline([service, texts]), params=PipelineParams(audio_in_sample_rate=RATE)
    )

    @worker.event_handler("on_pipeline_started")
    async def speak(worker: PipelineWorker, frame: Frame) -> None:
        await worker.queue_frame(VADUserStartedSpeakingFrame())
        for first in range(0, len(audio), 960):
            block = audio[first : first + 960]
            await worker.queue_frame(InputAudioRawFrame(block, RATE, num_channels=1))
        await worker.queue_frame(VADUserStoppedSpeakingFrame())
        await asyncio.wait_for(texts.first.wait(), 60)
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await runner.run()
    return " ".join(texts.texts)


async def main(url: str, file: str) -> None:
    """Print the texts."""
    logger.remove()
    print("livekit upload:", await livekit_upload(url, file))
    upload = OpenAISTTService(
        base_url=f"{url}/v1",
        api_key="none",
        include_prob_metrics=True,
        settings=OpenAISTTService.Settings(model="tiny"),
    )
    print("pipecat upload:", await pipecat_turn(upload, file))
    commit = OpenAIRealtimeSTTService(
        base_url=f"{url.replace('http', 'ws', 1)}/v1/realtime",
        api_key="none",
        settings=OpenAIRealtimeSTTService.Settings(model="tiny", delay="minimal"),
    )
    print("pipecat commit:", await pipecat_turn(commit, file))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
