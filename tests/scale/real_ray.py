"""A real Ray in the tests."""

from __future__ import annotations

PATIENCE = {
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "100",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "100",
    "RAY_AUTH_MODE": "disabled",
    "OMP_NUM_THREADS": "1",
}
"""Environment of programs that start Ray; a busy machine takes long to do so."""
