"""Everything that a running server holds, and how calls run in it."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from auris.audio.isolation import DecoderPool
from auris.server.admission import Gate
from auris.server.connections import quiet_accept_errors
from auris.server.jobs.runner import JobRunner
from auris.server.jobs.store import JobStore
from auris.server.metrics import Metrics
from auris.server.model_registry import ModelRegistry
from auris.server.pools import Pools
from auris.server.schema import ModelCapabilities
from auris.server.settings import Settings, default_state_dir
from auris.server.tracing import Tracing
from auris.server.upload import SpoolBudget

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter from the engine, which needs it after every product.
With Python's own choice, ten times that, each small piece of work elsewhere delays a step of the
whole batch."""

OBSERVED_SECONDS = 1.0
"""How often a process updates its metrics, so that those of all processes are at most as old."""


class Server:
    """A running server.

    Attributes:
        models: the loaded models.
        store, jobs: long jobs, and the threads that do them.
        tracing: makes the spans of requests, by default as the settings say.
        gate, spool: how much audio is in progress, and how much space uploads and samples take.
    """

    def __init__(
        self,
        settings: Settings,
        models: ModelRegistry,
        store: JobStore,
        tracing: Tracing | None = None,
    ) -> None:
        self.settings = settings
        self.tracing = tracing or Tracing.load(settings.traces)
        self.models = models
        self.metrics = Metrics()
        self.store = store
        self.decoders = DecoderPool()
        self.spool = SpoolBudget(max(settings.most_spooled_bytes, settings.most_upload_bytes))
        self.jobs = JobRunner(store, models, settings, self.decoders)
        self.realtime_sessions = 0
        self.capabilities: dict[str, ModelCapabilities] = {}  # By the name of the model.
        self.gate = Gate(settings.most_seconds_in_flight, self._speed)
        self.pools = Pools()

    @classmethod
    def load(cls, settings: Settings) -> Server:
        """Load the models and open the jobs; an `AurisError` where that is not possible."""
        directory = Path(settings.state_dir) if settings.state_dir else default_state_dir()
        return cls(settings, ModelRegistry.load(settings), JobStore(directory))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work until the end of the block."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        # Python looks for a folder of temporary files once, by writing a file there: now, since
        # later the disk may be full.
        tempfile.gettempdir()
        quiet_accept_errors()
        self.models.start()
        self.jobs.start()
        observing = asyncio.create_task(self._observe_often())
        try:
            yield
        finally:
            observing.cancel()
            # Jobs first: what they have done is stored, and other processes continue them.
            await asyncio.to_thread(self.jobs.stop)
            await asyncio.to_thread(self.models.stop)
            self.pools.close()
            self.decoders.close()
            self.store.close()
            self.tracing.close()
            sys.setswitchinterval(interval)

    def observe(self) -> None:
        """Update the metrics."""
        loads = {model.name: model.engine.load() for model in self.models}
        self.metrics.observe(loads, self.gate.seconds, self.realtime_sessions)

    async def _observe_often(self) -> None:
        while True:
            self.observe()
            await asyncio.sleep(OBSERVED_SECONDS)

    def _speed(self) -> float:
        """Seconds of audio that the engines recognize in a second."""
        loads = [model.engine.load() for model in self.models]
        busy = sum(load.busy_seconds for load in loads)
        return sum(load.audio_seconds for load in loads) / busy if busy > 0 else 1.0


async def _server_of(connection: HTTPConnection) -> Server:
    server: Server = connection.app.state.server
    return server


ServerDep = Annotated[Server, Depends(_server_of)]
"""Parameter of a route."""
