"""A port that several processes listen at, each with a socket of its own."""

from __future__ import annotations

import socket
from typing import Any

from auris.errors import UsageError

__all__ = ["SharedPort", "check_free"]


class SharedPort(socket.socket):
    """A bound socket that becomes another one, at the same port, in the process it is sent to.

    Linux spreads connections over the listening sockets of a port. Where processes share one
    socket, whichever wakes first takes all connections that wait, and one engine gets the work of
    many callers while the others have none.

    Only the sockets of the worker processes listen; the first one keeps the port for them.
    """

    @classmethod
    def bound(cls, host: str, port: int) -> SharedPort:
        """Take a port; 0 takes a free one.

        Raises:
            UsageError: it is taken, or the address is none of this machine's.
        """
        # Sockets like these share a port with anybody's, another server's as well.
        check_free(host, port)
        return cls.sharing((host, port))

    @classmethod
    def sharing(cls, address: tuple[Any, ...]) -> SharedPort:
        """One more socket at an address, whoever else is there.

        Raises:
            OSError: it cannot be had.
        """
        found = cls(_family(address[0]))
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            found.bind(address)
        except OSError:
            found.close()
            raise
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process: a socket of its own at this port."""
        return SharedPort.sharing, (self.getsockname(),)


def check_free(host: str, port: int) -> None:
    """Refuse a port that something listens at.

    Raises:
        UsageError: it is taken, or the address is none of this machine's.
    """
    try:
        with socket.socket(_family(host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise UsageError(
            "--host and --port have to be free to listen at",
            f"{host}:{port} is not ({error.strerror})",
            "choose another port, or end what listens there",
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
