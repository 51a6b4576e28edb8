"""The OpenAPI schema, and generated requests that follow or violate it."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import validate

from tests.server.live import Live


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
def test_generated_requests_cause_no_server_error(
    live: Live, mode: schemathesis.GenerationMode
) -> None:
    described = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
    tried = 0
    for found in described.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            response = case.call()
            assert response.status_code < 500, (case.as_curl_command(), response.text)
            if response.status_code >= 400 and response.status_code not in (499,):
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}

        try:
            ask()
        except Unsatisfiable:  # A path without parameters accepts every request.
            continue
        tried += 1
    assert tried >= 6


def test_the_openapi_schema_is_valid(live: Live) -> None:
    with live.client() as client:
        described = client.get("/openapi.json").json()
    validate(described)
    places = {(path, method) for path, item in described["paths"].items() for method in item}
    assert {
        ("/v1/audio/transcriptions", "post"),
        ("/v1/audio/translations", "post"),
        ("/v1/jobs", "post"),
        ("/v1/jobs", "get"),
        ("/v1/jobs/{job_id}", "get"),
        ("/v1/jobs/{job_id}", "delete"),
        ("/v1/jobs/{job_id}/cancel", "post"),
        ("/v1/jobs/{job_id}/result", "get"),
        ("/v1/models", "get"),
        ("/health", "get"),
        ("/metrics", "get"),
    } <= places
