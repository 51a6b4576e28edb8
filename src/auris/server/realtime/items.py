"""One item of a realtime session: its audio, its stream, and the events of its text."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auris.errors import AurisError, EngineError
from auris.server.engine import Priority
from auris.server.errors import as_api_error
from auris.server.model_registry import ServedModel
from auris.server.realtime.config import FINAL, LOGPROBS, PROVISIONAL, SPEAKERS, WORDS, Session
from auris.server.realtime.messages import identifier, server_event
from auris.server.realtime.speakers import SessionSpeakers, in_milliseconds
from auris.server.responses import language_codes, text_logprobs, tokens_used
from auris.streaming.session import StreamSession, StreamUpdate
from auris.text.words import join_texts
from auris.types import Segment

Pcm = NDArray[np.int16]
Event = dict[str, Any]

_LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class Item:
    """Audio that was appended and is, or will be, committed, and its transcription.

    Attributes:
        settings: of the session when the item begins.
        served: the model of these settings.
        newer: the shape of the events.
        start: its first sample, in seconds of the session's audio.
        send: sends events, with none of others between them.
        done: called with the seconds of audio that were recognized, or dropped.
        speakers: of the session; None where they are not told apart.
    """

    settings: Session
    served: ServedModel
    newer: bool
    start: float
    send: Callable[..., Awaitable[None]]
    done: Callable[[float], None]
    speakers: SessionSpeakers | None = None
    id: str = field(default_factory=lambda: identifier("item"))
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    samples: int = 0
    _ended: bool = False
    _dropped: bool = False
    _waiting: list[Pcm] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _done_samples: int = 0
    _segments: list[Segment] = field(default_factory=list)
    _text: str = ""

    @property
    def seconds(self) -> float:
        """Its length so far."""
        return self.samples / self.settings.format.rate

    def append(self, samples: Pcm) -> None:
        """Add audio."""
        self.samples += len(samples)
        self._waiting.append(samples)
        self._changed.set()

    def end(self, dropped: bool = False) -> None:
        """There is no more audio; the text of a dropped item is not needed."""
        self._ended, self._dropped = True, dropped
        self._changed.set()

    async def transcribe(self) -> None:
        """Recognize the item to its end; a failure is an event."""
        try:
            await self._recognize()
        except Exception as error:  # The client gets an event, whatever failed.
            if not isinstance(error, AurisError):
                _LOG.exception("an item failed")
            # A session with too much waiting audio reads no further message, so it is done now.
            self._discard_audio()
            while not self._ended:
                await self._changed.wait()
                self._discard_audio()
            last = self._event("failed", error=as_api_error(error).body()["error"])
        else:
            last = self._completed()
        finally:
            self.done((self.samples - self._done_samples) / self.settings.format.rate)
            self.finished.set()
        if not self._dropped:
            await self.send(last)

    def _take(self) -> Pcm:
        """The audio since the last call, [S]."""
        self._changed.clear()
        waiting, self._waiting = self._waiting, []
        return np.concatenate(waiting) if waiting else np.zeros(0, np.int16)

    def _discard_audio(self) -> None:
        """Count all audio so far as done, without recognizing it."""
        self._take()
        self._count(self.samples)

    def _count(self, samples: int) -> None:
        """Count the audio that is recognized, in samples of the item."""
        self.done((samples - self._done_samples) / self.settings.format.rate)
        self._done_samples = samples

    async def _recognize(self) -> None:
        if self._dropped:
            return
        opened: Future[StreamSession] = Future()

        def close() -> None:
            if opened.done():
                opened.result().close()
            if self._dropped and self.speakers is not None:
                self.speakers.remove(self.id)

        try:
            await self._in_engine(lambda: opened.set_result(self._open()))
            await self._push_audio(opened.result())
        finally:
            # After the stream is open, also where this task is cancelled before that.
            with suppress(EngineError):
                self.served.engine.between(close)

    def _open(self) -> StreamSession:
        settings, served = self.settings, self.served
        request = served.fitted(settings.request)
        session = served.pipelines[Priority.FILE].stream(
            request.language,
            request.context,
            served.pool,
            rate=self.settings.format.rate,
            chunk_seconds=settings.chunk_seconds,
            vad_model=served.vad_model,
            settle_seconds=settings.settle_seconds,
            partial_text=PROVISIONAL in settings.include or settings.settle_seconds > 0,
            skip_late=True,
            word_timestamps=request.words,
            aligner=served.aligner,
            **served.search(request),
            partial_words=request.words and PROVISIONAL in self.settings.include,
            diarize=False if self.speakers is None else self.speakers.begin(self.start),
        )
        if self.speakers is not None and session.speakers is not None:
            self.speakers.add(self.id, self.start, session.speakers)
        return session

    async def _push_audio(self, stream: StreamSession) -> None:
        loop = asyncio.get_running_loop()

        def notify() -> None:
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(self._changed.set)

        stream.notify = notify
        pushed, ended, behind = 0, False, True
        while not ended or behind:
            await self._changed.wait()
            if self._dropped:
                return
            if not ended and (self._waiting or self._ended):
                ended = self._ended  # Read before the audio, all of which then came before.
                samples = self._take()
                pushed += len(samples)
                stream.push(samples)
                if ended:
                    stream.push_end()
                self.served.pool.drive(stream)
            self._changed.clear()
            # Read before the updates: what is done meanwhile gives another notice.
            behind, covered = stream.behind, stream.seconds
            events = [e for update in stream.updates() for e in self._update_events(update)]
            await self.send(*events)
            covered_samples = int(covered * self.settings.format.rate)
            self._count(min(covered_samples, pushed) if behind else pushed)

    async def _in_engine(self, job: Callable[[], None]) -> None:
        await asyncio.wrap_future(self.served.engine.between(job))

    def _event(self, kind: str, **fields: Any) -> Event:
        if not kind.startswith("auris."):
            kind = f"conversation.item.input_audio_transcription.{kind}"
        return server_event(kind, item_id=self.id, content_index=0, **fields)

    def _completed(self) -> Event:
        request = self.served.fitted(self.settings.request)
        usage = tokens_used(self._segments, request, self.served.engine.recognizer)
        fields: Event = {
            "transcript": self._text,
            "usage": usage or {"type": "duration", "seconds": round(self.seconds, 3)},
            **self._logprobs(self._segments),
        }
        if self.newer:
            names = dict.fromkeys(s.language or "" for s in self._segments if s.text)
            fields["languages"] = language_codes(names)
        return self._event("completed", **fields)

    def _update_events(self, update: StreamUpdate) -> Iterator[Event]:
        segment, include = update.segment, self.settings.include
        times = {"start_ms": self._ms(segment.start), "end_ms": self._ms(segment.end)}
        words = {"words": self._words(segment)} if WORDS in include else {}
        if update.delta:
            logprobs = self._logprobs([segment]) if update.final else {}
            yield self._event("delta", delta=update.delta, **logprobs)
        if not update.final:
            if update.delta:
                yield from self._speaker_events(update)
            if PROVISIONAL in include:
                yield self._event(PROVISIONAL, text=update.partial, **times, **words)
            return
        self._segments.append(segment)
        text = join_texts([self._text, segment.text])[len(self._text) :]
        self._text += text
        if FINAL in include:
            settled = {"revised": update.revised, "carried": update.carried}
            yield self._event(FINAL, text=text, **settled, **times)
        if text and words:
            yield self._event(WORDS, **words)
        yield from self._speaker_events(update)

    def _speaker_events(self, update: StreamUpdate) -> Iterator[Event]:
        if update.speakers:
            parts = in_milliseconds(self.start, update.speakers)
            yield self._event(SPEAKERS, final=update.final, speakers=parts)

    def _logprobs(self, segments: list[Segment]) -> Event:
        if LOGPROBS not in self.settings.include:
            return {}
        return {"logprobs": text_logprobs(segments, self.served.engine.recognizer)}

    def _words(self, segment: Segment) -> list[Event]:
        return [
            {"word": word.text, "start_ms": self._ms(word.start), "end_ms": self._ms(word.end)}
            for word in segment.words or ()
        ]

    def _ms(self, seconds: float | None) -> int | None:
        """A time in the item as one in the session."""
        return None if seconds is None else round(1000 * (self.start + seconds))
