"""`auris serve`: the server with the OpenAI audio API."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from auris.cli.declare import option
from auris.cli.options import show_loading
from auris.cli.server_options import ServerOptions, require_server_packages

if TYPE_CHECKING:
    from auris.server.settings import Settings


@dataclass(frozen=True)
class ServeOptions(ServerOptions):
    """The settings of a server that this program runs, as options."""

    workers: Annotated[int, option("Processes, each with its own model.", min=1, max=256)] = 1
    certificate: Annotated[Path | None, option("Certificate, for https.", "--ssl-certfile")] = None
    key: Annotated[Path | None, option("Private key of the certificate.", "--ssl-keyfile")] = None

    def settings(self) -> Settings:
        """As of `ServerOptions`; processes share the processors."""
        settings = super().settings()
        if self.threads is None and self.workers > 1:
            return replace(settings, threads=max(1, (os.cpu_count() or 1) // self.workers))
        return settings


def serve(options: ServeOptions) -> None:
    """Serve the OpenAI audio API.

    By default only this machine can reach the server. AURIS_API_KEYS names a file with the keys
    that callers may use, one per line. SIGTERM ends the server after the calls in progress.
    """
    require_server_packages("auris serve", "serve")
    from auris.server.run import run

    settings = options.settings()
    show_loading(options.models)
    run(settings)
