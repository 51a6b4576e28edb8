"""A port that several processes listen at, each with a socket of its own."""

from __future__ import annotations

import socket
from typing import Any

from auris.errors import UsageError

__all__ = ["SharedPort"]


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
        found = cls(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            found.bind((host, port))
        except OSError as error:
            found.close()
            raise UsageError(
                "--host and --port have to be free to listen at",
                f"{host}:{port} is not ({error.strerror})",
                "choose another port, or end what listens there",
            ) from None
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process: a socket of its own at this port."""
        return SharedPort.bound, self.getsockname()[:2]
