#!/usr/bin/env python3
"""Live text in LiveKit Agents: python examples/agents/livekit_agents.py URL FILE

The server is `auris serve`, for example at http://127.0.0.1:8000. In an agent, the object that
`speech_to_text` returns is the `stt` of an `AgentSession`. Here a recording takes the place of the
microphone, and the text is printed.
"""

from __future__ import annotations

import asyncio
import os
import sys

from livekit.agents import APIError, utils
from livekit.agents.stt import RecognizeStream, SpeechEventType
from livekit.agents.utils.audio import audio_frames_from_file
from livekit.plugins import openai
from livekit.rtc import AudioFrame

RATE = 24_000
SILENCE_SECONDS, MOST_SILENCE_SECONDS = 1.5, 30.0
"""Silence after the recording, at least and at most: it ends when the last turn has its text."""


def speech_to_text(url: str) -> openai.STT:
    """The class of the plugin, with the address and a model of the server."""
    return openai.STT(
        model="tiny",
        base_url=f"{url}/v1",
        api_key=os.environ.get("AURIS_API_KEY", "none"),
        use_realtime=True,
        turn_detection={"type": "server_vad", "silence_duration_ms": 500},
    )


class Conversation:
    """A recording that is sent as by a microphone, and its text.

    Attributes:
        turns: number of turns that have begun.
        answered: number of turns whose text is complete.
    """

    def __init__(self, stream: RecognizeStream) -> None:
        self.stream = stream
        self.turns = self.answered = 0

    async def speak(self, file: str) -> None:
        """Send the recording, and silence until each turn has its text."""
        async for frame in audio_frames_from_file(file, RATE, num_channels=1):
            await self.send(frame)
        silence = 0.0
        while silence < SILENCE_SECONDS or self.answered < max(self.turns, 1):
            if silence >= MOST_SILENCE_SECONDS:
                raise TimeoutError("No text came.")
            await self.send(AudioFrame.create(RATE, 1, RATE // 10))
            silence += 0.1
        await self.stream.aclose()

    async def send(self, frame: AudioFrame) -> None:
        """Send some audio, at the speed of a microphone."""
        self.stream.push_frame(frame)
        await asyncio.sleep(frame.duration)

    async def print_text(self) -> None:
        """Print partial text as it grows, and the text of every turn."""
        async for event in self.stream:
            if event.type == SpeechEventType.START_OF_SPEECH:
                self.turns += 1
            elif event.type == SpeechEventType.INTERIM_TRANSCRIPT:
                print("...", event.alternatives[0].text)
            elif event.type == SpeechEventType.FINAL_TRANSCRIPT:
                print(event.alternatives[0].text)
            elif event.type == SpeechEventType.RECOGNITION_USAGE:  # The last event of a turn.
                self.answered += 1


async def main(url: str, file: str) -> int:
    """Transcribe one recording."""
    try:
        async with utils.http_context.open(), speech_to_text(url) as engine:
            conversation = Conversation(engine.stream())
            await asyncio.gather(conversation.speak(file), conversation.print_text())
    except (APIError, OSError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
