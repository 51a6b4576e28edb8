"""One transcription: audio in, events with its text out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioFormat
from wyoming.event import Event

from auris.audio.arrays import from_pcm
from auris.audio.resample import mixed
from auris.streaming.async_session import AsyncStreamSession
from auris.streaming.session import StreamUpdate
from auris.text.languages import LANGUAGE_CODES
from auris.text.words import join_texts
from auris.wyoming.service import WyomingModel

STEP_SECONDS = 1.0
"""Time between steps. The protocol has no partial text, but without a search a text that grows
while the client speaks is complete sooner after the end."""


@dataclass(frozen=True)
class WyomingRequest:
    """What a client wants: a model, a language or None, and words to expect."""

    model: WyomingModel
    language: str | None = None
    hotwords: tuple[str, ...] = ()


class Transcription:
    """A stream of a model, and the text so far. It ends with `finish` or `close`."""

    def __init__(self, form: AudioFormat, session: AsyncStreamSession) -> None:
        self.form = form
        self.seconds = 0.0
        self._session = session
        self._text = ""
        self._language: str | None = None
        self._began = False

    @classmethod
    async def begin(cls, request: WyomingRequest, form: AudioFormat) -> Transcription:
        """Open a stream; an `AurisError` where the model does not support the request."""
        model = request.model
        opened: Future[AsyncStreamSession] = Future()

        def open_stream() -> None:
            session = model.pipeline.astream(
                request.language,
                pool=model.pool,
                rate=form.rate,
                chunk_seconds=model.chunk_seconds,
                end_at_pauses=False,
                partial_text=False,
                vad=model.pipeline.defaults.vad,
                vad_model=model.vad_model,
                step_seconds=STEP_SECONDS,
                skip_late=True,
                hotwords=request.hotwords,
            )
            opened.set_result(session)

        # In the thread of the pool, since a pool does not open streams during a step.
        await asyncio.wrap_future(model.pool.submit(open_stream))
        return cls(form, opened.result())

    async def add(self, data: bytes) -> list[Event]:
        """Add interleaved samples; returns the events of the text that is final now."""
        samples = mixed(from_pcm(data, self.form.width, self.form.channels))[0]
        self.seconds += len(samples) / self.form.rate
        return self._events(await self._session.feed(samples))

    async def finish(self) -> list[Event]:
        """Recognize the rest; returns the last events."""
        events = self._events(await self._session.finish())
        if not self._began:
            events.append(TranscriptStart().event())
        transcript = Transcript(self._text, language=self._language)
        return [*events, transcript.event(), TranscriptStop().event()]

    async def close(self) -> None:
        """End without recognizing the rest."""
        await self._session.close()

    def _events(self, updates: Iterable[StreamUpdate]) -> list[Event]:
        events: list[Event] = []
        for update in updates:
            if not update.final or not update.segment.text:
                continue
            if not self._began:
                self._began = True
                self._language = LANGUAGE_CODES.get(update.segment.language or "")
                events.append(TranscriptStart(language=self._language).event())
            before = len(self._text)
            self._text = join_texts([self._text, update.segment.text])
            events.append(TranscriptChunk(self._text[before:]).event())
        return events
