"""Options of servers: `auris serve`, and the same on Ray."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from auris.cli.declare import option
from auris.cli.options import (
    Aligner,
    BatchSize,
    BeamSize,
    ChunkSeconds,
    Device,
    Dtype,
    HotwordList,
    Lm,
    Models,
    Threads,
    VadModel,
)
from auris.cli.speakers import SpeakerModel
from auris.cli.values import named_directory, read_hotwords
from auris.errors import MissingExtra

if TYPE_CHECKING:
    from auris.server.settings import Settings

PACKAGES = ("fastapi", "pydantic", "uvicorn", "websockets", "python_multipart", "prometheus_client")


@dataclass(frozen=True)
class ServerOptions:
    """The settings of a server, as options."""

    models: Models = None
    aliases: Annotated[
        list[str] | None,
        option("Another name for the first model, such as whisper-1. Repeatable.", "--alias"),
    ] = None
    adapters: Annotated[
        list[str] | None,
        option(
            "NAME=DIR: adapters (LoRA) in a directory, served as a model of that name over the "
            "weights of the first model. Repeatable.",
            "--adapter",
        ),
    ] = None
    host: Annotated[
        str, option("Address to listen at. An address that other machines can reach requires keys.")
    ] = "127.0.0.1"
    port: Annotated[int, option("Port to listen at; 0 chooses a free one.", min=0, max=65535)] = (
        8000
    )
    device: Device = None
    dtype: Dtype = "auto"
    threads: Threads = None
    lm: Lm = "auto"
    beam_size: BeamSize = None
    hotwords: HotwordList = None
    batch_size: BatchSize = 16
    chunk_seconds: ChunkSeconds = None
    aligner: Aligner = None
    speaker_model: SpeakerModel = None
    keys: Annotated[
        list[str] | None,
        option(
            "A key that callers have to send. Other users of the machine can see it here; a "
            "file named by AURIS_API_KEYS is safer. Repeatable.",
            "--api-key",
        ),
    ] = None
    max_upload_mb: Annotated[int, option("Largest request, in MB.", min=1)] = 256
    most_audio_seconds: Annotated[float, option("Longest recording.", "--max-audio-seconds")] = (
        14400.0
    )
    most_sample_rate: Annotated[
        int, option("Highest sampling rate of a recording.", "--max-sample-rate")
    ] = 192_000
    most_seconds_in_flight: Annotated[
        float,
        option(
            "Maximum seconds of audio in progress; more are refused (429).",
            "--max-seconds-in-flight",
        ),
    ] = 3600.0
    most_jobs: Annotated[
        int, option("Maximum number of unfinished jobs per API key.", "--max-jobs")
    ] = 100
    keep_jobs_days: Annotated[float, option("Days that a finished job and its result stay.")] = 7.0
    page: Annotated[bool, option("Serve the page for browsers at /.", "--page/--no-page")] = True
    most_realtime_sessions: Annotated[
        int,
        option(
            "Maximum realtime connections of a process; more are refused (429).",
            "--max-realtime-sessions",
        ),
    ] = 32
    most_idle_seconds: Annotated[
        float,
        option("Longest time without a message from a realtime client.", "--realtime-idle-seconds"),
    ] = 300.0
    vad_model: VadModel = "auto"
    urls: Annotated[bool, option("Fetch recordings from public web addresses.", "--allow-urls")] = (
        False
    )
    origins: Annotated[
        list[str] | None,
        option(
            "Origin of a web page that may call, such as https://page.example, or *. Repeatable.",
            "--cors-origin",
        ),
    ] = None
    state_dir: Annotated[
        Path | None,
        option(
            "Folder of jobs: a new one, or one of an earlier server.",
            default="~/.local/state/auris",
        ),
    ] = None
    stop_seconds: Annotated[
        int, option("Time that calls in progress have to finish when the server stops.", min=1)
    ] = 30
    log_format: Annotated[
        Literal["text", "json"], option("Lines of the log: text, or one JSON object each.")
    ] = "text"
    traces: Annotated[
        bool,
        option(
            "Trace requests by OpenTelemetry, which OTEL_EXPORTER_OTLP_ENDPOINT and its other "
            "variables set up. Needs the extra traces.",
            "--traces",
        ),
    ] = False

    def settings(self) -> Settings:
        """The settings, with the keys of the file that AURIS_API_KEYS names."""
        from auris.server.settings import Settings, read_keys

        values = dict(vars(self))
        for name in ("models", "aliases", "origins"):
            values[name] = tuple(values[name] or ())
        values["adapters"] = tuple(map(named_directory, self.adapters or []))
        values["hotwords"] = tuple(read_hotwords(self.hotwords))
        values["keys"] = read_keys(self.keys or [], os.environ.get("AURIS_API_KEYS"))
        values["most_upload_bytes"] = values.pop("max_upload_mb") << 20
        values["keep_jobs_seconds"] = values.pop("keep_jobs_days") * 86_400
        return Settings(**values)


def require_server_packages(command: str, extra: str) -> None:
    """Refuse a command whose packages are not installed.

    Raises:
        MissingExtra: one is missing; the extra of auris-asr installs it.
    """
    try:
        for name in PACKAGES:
            import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f"{command} needs fastapi, pydantic, uvicorn, websockets, python-multipart and "
            "prometheus-client",
            f"{error.name} is not installed" if error.name else f"one of them fails ({error})",
            f"run pip install 'auris-asr[{extra}]'",
        ) from None
