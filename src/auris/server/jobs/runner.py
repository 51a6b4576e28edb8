"""The threads that do long jobs, in the time that other calls leave."""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from contextlib import ExitStack

from auris.audio.isolation import DecoderPool
from auris.errors import AurisError, EngineError
from auris.recognition.fingerprint import fingerprint, option_values
from auris.server.calls import Call
from auris.server.engine import Priority
from auris.server.errors import ApiError, ClientDisconnected, as_api_error, is_full_disk
from auris.server.jobs.store import Job, JobStore
from auris.server.model_registry import ModelRegistry, ServedModel
from auris.server.responses import answers
from auris.server.settings import Settings
from auris.server.speakers import speakers_of
from auris.server.upload import SpoolBudget
from auris.server.upload_validation import DecodeContext, measured
from auris.types import SAMPLE_RATE, Chunk, Segment, Transcript

CLAIM_SECONDS = 1.0
"""How often an idle thread looks for jobs that other processes left."""

WATCH_SECONDS = 2.0
"""How often running jobs are checked for having been cancelled."""

RETRY_SECONDS = 5.0
"""Time between attempts to write to a full disk."""

JOBS_AT_ONCE = 2
"""Jobs of one process that run together."""

EXPIRY_SECONDS = 60.0
"""How often old jobs are looked for."""

_LOG = logging.getLogger(__name__)


