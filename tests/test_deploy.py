"""The files of deploy/ fit each other, the server and the repository."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer

import auris
from auris.cli.main import app
from auris.server.settings import Settings

ROOT = Path(auris.__file__).parents[2]
DEPLOY = ROOT / "deploy"
USER = 10001

pytestmark = pytest.mark.skipif(not DEPLOY.exists(), reason="an installed package")


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(argument.split())) for name, argument in lines]


def the(name: str) -> str:
    """The argument of the last instruction of that name."""
    return [argument for found, argument in instructions() if found == name][-1]


def files(name: str) -> list[Any]:
    """The documents of a YAML file."""
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The options of `auris serve` by their arguments; wrong ones are an error."""
    assert arguments[:2] == ["auris", "serve"]
    command = typer.main.get_command(app).commands["serve"]
    return dict(command.make_context("serve", arguments[2:]).params)


def entrypoint() -> list[str]:
    return list(json.loads(the("ENTRYPOINT")))


def check_health(path: str) -> None:
    from auris.server.middleware import OPEN

    assert path in OPEN


def test_copied_files_exist_and_are_sent_to_the_builder() -> None:
    ignored, *lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored == "*"
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    for name, argument in instructions():
        if name == "COPY" and not argument.startswith("--from"):
            for source in argument.split()[:-1]:
                assert (ROOT / source).exists()
                assert source in sent
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for source in re.findall(r"\b(?:native|src)/[\w/]+", setup):
        assert any(fnmatch.fnmatch(source, f"{name}*") for name in sent)


def test_the_image_serves_at_the_port_that_it_exposes_and_checks() -> None:
    options = parsed(entrypoint())
    assert str(options["port"]) == the("EXPOSE")
    assert options["host"] == "0.0.0.0"
    assert options["state_dir"] == Path(the("VOLUME"))
    checked = re.search(r"http://[^']+", the("HEALTHCHECK"))
    assert checked
    address = urlsplit(checked[0])
    assert address.port == options["port"]
    check_health(address.path)


def test_the_image_runs_without_privileges() -> None:
    assert the("USER") == str(USER)
    names = [name for name, _ in instructions()]
    assert names.index("USER") > len(names) - 1 - names[::-1].index("RUN")
    assert f"--uid {USER}" in the("RUN")


def test_variables_of_the_image_are_declared() -> None:
    given = {argument.partition("=")[0] for name, argument in instructions() if name == "ARG"}
    used = {found for _, text in instructions() for found in re.findall(r"\$([A-Z]+)", text)}
    assert used <= given | {"PATH"}
    assert "torch" in the("ARG")


def test_the_compose_file() -> None:
    (compose,) = files("compose.yaml")
    service, proxy = compose["services"]["auris"], compose["services"]["proxy"]
    build = service["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    options = parsed([*entrypoint(), *service["command"]])
    (volume,) = service["volumes"]
    name, _, target = volume.partition(":")
    assert Path(target) == options["state_dir"]
    assert name in compose["volumes"]
    (secret,) = service["secrets"]
    assert service["environment"]["AURIS_API_KEYS"] == f"/run/secrets/{secret}"
    assert secret in compose["secrets"]
    # Addresses that a proxy sends are trusted, so nobody else may reach the server.
    assert service["environment"]["FORWARDED_ALLOW_IPS"] == "*"
    assert "ports" not in service
    seconds = int(service["stop_grace_period"].removesuffix("s"))
    assert seconds > Settings().stop_seconds
    (configuration,) = proxy["volumes"]
    assert (DEPLOY / configuration.partition(":")[0]).is_file()
    assert "auris" in proxy["depends_on"]
    (port,) = proxy["ports"]
    assert port.startswith("127.0.0.1:")
    nginx = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    assert re.search(r"listen (\d+);", nginx)[1] == port.rpartition(":")[2]
    assert f"proxy_pass http://auris:{options['port']};" in nginx
    most = re.search(r"client_max_body_size (\d+)m;", nginx)
    assert most
    assert int(most[1]) << 20 >= Settings().most_upload_bytes


def test_the_manifest_of_kubernetes() -> None:
    claim, deployment, service = files("kubernetes.yaml")
    template = deployment["spec"]["template"]
    pod = template["spec"]
    (container,) = pod["containers"]
    options = parsed([*entrypoint(), *container["args"]])
    (port,) = container["ports"]
    assert port["containerPort"] == options["port"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        request = container[probe]["httpGet"]
        assert request["port"] == port["name"]
        check_health(request["path"])
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    labels = template["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert pod["securityContext"]["runAsUser"] == USER
    assert pod["terminationGracePeriodSeconds"] > Settings().stop_seconds
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == volumes.keys()
    assert Path(mounts["state"]) == options["state_dir"]
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (keys,) = container["env"]
    assert keys == {"name": "AURIS_API_KEYS", "value": f"{mounts['keys']}/keys"}
    # The root of the file system is read only, and uploads need a place.
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert mounts["temporary"] == "/tmp"


def test_the_unit_of_systemd() -> None:
    text = (DEPLOY / "auris.service").read_text(encoding="utf-8")
    found = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert found
    program, *arguments = shlex.split(found[1])
    options = parsed([Path(program).name, *arguments])
    assert options["host"] == "127.0.0.1"
    stop = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert stop
    assert int(stop[1]) > Settings().stop_seconds
