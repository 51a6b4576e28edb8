"""`auris serve`: the server with the OpenAI audio API."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

from auris.cli.options import (
    Aligner,
    BatchSize,
    ChunkSeconds,
    Device,
    Dtype,
    Models,
    Threads,
    option,
)
from auris.errors import MissingExtra

PACKAGES = ("fastapi", "pydantic", "uvicorn", "websockets", "python_multipart", "prometheus_client")


def serve(
    model: Models = None,
    alias: Annotated[
        list[str] | None, option("Another name of the first model, such as whisper-1. Repeatable.")
    ] = None,
    host: Annotated[
        str, option("Address to listen at. An address that other machines can reach requires keys.")
    ] = "127.0.0.1",
    port: Annotated[
        int, option("Port to listen at; 0 chooses a free one.", min=0, max=65535)
    ] = 8000,
    workers: Annotated[int, option("Processes, each with its own model.", min=1, max=256)] = 1,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    batch_size: BatchSize = 16,
    chunk_seconds: ChunkSeconds = None,
    aligner: Aligner = None,
    api_key: Annotated[
        list[str] | None,
        option(
            "A key that callers have to send. Other users of the machine can see it here; a "
            "file named by AURIS_API_KEYS is safer. Repeatable."
        ),
    ] = None,
    max_upload_mb: Annotated[int, option("Largest request, in MB.", min=1)] = 256,
    max_audio_seconds: Annotated[float, option("Longest recording.")] = 14400.0,
    max_sample_rate: Annotated[int, option("Highest sampling rate of a recording.")] = 192_000,
    max_seconds_in_flight: Annotated[
        float, option("Maximum seconds of audio in progress; more are refused (429).")
    ] = 3600.0,
    max_jobs: Annotated[int, option("Maximum number of unfinished jobs per API key.")] = 100,
    keep_jobs_days: Annotated[float, option("Days that a finished job and its result stay.")] = 7.0,
    page: Annotated[bool, option("Serve the page for browsers at /.", "--page/--no-page")] = True,
    max_realtime_sessions: Annotated[
        int, option("Maximum realtime connections of a process; more are refused (429).")
    ] = 32,
    realtime_idle_seconds: Annotated[
        float, option("Longest time without a message from a realtime client.")
    ] = 300.0,
    allow_urls: Annotated[
        bool, option("Fetch recordings from public web addresses.", "--allow-urls")
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        option(
            "Origin of a web page that may call, such as https://page.example, or *. Repeatable."
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        option(
            "Folder of jobs: a new one, or one of an earlier server.",
            default="~/.local/state/auris",
        ),
    ] = None,
    stop_seconds: Annotated[
        int, option("Seconds that calls in progress have to finish when stopping.", min=1)
    ] = 30,
    log_format: Annotated[
        Literal["text", "json"], option("Lines of the log: text, or one JSON object each.")
    ] = "text",
    ssl_certfile: Annotated[Path | None, option("Certificate, for https.")] = None,
    ssl_keyfile: Annotated[Path | None, option("Private key of the certificate.")] = None,
) -> None:
    """Serve the OpenAI audio API.

    By default only this machine can reach the server. AURIS_API_KEYS names a file with the keys
    that callers may use, one a line. SIGTERM ends the server when the calls in progress are done.
    """
    _require_extra()
    from auris.server.run import Listening, run
    from auris.server.settings import Settings, is_loopback, read_keys

    if threads is None and workers > 1:  # The processes share the processors.
        threads = max(1, (os.cpu_count() or 1) // workers)
    settings = Settings(
        models=tuple(model or ()),
        aliases=tuple(alias or ()),
        device=device,
        dtype=dtype,
        threads=threads,
        aligner=aligner,
        batch_size=batch_size,
        chunk_seconds=chunk_seconds,
        keys=read_keys(api_key or [], os.environ.get("AURIS_API_KEYS")),
        most_upload_bytes=max_upload_mb << 20,
        most_audio_seconds=max_audio_seconds,
        most_sample_rate=max_sample_rate,
        most_seconds_in_flight=max_seconds_in_flight,
        most_jobs=max_jobs,
        keep_jobs_seconds=keep_jobs_days * 86_400,
        page=page,
        most_realtime_sessions=max_realtime_sessions,
        most_idle_seconds=realtime_idle_seconds,
        urls=allow_urls,
        origins=tuple(cors_origin or ()),
        state_dir=str(state_dir or ""),
        public=not is_loopback(host),
    )
    listening = Listening(host, port, workers, stop_seconds, log_format, ssl_certfile, ssl_keyfile)
    run(settings, listening)


def _require_extra() -> None:
    try:
        for name in PACKAGES:
            import_module(name)
    except ImportError as error:
        raise MissingExtra(
            "auris serve needs fastapi, pydantic, uvicorn, websockets, python-multipart and "
            "prometheus-client",
            f"{error.name} is not installed",
            "run pip install 'auris-asr[serve]'",
        ) from None
