#!/usr/bin/env python3
"""Send a recording to a Wyoming server: python examples/wyoming_client.py URI FILE

The server is `auris wyoming`, or any other one with speech to text.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from wyoming.asr import Transcribe, Transcript, TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error

from auris import AurisError
from auris.audio.io import stream

FORMAT = {"rate": 16_000, "width": 2, "channels": 1}


async def send(client: AsyncClient, file: str) -> None:
    """Send a recording block by block, as a satellite sends its microphone."""
    await client.write_event(Transcribe(language="en").event())
    await client.write_event(AudioStart(**FORMAT).event())
    for block in stream(file):
        samples = np.clip(block[0] * 32768, -32768, 32767).astype("<i2")
        await client.write_event(AudioChunk(**FORMAT, audio=samples.tobytes()).event())
    await client.write_event(AudioStop().event())


async def receive(client: AsyncClient) -> int:
    """Print the parts of the text as they come, then the text."""
    while event := await client.read_event():
        if TranscriptChunk.is_type(event.type):
            print("...", TranscriptChunk.from_event(event).text)
        elif Transcript.is_type(event.type):
            print(Transcript.from_event(event).text)
            return 0
        elif Error.is_type(event.type):
            print(Error.from_event(event).text, file=sys.stderr)
            return 1
    print("The server has closed the connection.", file=sys.stderr)
    return 1


async def main(uri: str, file: str) -> int:
    """Transcribe one recording."""
    try:
        async with AsyncClient.from_uri(uri) as client:
            _, code = await asyncio.gather(send(client, file), receive(client))
            return code
    except (AurisError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
