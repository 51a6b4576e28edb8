"""One item of a realtime session: its audio, its stream, and the events of its text."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.errors import AurisError, EngineError
from auris.server.engine_queue import Priority
from auris.server.errors import ApiError, as_api_error
from auris.server.model_registry import ServedModel
from auris.server.realtime.config import LOGPROBS, PROVISIONAL, WORDS, SessionConfig
from auris.server.realtime.messages import identifier, server_event
from auris.server.responses import language_codes, text_logprobs, tokens_used
from auris.streaming.session import StreamSession, StreamUpdate
from auris.text.words import join_texts
from auris.types import Segment

__all__ = ["Item", "Transcription"]

Pcm = NDArray[np.int16]
Event = dict[str, Any]

_LOG = logging.getLogger(__name__)

TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass
class Item:
    """What was appended and is, or will be, committed.

    Attributes:
        config: of the session when the item began.
        at: when it begins, in seconds of the session's audio.
        id: its name.
        samples: how many it has.
        ended: whether it has them all.
        dropped: whether it was cleared.
        gone: set when nobody works on it any more.
    """

    config: SessionConfig
    at: float
    id: str = field(default_factory=lambda: identifier("item"))
    samples: int = 0
    ended: bool = False
    dropped: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: list[Pcm] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def seconds(self) -> float:
        """Its length so far."""
        return self.samples / self.config.format.rate

    def hear(self, samples: Pcm) -> None:
        """More of it."""
        self.samples += len(samples)
        self._waiting.append(samples)
        self._news.set()

    def end(self, dropped: bool = False) -> None:
        """There is no more, and maybe nobody wants it."""
        self.ended, self.dropped = True, dropped
        self._news.set()

    async def more(self) -> Pcm:
        """What came since the last time, [S]; waits for something to happen."""
        await self._news.wait()
        self._news.clear()
        waiting, self._waiting = self._waiting, []
        return np.concatenate(waiting) if waiting else np.zeros(0, np.int16)


class _Text:
    """The text of an item as it grows, and its events."""

    def __init__(self, item: Item, served: ServedModel, newer: bool) -> None:
        self._item = item
        self._recognizer = served.engine.recognizer
        self._newer = newer
        self._segments: list[Segment] = []
        self._text = ""

    def events(self, updates: Sequence[StreamUpdate]) -> Iterator[Event]:
        """Events of some updates of the item's stream."""
        for update in updates:
            if update.final:
                yield from self._stable(update.segment)
            elif PROVISIONAL in self._item.config.include:
                yield self._provisional(update)

    def completed(self) -> Event:
        """The event of the whole text."""
        config = self._item.config
        usage = tokens_used(self._segments, config.asked, self._recognizer)
        fields: Event = {
            "transcript": self._text,
            "usage": usage or {"type": "duration", "seconds": round(self._item.seconds, 3)},
        }
        if LOGPROBS in config.include:
            fields["logprobs"] = text_logprobs(self._segments, self._recognizer)
        if self._newer:
            names = dict.fromkeys(s.language or "" for s in self._segments if s.text)
            fields["languages"] = language_codes(names)
        return self._event(f"{TRANSCRIPTION}.completed", **fields)

    def failed(self, error: ApiError) -> Event:
        """The event of an item without a text."""
        return self._event(f"{TRANSCRIPTION}.failed", error=error.body()["error"])

    def _event(self, kind: str, **fields: Any) -> Event:
        return server_event(kind, item_id=self._item.id, content_index=0, **fields)

    def _stable(self, segment: Segment) -> Iterator[Event]:
        self._segments.append(segment)
        delta = self._behind(segment)
        if not delta:
            return
        self._text += delta
        fields: Event = {"delta": delta}
        if LOGPROBS in self._item.config.include:
            fields["logprobs"] = text_logprobs([segment], self._recognizer)
        yield self._event(f"{TRANSCRIPTION}.delta", **fields)
        if WORDS in self._item.config.include:
            yield self._event(WORDS, words=self._words(segment))

    def _provisional(self, update: StreamUpdate) -> Event:
        segment = update.segment
        fields: Event = {
            "text": self._behind(segment),
            "start_ms": self._ms(segment.start),
            "end_ms": self._ms(segment.end),
        }
        if WORDS in self._item.config.include:
            fields["words"] = self._words(segment)
        return self._event(PROVISIONAL, **fields)

    def _behind(self, segment: Segment) -> str:
        """The segment's text as it stands behind the text so far."""
        return join_texts([self._text, segment.text])[len(self._text) :]

    def _words(self, segment: Segment) -> list[Event]:
        return [
            {"word": word.text, "start_ms": self._ms(word.start), "end_ms": self._ms(word.end)}
            for word in segment.words or ()
        ]

    def _ms(self, seconds: float | None) -> int | None:
        """A time in the item as one in the session."""
        if seconds is None:
            return None
        return round(1000 * (self._item.at + seconds))