class JobRunner:
    """Threads that do jobs until they are stopped, when `decoders` are closed as well."""

    def __init__(
        self,
        store: JobStore,
        models: ModelRegistry,
        settings: Settings,
        decoders: DecoderPool | None = None,
    ) -> None:
        self._store = store
        self._models = models
        self._settings = settings
        self._decoders = decoders or DecoderPool()
        self._stopping = threading.Event()
        self._new_job = threading.Condition()
        self._claiming = threading.Lock()
        self._runs: dict[str, threading.Event] = {}  # Events that cancel them, by job.
        self._alone = False  # Whether the job that runs has to run alone.
        self._threads = [
            threading.Thread(target=self._work, name=f"auris-job-{number}", daemon=True)
            for number in range(JOBS_AT_ONCE)
        ]
        self._threads.append(threading.Thread(target=self._watch, name="auris-jobs", daemon=True))

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads. Other processes continue their jobs after the finished segments."""
        self._stopping.set()
        for job in list(self._runs):
            self.abandon(job)
        self.wake()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._decoders.close()

    def wake(self) -> None:
        """Look for jobs at once."""
        with self._new_job:
            self._new_job.notify_all()

    def abandon(self, job: str) -> None:
        """Stop working on a job."""
        cancelled = self._runs.get(job)
        if cancelled is not None:
            cancelled.set()

    def _watch(self) -> None:
        """End runs of jobs that were cancelled in other processes, and remove old jobs."""
        expired = -math.inf
        while not self._stopping.wait(WATCH_SECONDS):
            try:
                running = set(self._runs)  # Read first, since more jobs may be claimed meanwhile.
                for job in running - self._store.mine():
                    self.abandon(job)
                self._store.erase()
                if time.monotonic() - expired >= EXPIRY_SECONDS:
                    expired = time.monotonic()
                    self._store.expire(self._settings.keep_jobs_seconds)
            except (OSError, sqlite3.Error) as error:
                _LOG.warning("jobs could not be looked after (%s)", error)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                job = self._claim()
                if job is not None:
                    self._run(job)
                    continue
            except Exception as error:
                # The disk may be full, or the database locked. Whatever it is, a thread that ended
                # here would leave all later jobs undone.
                _LOG.warning("no job could be taken up (%s: %s)", type(error).__name__, error)
            with self._new_job:
                self._new_job.wait(CLAIM_SECONDS)

    def _claim(self) -> Job | None:
        """A job to run now."""
        with self._claiming:
            if self._runs and self._alone:
                return None
            models = {
                name: m.digest for name, m in self._models.by_name.items() if m.engine.running
            }
            job = self._store.claim(models, idle=not self._runs)
            if job is not None:
                self._runs[job.id] = threading.Event()
                self._alone = job.attempts > 1
            return job

    def _run(self, job: Job) -> None:
        try:
            outcome = self._outcome(job, self._runs[job.id])
            while not self._record(job, outcome):
                if self._stopping.wait(RETRY_SECONDS):
                    return
        finally:
            del self._runs[job.id]
        self.wake()  # A job that has to run alone may have waited for this one.

    def _record(self, job: Job, outcome: dict[str, object] | ApiError | None) -> bool:
        """Record the outcome of a job; False where that has to be tried again."""
        try:
            if outcome is None:
                self._store.release(job.id)
            elif isinstance(outcome, ApiError):
                self._store.fail(job.id, outcome)
            else:
                self._store.succeed(job.id, outcome)
        except (OSError, sqlite3.Error) as error:
            _LOG.warning("a job could not be finished (%s), which is tried again", error)
            return False
        return True

    def _outcome(self, job: Job, cancelled: threading.Event) -> dict[str, object] | ApiError | None:
        """Response bodies, or an error; None where the job is cancelled or left to others."""
        model = next(model for model in self._models if model.digest == job.model)
        try:
            transcript = self._transcribe(job, cancelled, model)
            return answers(transcript, model.fitted(job.request), model.engine.recognizer)
        except ClientDisconnected:
            return None
        except FileNotFoundError:
            return ApiError(500, "The recording of this job is gone.", code="recording_lost")
        except Exception as error:  # Whatever it is, it fails the job and not the thread.
            stopped = self._stopping.is_set() or not model.engine.running
            if isinstance(error, EngineError) and stopped:
                return None
            if not isinstance(error, ApiError | AurisError):
                _LOG.exception("a job failed by a fault of the program or the disk")
            return as_api_error(error)

    def _transcribe(self, job: Job, cancelled: threading.Event, model: ServedModel) -> Transcript:
        request, settings = model.fitted(job.request), self._settings
        with self._store.recording(job.id) as file, ExitStack() as files:
            # Samples of requests do not keep a job from running, so each has a budget of its own.
            budget = SpoolBudget(settings.most_spooled_bytes)
            context = DecodeContext(self._decoders, settings, budget, cancelled)
            recording = measured(file, request.may_split, context, files)
            self._store.set_length(job.id, recording.seconds)
            speakers = speakers_of(request, recording.channels, model.diarizer)
            seconds = settings.chunk_seconds
            call = Call(model, request, recording, Priority.JOB, seconds, speakers, cancelled)
            pipeline = model.pipelines[Priority.JOB]
            options = option_values(pipeline, request.language, request.context, call.options)
            stored = self._store.begin(job.id, fingerprint({**model.values, **options}))
            by_span = {_span(segment): segment for segment in stored}

            def known(recording: int, chunk: Chunk) -> Segment | None:
                return by_span.get((chunk.start, chunk.start + len(chunk.samples), chunk.speaker))

            lost = 0  # Segments that found the disk full.

            def store(segment: Segment) -> None:
                nonlocal lost
                if _span(segment) in by_span or self._store_segment(job.id, segment):
                    return
                lost += 1
                if lost == 1:  # One line for all of them.
                    _LOG.warning("segments of a job could not be stored: the disk is full")

            return call.run(known=known, recognized=store)

    def _store_segment(self, job: str, segment: Segment) -> bool:
        """Store a segment; False where the disk is full."""
        try:
            self._store.add_segment(job, segment)
        except OSError as error:
            if not is_full_disk(error):
                raise
            return False
        return True


def _span(segment: Segment) -> tuple[int, int, str | None]:
    """First sample, end and channel of a segment in its recording."""
    start, end = round(segment.start * SAMPLE_RATE), round(segment.end * SAMPLE_RATE)
    return start, end, segment.speaker
