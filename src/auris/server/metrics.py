"""What the server counts, in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["BUCKETS", "Metrics", "line"]

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the histogram of answers, in seconds."""

METHODS = frozenset({"GET", "POST", "DELETE", "OPTIONS", "HEAD"})


def line(name: str, value: float, **labels: str) -> str:
    """A sample; values of labels are names of our own, which need no escapes."""
    told = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{name}{{{told}}} {value:g}\n" if told else f"{name} {value:g}\n"


class Metrics:
    """Counters of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._within: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self._events: dict[str, float] = {}

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        method = method if method in METHODS else "other"
        with self._lock:
            self._requests[method, route, status] += 1
            self._seconds[route] = self._seconds.get(route, 0.0) + seconds
            within = self._within.setdefault(route, [0] * (len(BUCKETS) + 1))
            for place, bound in enumerate((*BUCKETS, float("inf"))):
                within[place] += seconds <= bound

    def count(self, event: str, amount: float = 1) -> None:
        """Count something else."""
        with self._lock:
            self._events[event] = self._events.get(event, 0.0) + amount

    def text(self, gauges: Iterable[tuple[str, Mapping[str, str], float]]) -> str:
        """All of it.

        Args:
            gauges: names, labels and values as they are now; those of a name follow each other.
        """
        with self._lock:
            parts = ["# TYPE auris_requests_total counter\n"]
            for (method, route, status), count in sorted(self._requests.items()):
                labels = {"method": method, "route": route, "status": str(status)}
                parts.append(line("auris_requests_total", count, **labels))
            parts.append("# TYPE auris_request_seconds histogram\n")
            for route, within in sorted(self._within.items()):
                parts += self._histogram(route, within)
            for event, amount in sorted(self._events.items()):
                parts.append(f"# TYPE auris_{event}_total counter\n")
                parts.append(line(f"auris_{event}_total", amount))
        last = None
        for name, told, value in gauges:
            if name != last:
                kind = "counter" if name.endswith("_total") else "gauge"
                parts.append(f"# TYPE {name} {kind}\n")
                last = name
            parts.append(line(name, value, **told))
        return "".join(parts)

    def _histogram(self, route: str, within: list[int]) -> list[str]:
        name = "auris_request_seconds"
        bounds = [f"{bound:g}" for bound in BUCKETS] + ["+Inf"]
        return [
            *(
                line(f"{name}_bucket", count, route=route, le=bound)
                for bound, count in zip(bounds, within, strict=True)
            ),
            line(f"{name}_sum", self._seconds[route], route=route),
            line(f"{name}_count", within[-1], route=route),
        ]
