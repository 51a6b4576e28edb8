"""The server as a deployment of Ray Serve, whose replicas have an engine each.

Ray Serve receives requests and WebSockets, gives each to a replica, and starts and ends replicas.
A replica is the application of `auris serve`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from auris.errors import EngineError, UsageError
from auris.scale.ray_cluster import Cluster, ray_module, start
from auris.server.run import free_port
from auris.server.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

APPLICATION = "auris"
"""Name of the application in Ray Serve."""

STORED_UPLOADS = 2
"""Largest uploads that the object store of a Ray that is started here has room for."""


ERROR = re.compile(r"^auris\.errors\.\w+: (.+)", re.MULTILINE)
"""The last line of a traceback that ends with an error of this package."""


class Replica:
    """A process of the deployment; Ray Serve adds the application to it."""

    app: FastAPI

    def check_health(self) -> None:
        """Raise an error if the replica has to be replaced; called by Ray Serve again and again.

        Raises:
            EngineError: an engine has stopped.
        """
        if not all(model.engine.running for model in self.app.state.server.models):
            raise EngineError("An engine has stopped", "", "the replica is replaced")


def replica_settings(settings: Settings, cluster: Cluster) -> Settings:
    """The settings of a replica.

    Jobs are in a folder that the replicas of one machine share. On a cluster there are none,
    and no page, which makes jobs of long recordings.

    Raises:
        UsageError: a folder of jobs, or no port, is given for a cluster.
    """
    if cluster.address is None:
        return settings
    if settings.port == 0:
        raise UsageError(
            "On a cluster the port has to be the same on all machines",
            "--port is 0",
            "choose a port that is free on all of them",
        )
    if settings.state_dir is not None:
        raise UsageError(
            "On a cluster there are no jobs, since machines cannot share their folder",
            "--state-dir is given",
            "leave it out; auris scale run transcribes long recordings on a cluster",
        )
    return replace(settings, jobs=False, page=False)


def build_app(settings: Settings) -> FastAPI:
    """The application of a replica; loads the models."""
    from logging.config import dictConfig

    from auris.server.app import create_app
    from auris.server.log import log_config
    from auris.server.state import Server

    dictConfig(log_config(settings.log_format))
    if not settings.jobs:
        settings = replace(settings, state_dir=tempfile.mkdtemp(prefix="auris-replica-"))
    return create_app(Server.load(settings))


def deployment(serve: Any, settings: Settings, cluster: Cluster, target_requests: int) -> Any:
    """The server as an application for `serve.run`.

    Args:
        serve: the module ray.serve.
        settings: of each replica.
        cluster: how many replicas there are, and what each needs.
        target_requests: requests and WebSockets of a replica above which another one is started.
    """

    def build() -> FastAPI:  # Ray Serve takes a function only, and no other callable.
        return build_app(settings)

    return serve.deployment(
        serve.ingress(build)(Replica),
        name=APPLICATION,
        autoscaling_config={
            "min_replicas": cluster.least,
            "max_replicas": cluster.most,
            "target_ongoing_requests": target_requests,
        },
        # A replica refuses what is too much for it by itself (429).
        max_ongoing_requests=2 * target_requests + settings.most_realtime_sessions,
        ray_actor_options={"num_cpus": cluster.cpus, "num_gpus": cluster.gpus},
        graceful_shutdown_timeout_s=settings.stop_seconds,
    ).bind()


def serve_on_ray(
    settings: Settings,
    cluster: Cluster,
    target_requests: int,
    wait: Callable[[str], None],
) -> None:
    """Serve with replicas on Ray until `wait` returns.

    Args:
        settings: of the server; `host` and `port` are those of Ray's proxies.
        cluster, target_requests: see `deployment`.
        wait: called with the address when the replicas are ready.

    Raises:
        MissingExtra: Ray Serve is not installed.
        UsageError: the cluster has a Ray Serve already, or the port is taken.
        EngineError: no replica can start.
    """
    ray = ray_module("serve", "ray-serve")
    serve = ray.serve
    settings = replica_settings(settings, cluster)
    port = settings.port
    if cluster.address is None:
        port = free_port(settings.host, port)
    started = start(ray, cluster, STORED_UPLOADS * settings.most_upload_bytes)
    try:
        if serve.status().proxies:
            raise UsageError(
                "The cluster may have no Ray Serve yet, since its address is fixed",
                "there is one",
                "end it with: serve shutdown",
            )
        try:
            _deploy(ray, deployment(serve, settings, cluster, target_requests), settings.host, port)
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            wait(f"http://{host}:{port}")
        finally:
            serve.shutdown()
    finally:
        if started:
            ray.shutdown()


def _deploy(ray: Any, application: Any, host: str, port: int) -> None:
    """Start Ray Serve at an address, and the replicas."""
    try:
        ray.serve.start(http_options={"host": host, "port": port})
        ray.serve.run(application, name=APPLICATION, route_prefix="/")
    except (RuntimeError, ray.exceptions.RayError) as error:
        reason = _replica_error(ray.serve.status()) or " ".join(str(error).split())
        raise EngineError(
            "Ray Serve cannot start the server", reason, "correct that, and see the log of Ray"
        ) from error


def _replica_error(status: Any) -> str | None:
    """The error of this package that ended the last replica, from the status of Ray Serve."""
    if APPLICATION not in status.applications:
        return None
    deployments = status.applications[APPLICATION].deployments.values()
    errors = [line for deployment in deployments for line in ERROR.findall(deployment.message)]
    return errors[-1].rstrip(".") if errors else None
