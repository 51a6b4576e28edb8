"""A double of the package ray that runs everything in this process.

Its functions take what Auris gives to those of Ray, under the same names; `check_signatures`
compares them with a real Ray.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

Row = Mapping[str, Any]


class Dataset:
    """Rows, and what is made of them when they are read."""

    def __init__(self, rows: Callable[[], Iterator[Row]]) -> None:
        self._rows = rows

    def map_batches(
        self,
        fn: Callable[..., Any],
        *,
        batch_size: int,
        compute: ActorPoolStrategy,
        num_cpus: float,
        num_gpus: float,
        fn_constructor_args: tuple[Any, ...],
    ) -> Dataset:
        assert 1 <= compute.min_size <= compute.max_size
        assert batch_size == 1

        def rows() -> Iterator[Row]:
            actor = fn(*fn_constructor_args)
            for row in self._rows():
                batch = actor({name: np.array([cell]) for name, cell in row.items()})
                yield {name: cells[0] for name, cells in batch.items()}

        return Dataset(rows)

    def iter_rows(self) -> Iterator[Row]:
        return self._rows()


class ActorPoolStrategy:
    """How many actors there are."""

    def __init__(self, *, min_size: int, max_size: int) -> None:
        self.min_size, self.max_size = min_size, max_size


def from_items(items: list[Row], *, override_num_blocks: int) -> Dataset:
    assert override_num_blocks == len(items)
    return Dataset(lambda: iter(items))


class Deployment:
    """A class whose replicas an application consists of."""

    def __init__(self, kind: type, **options: Any) -> None:
        self.kind, self.options = kind, options

    def bind(self) -> Deployment:
        return self


class Double:
    """The package, and what was done with it.

    Attributes:
        started: arguments of `ray.init`.
        connected: whether it is initialized.
        http: options of the proxies, while Ray Serve runs.
        application: the deployment that runs.
        replica: the one that was made for it.
        absent: error of `ray.init`, if it fails.
        refused: error of the replica's constructor, if it fails.
        message: of the deployment in the status of Ray Serve.
        gpus: of the cluster.
    """

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.connected = False
        self.http: dict[str, Any] | None = None
        self.application: Deployment | None = None
        self.replica: Any = None
        self.absent: Exception | None = None
        self.refused: Exception | None = None
        self.message = ""
        self.gpus = 1.0

    def modules(self) -> dict[str, ModuleType]:
        """The modules by name."""
        ray = ModuleType("ray")
        data, serve, exceptions = (ModuleType(f"ray.{n}") for n in ("data", "serve", "exceptions"))
        vars(data).update(from_items=from_items, ActorPoolStrategy=ActorPoolStrategy)
        vars(exceptions).update(RayError=type("RayError", (Exception,), {}))
        for name in ("deployment", "ingress", "status"):
            setattr(serve, name, getattr(self, name))
        vars(serve).update(start=self.serve_start, run=self.run, shutdown=self.serve_shutdown)
        for name in ("init", "is_initialized", "shutdown", "cluster_resources", "get", "remote"):
            setattr(ray, name, getattr(self, name))
        vars(ray).update(data=data, serve=serve, exceptions=exceptions)
        return {m.__name__: m for m in (ray, data, serve, exceptions)}

    def init(self, address: str | None = None, **options: Any) -> None:
        assert not self.connected
        if self.absent is not None:
            raise self.absent
        assert options.keys() <= {"num_cpus", "object_store_memory", "include_dashboard"}
        self.connected = True
        self.started.append(options if address is None else {"address": address, **options})

    def is_initialized(self) -> bool:
        return self.connected

    def shutdown(self) -> None:
        self.connected = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0, "GPU": self.gpus}

    def get(self, object_refs: Any) -> Any:
        return object_refs

    def remote(self, *, num_cpus: float, num_gpus: float) -> Callable[..., Any]:
        return lambda work: SimpleNamespace(remote=work)

    def ingress(self, app: Callable[[], Any]) -> Callable[[type], type]:
        assert inspect.isfunction(app)
        return lambda kind: type(kind.__name__, (kind,), {"build": staticmethod(app)})

    def deployment(
        self,
        _func_or_class: type,
        *,
        name: str,
        autoscaling_config: Mapping[str, Any],
        max_ongoing_requests: int,
        ray_actor_options: Mapping[str, Any],
        graceful_shutdown_timeout_s: float,
    ) -> Deployment:
        options = {name: value for name, value in locals().items() if name != "self"}
        return Deployment(options.pop("_func_or_class"), **options)

    def status(self) -> SimpleNamespace:
        application = SimpleNamespace(deployments={"auris": SimpleNamespace(message=self.message)})
        return SimpleNamespace(
            proxies={} if self.http is None else {"node": "HEALTHY"},
            applications={} if self.application is None else {"auris": application},
        )

    def serve_start(self, *, http_options: dict[str, Any]) -> None:
        assert self.connected
        self.http = http_options

    def run(self, target: Deployment, *, name: str, route_prefix: str) -> None:
        assert (name, route_prefix) == ("auris", "/")
        self.application = target
        if self.refused is not None:
            raise RuntimeError(f"Deploying app {name!r} failed: {self.refused}")
        self.replica = target.kind()
        self.replica.app = target.kind.build()

    def serve_shutdown(self) -> None:
        self.http = self.application = None


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Double:
    """A Ray that runs everything in this process."""
    double = Double()
    for name, module in double.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return double


def check_signatures(ray: Any) -> None:
    """The parameters that the double takes are parameters of the real functions."""
    double = Double()
    pairs = [
        (Dataset.map_batches, ray.data.Dataset.map_batches),
        (Dataset.iter_rows, ray.data.Dataset.iter_rows),
        (ActorPoolStrategy, ray.data.ActorPoolStrategy),
        (from_items, ray.data.from_items),
        (double.init, ray.init),
        (double.cluster_resources, ray.cluster_resources),
        (double.get, ray.get),
        (double.remote, ray.remote),
        (double.ingress, ray.serve.ingress),
        (double.deployment, ray.serve.deployment),
        (double.serve_start, ray.serve.start),
        (double.run, ray.serve.run),
        (double.serve_shutdown, ray.serve.shutdown),
    ]
    for ours, theirs in pairs:
        real = inspect.signature(theirs).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in real.values())
        for name, parameter in inspect.signature(ours).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                continue
            assert name in real or anything, (theirs, name)
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name in real:
                place = list(inspect.signature(ours).parameters).index(name)
                assert list(real).index(name) == place, (theirs, name)
    options = inspect.signature(ray.init).parameters
    assert {"num_cpus", "object_store_memory", "include_dashboard"} <= {*options}
    assert issubclass(ray.exceptions.RayActorError, ray.exceptions.RayError)
    status = ray.serve.schema
    assert {"proxies", "applications"} <= {*status.ServeStatus.__dataclass_fields__}
    assert "deployments" in status.ApplicationStatusOverview.__dataclass_fields__
    assert "message" in status.DeploymentStatusOverview.__dataclass_fields__
