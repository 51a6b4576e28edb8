"""Traces of requests for OpenTelemetry, which the extra `traces` brings.

A request is a span; the decoding of its recording and the recognition are spans in it. Those of the
client are continued (W3C trace context). Nothing of a recording or a text is in a trace.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from auris.errors import MissingExtra

SERVICE = "auris"

UNRECORDED = {"record_exception": False, "set_status_on_exception": False}
"""Messages of exceptions are not exported, since they may name files."""

_TRACER: ContextVar[Any] = ContextVar("tracer", default=None)
"""The tracer of the request that is being answered, also in the threads that work on it."""


class Tracing:
    """Makes the spans of requests.

    Args:
        provider: of OpenTelemetry's SDK; None makes no spans.
    """

    def __init__(self, provider: Any = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE) if provider else None

    @classmethod
    def load(cls, enabled: bool) -> Tracing:
        """With an exporter by OTLP, which the variables OTEL_EXPORTER_OTLP_... set up.

        Raises:
            MissingExtra: OpenTelemetry is not installed.
        """
        if not enabled:
            return cls()
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise MissingExtra(
                "Traces need the packages of OpenTelemetry",
                "they are not installed",
                "run pip install 'auris-asr[traces]'",
            ) from None
        named = Resource.create({"service.name": SERVICE}).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=named)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def close(self) -> None:
        """Export what is left."""
        if self._provider is not None:
            self._provider.shutdown()

    @contextlib.contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator[Any]:
        """The span of a request, in that of its client; None without tracing."""
        if self._tracer is None:
            yield None
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        before = TraceContextTextMapPropagator().extract(headers)
        _TRACER.set(self._tracer)
        with self._tracer.start_as_current_span(
            "request", context=before, kind=SpanKind.SERVER, **UNRECORDED
        ) as span:
            yield span


@contextlib.contextmanager
def span(name: str, **attributes: float) -> Iterator[dict[str, float]]:
    """A span in that of the present request, if there is one.

    Yields:
        its attributes, to which more can be added.
    """
    tracer = _TRACER.get()
    if tracer is None:
        yield attributes
        return
    with tracer.start_as_current_span(name, **UNRECORDED) as current:
        try:
            yield attributes
        except Exception as error:  # Any error of the request; it is raised again.
            current.set_attribute("error.type", type(error).__name__)
            raise
        finally:
            current.set_attributes({f"{SERVICE}.{key}": one for key, one in attributes.items()})


def describe(request: Any, fields: Mapping[str, Any]) -> None:
    """Write into the span of a request what the log says of it."""
    if request is None:
        return
    request.update_name(f"{fields['method']} {fields['route']}")
    names = {
        "http.request.method": fields["method"],
        "http.route": fields["route"],
        "http.response.status_code": fields["status"],
        "error.type": fields["reason"],
        f"{SERVICE}.request_id": fields["request_id"],
    }
    request.set_attributes({name: one for name, one in names.items() if one is not None})
