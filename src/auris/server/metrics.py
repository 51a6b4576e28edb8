"""What the server counts, for Prometheus.

Counters and gauges are those of `prometheus_client`. In its multiprocess mode, which
`auris.server.run` uses for several workers, the values are sums over all of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

if TYPE_CHECKING:  # Worker processes import this module before they answer that they live.
    from auris.server.engine import Load

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder that worker processes share, read by `prometheus_client`."""

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the histogram of answers, in seconds."""

METHODS = frozenset({"GET", "POST", "DELETE", "OPTIONS", "HEAD"})

EVENTS = {
    "audio_seconds_accepted": "Seconds of audio that calls sent and that was admitted.",
    "jobs_accepted": "Jobs that were accepted.",
    "realtime_sessions": "Realtime sessions that were opened.",
    "realtime_items": "Items of realtime sessions.",
    "realtime_audio_seconds": "Seconds of audio of realtime sessions.",
}
"""What `Metrics.count` counts, and its description."""

ENGINE_COUNTERS = {
    "audio_seconds": "Seconds of audio of files that were recognized.",
    "busy_seconds": "Seconds that the engine spent on files.",
    "live_seconds": "Seconds that the engine spent on live streams.",
}
"""Fields of `Load` that only grow."""

ENGINE_GAUGES = {"waiting": "Chunks in the queue.", "active": "Chunks in the batch."}
"""The other fields of `Load`."""


class Metrics:
    """Counters and gauges of one process, or of all worker processes together."""

    def __init__(self) -> None:
        disable_created_metrics()
        self._registry = CollectorRegistry()
        named: dict[str, Any] = {"namespace": "auris", "registry": self._registry}
        counter: Callable[..., Counter] = partial(Counter, **named)
        gauge: Callable[..., Gauge] = partial(Gauge, multiprocess_mode="livesum", **named)
        self._requests = counter(
            "requests", "Requests that were answered.", ["method", "route", "status"]
        )
        self._seconds = Histogram(
            "request_seconds",
            "Seconds from a request to the end of its answer.",
            ["route"],
            buckets=BUCKETS,
            **named,
        )
        self._events = {name: counter(name, text) for name, text in EVENTS.items()}
        self._engine_counters = {
            name: counter(f"engine_{name}", text, ["model"])
            for name, text in ENGINE_COUNTERS.items()
        }
        self._engine_gauges = {
            name: gauge(f"chunks_{name}", text, ["model"]) for name, text in ENGINE_GAUGES.items()
        }
        self._in_flight = gauge("audio_seconds_in_flight", "Seconds of audio of calls under way.")
        self._open_sessions = gauge("realtime_sessions_open", "Realtime sessions that are open.")
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, str], float] = {}

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def count(self, event: str, amount: float = 1) -> None:
        """Count one of `EVENTS`."""
        self._events[event].inc(amount)

    def observe(self, loads: Mapping[str, Load], in_flight: float, sessions: int) -> None:
        """Take over the loads of engines by model, seconds of audio in progress, open sessions."""
        self._in_flight.set(in_flight)
        self._open_sessions.set(sessions)
        with self._lock:
            for model, load in loads.items():
                for name, gauge in self._engine_gauges.items():
                    gauge.labels(model).set(getattr(load, name))
                for name, counter in self._engine_counters.items():
                    total, before = getattr(load, name), self._counted.get((name, model), 0.0)
                    if total >= before:
                        counter.labels(model).inc(total - before)
                        self._counted[name, model] = total

    def text(self, jobs: Mapping[str, int]) -> bytes:
        """All metrics in the text format of Prometheus, with the numbers of jobs by status."""
        shown = self._registry
        if folder := os.environ.get(MULTIPROCESS):
            _forget_ended(Path(folder))
            shown = CollectorRegistry()
            MultiProcessCollector(shown)
        shared = CollectorRegistry()
        shared.register(_JobCollector(jobs))
        return generate_latest(shown) + generate_latest(shared)


def _forget_ended(folder: Path) -> None:
    """Remove the gauges of processes that have ended; what they counted stays."""
    for file in folder.glob("gauge_livesum_*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process)


class _JobCollector(Collector):
    """The gauge of jobs, which all processes share."""

    def __init__(self, jobs: Mapping[str, int]) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("auris_jobs", "Jobs by status.", labels=["status"])
        for status, count in sorted(self._jobs.items()):
            family.add_metric([status], count)
        yield family
