"""What a worker process is given. It is loaded before the process can say that it lives, so it is
little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auris.server.settings import Settings

__all__ = ["WorkerProgram"]


class WorkerProgram:
    """Makes the program of a worker process.

    The settings, keys among them, come through the pipe by which the process is started; its
    environment, which other programs of the user can read, has none of them.

    Args:
        settings: how the server is set up.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.to_json()

    def __call__(self) -> Any:
        """The program, for uvicorn."""
        from auris.server.app import create_app
        from auris.server.settings import Settings
        from auris.server.state import Server

        return create_app(Server.load(Settings.from_json(self._settings)))
