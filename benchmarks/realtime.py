"""Delays of the text of realtime streams; `server.py realtime` runs this.

Each stream sends recordings one after the other, in blocks of 100 ms, each block when it would have
been spoken. A word is spoken at its end, which an aligner finds afterwards. From then the following
times are measured:

- delay: to the first event with text of that audio, which is provisional text that begins before
  the word and covers it, or the final text with the word. Provisional text may change later.
- final_word: to the first event after which the text so far has the word at its final position.
- stable: to the delta with the word.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import math
import random
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 24_000
BLOCK_SECONDS = 0.1
ENDED = "conversation.item.input_audio_transcription.completed"


@dataclass
class StreamText:
    """The text of one stream as a client sees it, and when each part came."""

    items: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)
    history: list[tuple[float, list[str]]] = field(default_factory=list)
    stable: list[tuple[float, int]] = field(default_factory=list)
    provisional: list[tuple[float, float, float]] = field(default_factory=list)
    refused: list[Any] = field(default_factory=list)

    def add(self, event: dict[str, Any], now: float) -> None:
        """Add an event."""
        kind, item = event["type"], event.get("item_id", "")
        if item:  # In the order of their first events, which is that of the audio.
            self.items.setdefault(item, "")
        if kind == "error" or kind.endswith(".failed"):
            self.refused.append(event["error"])
        if kind.endswith((".delta", ".completed", ".failed")):
            self.items[item] += event.get("delta", "")
            self.partial[item] = ""
        elif kind == "auris.provisional":
            self.partial[item] = event["text"]
            self.provisional.append((now, event["start_ms"] / 1000, event["end_ms"] / 1000))
        else:
            return
        self.stable.append((now, len(self.text.split())))
        shown = (text + self.partial.get(one, "") for one, text in self.items.items())
        self.history.append((now, " ".join(shown).split()))

    @property
    def text(self) -> str:
        """The text at the end of the stream."""
        return " ".join(self.items.values())

    def first_provisional(self, end: float) -> float:
        """When provisional text came for the audio at this second."""
        covering = (now for now, since, until in self.provisional if since < end <= until)
        return next(covering, math.inf)

    def first_shown(self) -> list[float | None]:
        """When each word of the text first came at its final position."""
        times_of: list[float | None] = []
        for index, word in enumerate(self.text.split()):
            times = (now for now, words in self.history if words[index : index + 1] == [word])
            times_of.append(next(times, None))
        return times_of

    def first_stable(self) -> list[float]:
        """When the delta with each word came."""
        return [
            next(now for now, count in self.stable if count > index)
            for index in range(len(self.text.split()))
        ]


@dataclass
class Delays:
    """Delays of words in seconds, see the beginning of this file; `words` counts all words, also
    those without delays."""

    words: int = 0
    first: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    stable: list[float] = field(default_factory=list)

    def add(self, shown: StreamText, began: float, ends: list[float | None]) -> None:
        """Add the words of a stream that began at a time of the clock of its events.

        Args:
            ends: second of the stream at which each word was spoken; None if it was not aligned.
        """
        firsts, stables = shown.first_shown(), shown.first_stable()
        assert len(ends) == len(firsts), "the aligner cuts other words"
        self.words += len(ends)
        for end, first, stable in zip(ends, firsts, stables, strict=True):
            if first is None or end is None:
                continue
            self.first.append(min(shown.first_provisional(end), stable) - began - end)
            self.final.append(first - began - end)
            self.stable.append(stable - began - end)


async def _stream(
    arguments: argparse.Namespace, voice: NDArray[np.int16], wait: float
) -> tuple[StreamText, float]:
    """Send one stream; returns its text, and when its first sample was sent."""
    from websockets.asyncio.client import connect

    await asyncio.sleep(wait)
    address = arguments.url.replace("http", "ws", 1) + "/v1/realtime?intent=transcription"
    headers = {"Authorization": f"Bearer {arguments.key}"} if arguments.key else {}
    address += f"&model={arguments.model}"
    shown = StreamText()
    async with connect(address, additional_headers=headers, compression=None) as socket:
        turns = {"type": "server_vad"} if arguments.vad else None
        include = [] if arguments.stable_only else ["auris.provisional"]
        settings = {"type": "transcription", "include": include}
        settings["audio"] = {"input": {"turn_detection": turns}}  # type: ignore[assignment]
        await socket.send(json.dumps({"type": "session.update", "session": settings}))
        began = time.monotonic()
        ended = asyncio.Event()

        async def listen() -> None:
            async for message in socket:
                event = json.loads(message)
                shown.add(event, time.monotonic())
                if event["type"] == ENDED or event["type"] == "error":
                    ended.set()

        listening = asyncio.create_task(listen())
        size = round(RATE * BLOCK_SECONDS)
        for first in range(0, len(voice), size):
            block = voice[first : first + size]
            spoken = began + (first + len(block)) / RATE
            await asyncio.sleep(max(0.0, spoken - time.monotonic()))
            audio = base64.b64encode(block.tobytes()).decode()
            await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        ended.clear()
        if not arguments.vad:
            await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            # The last turn of the server may have ended before.
            await asyncio.wait_for(ended.wait(), 5.0 if arguments.vad else 60.0)
        listening.cancel()
    return shown, began


def _voices(arguments: argparse.Namespace) -> list[NDArray[np.float32]]:
    """A voice at 16 kHz for each stream, from recordings in another order."""
    from auris.audio.io import load

    paths = sorted(Path(arguments.clips).iterdir())
    clips = [load(path).samples for path in paths]
    voices = []
    for number in range(arguments.streams):
        order = list(range(len(clips)))
        random.Random(number).shuffle(order)
        parts: list[NDArray[np.float32]] = []
        for clip in order * 100:
            parts += [clips[clip], np.zeros(round(16_000 * arguments.pause), np.float32)]
            if sum(map(len, parts)) >= 16_000 * arguments.seconds:
                break
        # Silence at the end, in which a turn comes to its end.
        voice = np.concatenate(parts)[: round(16_000 * arguments.seconds)]
        voices.append(np.concatenate((voice, np.zeros(16_000, np.float32))))
    return voices


def _quantile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3)


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Many streams at once, in real time."""
    import soxr

    from auris import ForcedAligner

    voices = _voices(arguments)
    sent = [
        (np.clip(soxr.resample(voice, 16_000, RATE), -1, 1) * 32767).astype("<i2")
        for voice in voices
    ]
    generator = random.Random(arguments.seed)
    waits = [generator.random() for _ in voices]

    async def speak() -> list[tuple[StreamText, float]]:
        speakers = (_stream(arguments, v, w) for v, w in zip(sent, waits, strict=True))
        return list(await asyncio.gather(*speakers))

    results = asyncio.run(speak())
    aligner = ForcedAligner.from_pretrained(arguments.aligner or arguments.model)
    delays = Delays()
    for (shown, began), voice in zip(results, voices, strict=True):
        placed = aligner.align((voice, 16_000), shown.text) if shown.text else []
        delays.add(shown, began, [word.end for word in placed])
    if not delays.first:
        raise SystemExit(f"no text came; errors: {[shown.refused for shown, _ in results]}")
    return {
        "streams": arguments.streams,
        "seconds": arguments.seconds,
        "turns": "server_vad" if arguments.vad else "manual",
        "text": "stable" if arguments.stable_only else "provisional",
        "words": delays.words,
        "words_without_delay": delays.words - len(delays.first),
        "errors": sum(len(shown.refused) for shown, _ in results),
        "delay_p50": _quantile(delays.first, 0.5),
        "delay_p95": _quantile(delays.first, 0.95),
        "delay_most": round(max(delays.first), 3),
        "delay_mean": round(statistics.fmean(delays.first), 3),
        "final_word_p50": _quantile(delays.final, 0.5),
        "final_word_p95": _quantile(delays.final, 0.95),
        "stable_p50": _quantile(delays.stable, 0.5),
        "stable_p95": _quantile(delays.stable, 0.95),
    }
