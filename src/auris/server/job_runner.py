"""The threads that do long jobs, between the calls of those who wait."""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from auris.audio.isolation import DecoderPool
from auris.errors import AurisError, EngineError
from auris.recognition.fingerprint import fingerprint, option_values
from auris.server.calls import Call, ClientDisconnected
from auris.server.engine_queue import Priority
from auris.server.errors import ApiError, as_api_error, is_full_disk
from auris.server.job_record import Job
from auris.server.jobs import JobStore
from auris.server.model_registry import ModelRegistry, ServedModel
from auris.server.responses import answers
from auris.server.settings import Settings
from auris.server.upload_validation import measured
from auris.types import SAMPLE_RATE, Chunk, Segment, Transcript

__all__ = ["Workers"]

LOOK_SECONDS = 1.0
"""How often a worker without work looks for jobs that others left."""

WATCH_SECONDS = 2.0
"""How often jobs under way are looked after."""

RETRY_SECONDS = 5.0
"""How long until what a full disk prevented is tried again."""

AT_ONCE = 2
"""Jobs of one process that are under way together."""

EXPIRY_SECONDS = 60.0
"""How often jobs are looked for that have been over for long enough."""

_LOG = logging.getLogger(__name__)


@dataclass
class _JobRun:
    """A job under way in this process.

    Attributes:
        alone: whether no other may be under way beside it.
        cancelled: set when it is to end.
        done: seconds that are done; None until there is progress.
        recorded: the same, as the store knows it.
    """

    alone: bool
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: float | None = None
    recorded: float | None = None


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
        serving: ModelRegistry,
        settings: Settings,
        decoders: DecoderPool | None = None,
    ) -> None:
        self._store = store
        self._serving = serving
        self._settings = settings
        self._decoders = decoders or DecoderPool()
        self._stopping = threading.Event()
        self._news = threading.Condition()
        self._claiming = threading.Lock()
        self._runs: dict[str, _JobRun] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"auris-job-{number}", daemon=True)
            for number in range(AT_ONCE)
        ]
        self._threads.append(threading.Thread(target=self._watch, name="auris-jobs", daemon=True))

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; jobs under way are left to whoever comes next, with the segments that are done."""
        self._stopping.set()
        for run in list(self._runs.values()):
            run.cancelled.set()
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
        run = self._runs.get(job)
        if run is not None:
            run.cancelled.set()

    def _watch(self) -> None:
        """Record progress, let go of jobs that somebody ended, forget old ones."""
        looked = -math.inf
        while not self._stopping.wait(WATCH_SECONDS):
            try:
                self._look_after_runs()
                self._store.tidy()
                if time.monotonic() - looked >= EXPIRY_SECONDS:
                    looked = time.monotonic()
                    self._store.expire(self._settings.keep_jobs_seconds)
            except (OSError, sqlite3.Error) as error:
                _LOG.warning("jobs could not be looked after (%s)", error)

    def _look_after_runs(self) -> None:
        runs = dict(self._runs)  # Before the question, since new ones may come meanwhile.
        for job in set(runs) - self._store.mine():
            runs[job].cancelled.set()
        self._record_progress(runs)

    def _record_progress(self, runs: dict[str, _JobRun]) -> None:
        changed = {job: run.done for job, run in runs.items() if run.done != run.recorded}
        done = {job: seconds for job, seconds in changed.items() if seconds is not None}
        if done:
            self._store.progress(done)
            for job, seconds in done.items():
                runs[job].recorded = seconds

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                job = self._claim()
                if job is not None:
                    self._do(job)
                    continue
            except Exception as error:  # The database may be full, or locked for long.
                _LOG.warning("no job could be taken up (%s: %s)", type(error).__name__, error)
            with self._news:
                self._news.wait(LOOK_SECONDS)

    def _claim(self) -> Job | None:
        """A job to do now."""
        with self._claiming:
            if any(run.alone for run in self._runs.values()):
                return None
            models = {name: s.digest for name, s in self._serving.names() if s.engine.running}
            job = self._store.claim(models, idle=not self._runs)
            if job is not None:
                self._runs[job.id] = _JobRun(alone=job.attempts > 1)
            return job

    def _do(self, job: Job) -> None:
        run = self._runs[job.id]
        try:
            self._finish(job, self._outcome(job, run))
        finally:
            del self._runs[job.id]
        self.look()  # A job that has to run alone may have waited for this one.

    def _outcome(self, job: Job, run: _JobRun) -> dict[str, object] | ApiError | None:
        """The answers, or what went wrong; None where the job was ended, or is left to others."""
        served = next(s for _, s in self._serving.names() if s.digest == job.model)
        try:
            return answers(self._transcribed(job, run, served), job.asked, served.engine.recognizer)
        except (ClientDisconnected, EngineError) as error:
            if (
                isinstance(error, ClientDisconnected)
                or self._stopping.is_set()
                or not served.engine.running
            ):
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

    def _transcribed(self, job: Job, run: _JobRun, served: ServedModel) -> Transcript:
        apart = job.asked.diarized
        with self._store.recording(job.id) as file, ExitStack() as files:
            recording = measured(
                *(file, self._settings, apart, self._decoders, files, run.cancelled)
            )
            self._store.measured(job.id, recording.seconds)
            call = Call(
                *(served, job.asked, recording, Priority.JOB),
                *(self._settings.chunk_seconds, run.cancelled),
            )
            asked = job.asked
            options = option_values(
                served.pipelines[Priority.JOB].defaults, asked.language, asked.context, call.options
            )
            kept = self._store.begin(job.id, fingerprint({**served.values, **options}))
            by_span = {_span_of(segment): segment for segment in kept}

            def known(recording: int, chunk: Chunk) -> Segment | None:
                return by_span.get((chunk.start, chunk.start + len(chunk.samples), chunk.speaker))

            def report(segment: Segment) -> None:
                if _span_of(segment) not in by_span:
                    self._keep(job, run, segment)

            return call.run(report, known)

    def _keep(self, job: Job, run: _JobRun, segment: Segment) -> None:
        """Keep a segment, where there is room."""
        try:
            self._store.keep(job.id, segment)
            first, run.done = run.done is None, segment.end
            if first:  # At once: if the process ends now, it was not for nothing.
                self._record_progress({job.id: run})
        except (OSError, sqlite3.OperationalError) as error:
            if not is_full_disk(error):
                raise
            _LOG.warning("a segment of a job could not be kept: the disk is full")

    def _finish(self, job: Job, outcome: dict[str, object] | ApiError | None) -> None:
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
            except (OSError, sqlite3.Error) as error:
                _LOG.warning("a job could not be finished (%s), which is tried again", error)
                if self._stopping.wait(RETRY_SECONDS):
                    return


def _span_of(segment: Segment) -> tuple[int, int, str | None]:
    """Where a segment lies, in samples of its recording, and on whose channel."""
    start, end = round(segment.start * SAMPLE_RATE), round(segment.end * SAMPLE_RATE)
    return start, end, segment.speaker
