"""`auris wyoming`: a server of the Wyoming protocol."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Literal

from auris.cli.declare import option
from auris.cli.options import (
    ChunkSeconds,
    Device,
    Dtype,
    Lm,
    ModelOptions,
    Models,
    Threads,
    VadModel,
    show_loading,
)
from auris.errors import MissingExtra


def wyoming(
    models: Models = None,
    uri: Annotated[
        str,
        option("Where to listen: tcp://HOST:PORT, with port 0 for a free one, or unix:///PATH."),
    ] = "tcp://127.0.0.1:10300",
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    lm: Lm = "auto",
    chunk_seconds: ChunkSeconds = None,
    vad_model: VadModel = "auto",
    streams: Annotated[
        int, option("Maximum transcriptions at a time; more are refused.", "--max-streams", min=1)
    ] = 16,
    audio_seconds: Annotated[
        float, option("Longest audio of a transcription.", "--max-audio-seconds")
    ] = 600.0,
    idle_seconds: Annotated[float, option("Longest time in which a client sends nothing.")] = 300.0,
    stop_seconds: Annotated[
        float, option("Time that transcriptions have to finish when the server stops.")
    ] = 10.0,
    log_format: Annotated[
        Literal["text", "json"], option("Lines of the log: text, or one JSON object each.")
    ] = "text",
) -> None:
    """Serve the Wyoming protocol of Home Assistant.

    The protocol has no keys and no encryption: give an address that other machines can reach only
    in a network whose machines you trust. SIGTERM or Ctrl-C ends the server.
    """
    if find_spec("wyoming") is None:
        raise MissingExtra(
            "auris wyoming needs the package wyoming",
            "it is not installed",
            "run pip install 'auris-asr[wyoming]'",
        )
    from auris.wyoming.server import Address, run
    from auris.wyoming.service import Limits, WyomingModel

    limits = Limits(streams, audio_seconds, idle_seconds, stop_seconds)
    address = Address(uri)
    show_loading(models)
    loaded = []
    for name in models or (None,):
        pipeline = ModelOptions(name, device=device, dtype=dtype, threads=threads).pipeline(lm=lm)
        loaded.append(WyomingModel.of(pipeline, streams, chunk_seconds, vad_model))
    run(loaded, limits, address, log_format)
