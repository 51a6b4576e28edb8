"""What worker processes get: the application and a port.

uvicorn sends both through the pipe by which it starts a process. A process imports this module
before it can answer that it lives, so the module imports little.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from auris.errors import UsageError
from auris.server.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI


def load_app(settings: Settings) -> FastAPI:
    """Load the models and make the application."""
    from auris.server.app import create_app
    from auris.server.state import Server

    return create_app(Server.load(settings))


class SharedPort(socket.socket):
    """A bound socket that becomes another one, at the same port, in the process it is sent to.

    Linux spreads connections over the listening sockets of a port. Where processes share one
    socket, whichever wakes first takes all connections that wait, and one engine gets the work of
    many callers while the others have none.

    Only the sockets of the worker processes listen; the first one reserves the port for them.
    """

    @classmethod
    def bound(cls, host: str, port: int) -> SharedPort:
        """A socket at a port; 0 takes a free one.

        Raises:
            UsageError: the port is taken, or the address is none of this machine's.
        """
        # Sockets like these share a port with anybody's, another server's as well.
        check_free(host, port)
        return cls.sharing((host, port))

    @classmethod
    def sharing(cls, address: tuple[Any, ...]) -> SharedPort:
        """A further socket at an address."""
        shared = cls(_family(address[0]))
        try:
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(address)
        except OSError:
            shared.close()
            raise
        return shared

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedPort.sharing, (self.getsockname(),)


def check_free(host: str, port: int) -> None:
    """Refuse a port that something listens at.

    Raises:
        UsageError: the port is taken, or the address is none of this machine's.
    """
    try:
        with socket.socket(_family(host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise UsageError(
            f"The server cannot listen at {host}:{port} ({error.strerror})",
            "",
            "choose another port, or end what listens there",
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
