"""The package ray, and the cluster that it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from auris.errors import DeviceError, EngineError, MissingExtra


@dataclass(frozen=True)
class Cluster:
    """Where and how many actors run.

    Attributes:
        address: of the cluster; None starts Ray on this machine.
        least, most: actors; Ray starts more while work waits.
        cpus, gpus: that each actor needs.
    """

    address: str | None = None
    least: int = 1
    most: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


def ray_module(part: str, extra: str) -> Any:
    """The package ray, with one of its modules.

    Args:
        part: name of the module, such as data.
        extra: the extra of auris-asr that installs what it needs.

    Raises:
        MissingExtra: they are not installed.
    """
    try:
        ray = import_module("ray")
        import_module(f"ray.{part}")
    except ImportError as error:
        raise MissingExtra(
            f"Running on a cluster needs the extra {extra}",
            f"ray[{part}] is not installed",
            f"run pip install 'auris-asr[{extra}]'",
        ) from error
    return ray


def start(ray: Any, cluster: Cluster, store_bytes: int) -> bool:
    """Connect to a cluster, or start Ray on this machine, unless that was done before.

    Args:
        store_bytes: size of the object store of a Ray that is started here.

    Returns:
        whether it was done now.

    Raises:
        EngineError: that fails.
        DeviceError: this machine has too few GPUs for one actor, which would wait forever.
    """
    if ray.is_initialized():
        return False
    where: dict[str, Any] = {"address": cluster.address}
    if cluster.address is None:
        where = {
            "num_cpus": max(1, round(cluster.cpus * cluster.most)),
            "object_store_memory": store_bytes,
            "include_dashboard": False,
        }
    try:
        ray.init(**where)
    except Exception as error:  # Ray raises Exception itself where it takes too long to start.
        raise EngineError(
            "Ray has to run at --ray-address, or start on this machine",
            f"it does not ({' '.join(str(error).split())})",
            "check the address and the log of Ray",
        ) from error
    present = ray.cluster_resources().get("GPU", 0.0)
    if cluster.address is None and present < cluster.gpus:
        ray.shutdown()
        raise DeviceError(
            "Each actor or replica needs --gpus GPUs of this machine",
            f"they are {cluster.gpus:g}, and it has {present:g}",
            "lower them, or name a cluster with --ray-address",
        )
    return True
