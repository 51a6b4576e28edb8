"""The threads that do long jobs, between the calls of those who wait."""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack

from auris.attempts import Attempt
from auris.audio.isolation import DecoderPool
from auris.config import AutCtcConfig, QwenAsrConfig
from auris.errors import AurisError, EngineError
from auris.pieces import Options, Piece, Recognized
from auris.pipeline import AsrPipeline
from auris.recognizers import Recognizer
from auris.server.calls import DIARIZED, Call, Gone
from auris.server.engine_queue import Priority
from auris.server.failures import ApiError, as_api_error, is_full_disk
from auris.server.intake import measured
from auris.server.jobs import LEASE_SECONDS, Job, JobStore
from auris.server.serving import Serving
from auris.server.settings import Settings
from auris.text.tokenizer import Tokenizer
from auris.types import Segment, Transcript

__all__ = ["Workers"]

LOOK_SECONDS = 1.0
"""How often a worker without work looks for jobs that others left."""

AT_ONCE = 2
"""Jobs of one process that are under way together."""

EXPIRY_SECONDS = 60.0
"""How often jobs are looked for that have been over for long enough."""

_LOG = logging.getLogger(__name__)


class _Continued:
    """A recognizer for a job of which some pieces are done.

    Args:
        recognizer: does the others.
        done: segments by number of the piece.
    """

    def __init__(self, recognizer: Recognizer, done: Mapping[int, Segment]) -> None:
        self._recognizer = recognizer
        self._done = done

    @property
    def config(self) -> AutCtcConfig | QwenAsrConfig:
        """The model's shapes."""
        return self._recognizer.config

    @property
    def tokenizer(self) -> Tokenizer:
        """Its vocabulary."""
        return self._recognizer.tokenizer

    def check(self, options: Options) -> None:
        """See `Recognizer.check`."""
        self._recognizer.check(options)

    def recognize(
        self, pieces: Iterable[Piece | None], rows: int, cancelled: Callable[[], bool]
    ) -> Iterator[Recognized]:
        """See `Recognizer.recognize`."""
        ready: deque[Recognized] = deque()

        def others() -> Iterator[Piece | None]:
            for piece in pieces:
                if piece is not None and piece.key in self._done:
                    ready.append(Recognized(piece.key, self._done[piece.key], {}))
                else:
                    yield piece

        for result in self._recognizer.recognize(others(), rows, cancelled):
            while ready:
                yield ready.popleft()
            yield result
        yield from ready

    def provisional(self, attempt: Attempt) -> Segment:
        """See `Recognizer.provisional`."""
        return self._recognizer.provisional(attempt)

    def commit(self, attempt: Attempt) -> Recognized:
        """See `Recognizer.commit`."""
        return self._recognizer.commit(attempt)


class Workers:
    """Threads that do jobs until they are stopped.

    Args:
        store: the jobs.
        serving: the models.
        settings: the limits of recordings.
        decoders: what decodes recordings; closed when the workers stop.
    """

    def __init__(
        self,
        store: JobStore,
        serving: Serving,
        settings: Settings,
        decoders: DecoderPool | None = None,
    ) -> None:
        self._store = store
        self._serving = serving
        self._settings = settings
        self._decoders = decoders or DecoderPool()
        self._stopping = threading.Event()
        self._news = threading.Condition()
        self._calls: dict[str, threading.Event] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"auris-job-{number}", daemon=True)
            for number in range(AT_ONCE)
        ]
        self._threads.append(threading.Thread(target=self._renew, name="auris-jobs", daemon=True))

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; jobs under way are left to whoever comes next, with the pieces that are done."""
        self._stopping.set()
        for cancelled in list(self._calls.values()):
            cancelled.set()
        self.look()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._decoders.close()

    def look(self) -> None:
        """There may be a new job."""
        with self._news:
            self._news.notify_all()

    def leave(self, job: str) -> None:
        """Stop working at a job."""
        cancelled = self._calls.get(job)
        if cancelled is not None:
            cancelled.set()

    def _renew(self) -> None:
        """Hold on to this process's jobs, let go of those that somebody ended, forget old ones."""
        looked = -math.inf
        while not self._stopping.wait(LEASE_SECONDS / 5):
            try:
                mine = self._store.renew()
                if time.monotonic() - looked >= EXPIRY_SECONDS:
                    looked = time.monotonic()
                    self._store.expire(self._settings.keep_jobs_seconds)
            except (OSError, sqlite3.Error) as error:
                _LOG.warning("jobs could not be renewed (%s)", error)
                continue
            for job in set(self._calls) - mine:
                self.leave(job)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                job = self._store.claim()
                if job is not None:
                    self._do(job)
                    continue
            except Exception as error:  # The database may be full, or locked for long.
                _LOG.warning("no job could be taken up (%s: %s)", type(error).__name__, error)
            with self._news:
                self._news.wait(LOOK_SECONDS)

    def _do(self, job: Job) -> None:
        cancelled = self._calls[job.id] = threading.Event()
        try:
            self._finish(job, self._outcome(job, cancelled))
        finally:
            del self._calls[job.id]

    def _outcome(self, job: Job, cancelled: threading.Event) -> Transcript | ApiError | None:
        """The result, or what went wrong; None where the job was ended, or is left to others."""
        try:
            return self._transcribed(job, cancelled)
        except (Gone, EngineError) as error:
            if isinstance(error, Gone) or self._stopping.is_set():
                return None
            return as_api_error(error)
        except FileNotFoundError:
            return ApiError(500, "The recording of this job is gone.", code="recording_lost")
        except ApiError as error:
            return error
        except AurisError as error:
            return as_api_error(error)
        except Exception:
            _LOG.exception("a job failed by a fault of the program")
            return ApiError(500, "The program failed.", code="engine_failed")

    def _transcribed(self, job: Job, cancelled: threading.Event) -> Transcript:
        served = self._serving.pick(job.asked.model)
        apart = job.asked.response_format == DIARIZED
        with self._store.recording(job.id) as file, ExitStack() as files:
            recording = measured(file, self._settings, apart, self._decoders, files, cancelled)
            self._store.measured(job.id, recording.seconds)
            call = Call(
                served, job.asked, recording, Priority.JOB, self._settings.chunk_seconds, cancelled
            )
            known = self._store.kept(job.id)
            shared = served.pipelines[Priority.JOB]
            pipeline = AsrPipeline(
                _Continued(shared.recognizer, known), shared.model, shared.backend, shared.traits
            )
            numbers = iter(range(1 << 62))

            def keep(segment: Segment) -> None:
                number = next(numbers)
                if number in known:
                    return
                try:
                    self._store.keep(job.id, number, segment)
                except sqlite3.OperationalError as error:
                    if not is_full_disk(error):
                        raise
                    _LOG.warning("a piece of a job could not be kept: the disk is full")

            return call.run(keep, pipeline)

    def _finish(self, job: Job, outcome: Transcript | ApiError | None) -> None:
        """Record what came of a job; when the disk is full, as soon as it no longer is."""
        while True:
            try:
                if outcome is None:
                    self._store.release(job.id)
                elif isinstance(outcome, ApiError):
                    self._store.fail(job.id, outcome)
                else:
                    self._store.succeed(job.id, outcome)
                return
            except sqlite3.OperationalError as error:
                if not is_full_disk(error):
                    raise
                _LOG.warning("a job could not be finished: the disk is full")
                if self._stopping.wait(LEASE_SECONDS / 2):
                    return