class Transcription:
    """An item being recognized.

    Args:
        item: what is heard.
        served: by which model.
        newer: the shape of the session's events.
        send: sends some events, one behind the other.
        worked: told how many samples were recognized.
    """

    def __init__(
        self,
        item: Item,
        served: ServedModel,
        newer: bool,
        send: Callable[..., Any],
        worked: Callable[[int], None],
    ) -> None:
        self._item = item
        self._served = served
        self._text = _Text(item, served, newer)
        self._send = send
        self._worked = worked
        self._done = 0

    async def run(self) -> None:
        """Recognize the item to its end; what goes wrong with it is an event."""
        item = self._item
        try:
            await self._listen()
        except Exception as error:
            while not item.ended:
                self._took(await item.more())
            if not item.dropped:
                await self._send(self._text.failed(_told(error)))
        else:
            if not item.dropped:
                await self._send(self._text.completed())
        finally:
            self._worked(item.samples - self._done)
            item.gone.set()

    def _took(self, samples: Pcm) -> None:
        self._done += len(samples)
        self._worked(len(samples))

    async def _listen(self) -> None:
        if self._item.dropped:
            return
        opened: Future[StreamSession] = Future()
        try:
            await self._beside(lambda: opened.set_result(self._open()))
            await self._follow(opened.result())
        finally:
            # Behind the opening, also where nobody waits for that any more.
            with suppress(EngineError):
                self._served.engine.between(lambda: _close(opened))

    def _open(self) -> StreamSession:
        config, asked = self._item.config, self._item.config.asked
        return self._served.pipelines[Priority.FILE].stream(
            asked.language,
            asked.context,
            self._served.pool,
            rate=config.format.rate,
            chunk_seconds=config.piece_seconds,
            skip_late=True,
            word_timestamps=asked.words,
            aligner=self._served.aligner,
            partial_words=asked.words and PROVISIONAL in config.include,
        )

    async def _follow(self, stream: StreamSession) -> None:
        item = self._item
        ended = False
        while not ended:
            samples = await item.more()
            ended = item.ended
            if item.dropped:
                return
            stream.push(samples)
            if ended:
                stream.push_end()
            again = True
            while again and not item.dropped:
                await self._beside(self._work)
                # Read before the updates: what is done meanwhile belongs to the next round.
                again = stream.behind
                await self._send(*self._text.events(stream.updates()))
            self._took(samples)

    def _work(self) -> None:
        """A step of every stream that has one due; what went wrong in one is told by that one."""
        with suppress(Exception):
            self._served.pool.work_round()

    async def _beside(self, job: Callable[[], None]) -> None:
        await asyncio.wrap_future(self._served.engine.between(job))


def _close(opened: Future[StreamSession]) -> None:
    if opened.done():
        opened.result().close()


def _told(error: Exception) -> ApiError:
    if isinstance(error, AurisError):
        return as_api_error(error)
    _LOG.error("an item failed", exc_info=error)
    return ApiError(500, "The program failed.", code="engine_failed")
