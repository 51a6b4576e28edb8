"""Everything that a running server holds, and how calls run in it."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from auris.audio.isolation import DecoderPool
from auris.server.admission import Gate
from auris.server.calls import Call
from auris.server.jobs import JobStore
from auris.server.metrics import Metrics
from auris.server.serving import Serving
from auris.server.settings import Settings, default_state_dir
from auris.server.upload import SpoolBudget
from auris.server.work import Workers
from auris.types import Transcript

__all__ = ["Server", "until_left"]

T = TypeVar("T")

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter from the engine, which asks for it after every
product. Python's own choice is ten times that, and then each small piece of work elsewhere delays
a step of the whole batch."""

LOOKING = 4
"""Recordings that are measured at once."""

CALLS = 1024
"""Most threads for calls; how many are in use follows from the audio that is admitted."""


class Server:
    """A running server.

    Args:
        settings: how it is set up.
        serving: the loaded models.
        store: long jobs.
    """

    def __init__(self, settings: Settings, serving: Serving, store: JobStore) -> None:
        self.settings = settings
        self.serving = serving
        self.metrics = Metrics()
        self.store = store
        self.decoders = DecoderPool()
        self.spool = SpoolBudget(max(settings.most_spooled_bytes, settings.most_upload_bytes))
        self.jobs = Workers(store, serving, settings, self.decoders)
        self.realtime_sessions = 0
        self.gate = Gate(settings.most_seconds_in_flight, self._speed)
        self._looking = ThreadPoolExecutor(LOOKING, "auris-look")
        self._calling = ThreadPoolExecutor(CALLS, "auris-call")

    @classmethod
    def load(cls, settings: Settings) -> Server:
        """Load the models and open the jobs.

        Raises:
            AurisError: a model cannot be loaded, or the state folder cannot be used.
        """
        directory = Path(settings.state_dir) if settings.state_dir else default_state_dir()
        return cls(settings, Serving.load(settings), JobStore(directory))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work, from here to the end of the block."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        # Python looks for a place for temporary files once, by writing one: better while there is
        # room, since later the disk may be full.
        tempfile.gettempdir()
        self.serving.start()
        self.jobs.start()
        try:
            yield
        finally:
            # Jobs first: what they have done is kept, and others go on with it.
            await asyncio.to_thread(self.jobs.stop)
            await asyncio.to_thread(self.serving.stop)
            self._looking.shutdown()
            self._calling.shutdown()
            self.store.close()
            sys.setswitchinterval(interval)

    def _speed(self) -> float:
        loads = [model.engine.load() for model in self.serving]
        busy = sum(load.busy_seconds for load in loads)
        return sum(load.audio_seconds for load in loads) / busy if busy > 0 else 1.0

    async def look(self, read: Callable[[], T]) -> T:
        """Do something with a recording, beside the event loop; few do so at once."""
        return await asyncio.get_running_loop().run_in_executor(self._looking, read)

    async def finished(self, call: Call, request: Request) -> Transcript:
        """The transcript of a call.

        Raises:
            Gone: the caller left before.
            AurisError: the recording or the engine failed.
        """
        work = asyncio.get_running_loop().run_in_executor(self._calling, call.run)
        leaving = asyncio.create_task(until_left(request.receive))
        try:
            either: set[asyncio.Future[Any]] = {work, leaving}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                call.cancelled.set()
            return await asyncio.shield(work)
        finally:
            call.cancelled.set()
            leaving.cancel()

    async def streamed(self, work: Callable[[], T]) -> T:
        """Run a call that reports by itself."""
        return await asyncio.get_running_loop().run_in_executor(self._calling, work)

    def gauges(self) -> list[tuple[str, dict[str, str], float]]:
        """What can be measured now."""
        found: list[tuple[str, dict[str, str], float]] = [
            ("auris_audio_seconds_in_flight", {}, self.gate.seconds),
            ("auris_realtime_sessions", {}, self.realtime_sessions),
        ]
        loads = {model.name: model.engine.load() for model in self.serving}
        for name, value in (
            ("auris_pieces_waiting", "waiting"),
            ("auris_pieces_under_way", "under_way"),
            ("auris_engine_audio_seconds_total", "audio_seconds"),
            ("auris_engine_busy_seconds_total", "busy_seconds"),
            ("auris_engine_live_seconds_total", "live_seconds"),
        ):
            found += [(name, {"model": m}, getattr(load, value)) for m, load in loads.items()]
        found += [
            ("auris_jobs", {"status": status}, count)
            for status, count in sorted(self.store.counts().items())
        ]
        return found


async def until_left(receive: Receive) -> None:
    """Wait until the caller closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
