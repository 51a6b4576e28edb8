"""The settings of a server. Worker processes get them, too."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from auris.errors import UsageError

SHORTEST_KEY = 16
"""Minimum length of a key: shorter ones can be guessed."""


LIMITS = {
    "batch_size": "--batch-size",
    "most_upload_bytes": "--max-upload-mb",
    "most_audio_seconds": "--max-audio-seconds",
    "most_sample_rate": "--max-sample-rate",
    "most_channels": None,
    "most_spooled_bytes": None,
    "most_seconds_in_flight": "--max-seconds-in-flight",
    "most_jobs": "--max-jobs",
    "keep_jobs_seconds": "--keep-jobs-days",
    "most_realtime_sessions": "--max-realtime-sessions",
    "most_idle_seconds": "--realtime-idle-seconds",
}
"""Settings that are numbers above 0, and the options of `auris serve` that give them."""

ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
"""The origin of a page as browsers send it, or * for all of them."""

BOUND = 1e15
"""Upper bound of such numbers."""


@dataclass(frozen=True)
class Settings:
    """How a server is set up: the options of `auris serve`, whose help has more about each.

    Attributes:
        models: directories, bundled models or hub ids; none for the default.
        adapters: names and directories of adapters; each is served as a model of its name, over the
            weights of the first model.
        keys: callers have to send one of them; if there are none, every program on this machine
            may call.
        lm: language model for all models, see `AsrPipeline`.
        beam_size, hotwords: those of requests that name none.
        speaker_model: of voices, see `auris.Diarizer`; the default is loaded when it is needed.
        most_spooled_bytes: uploads and samples that a process stores at once.
        most_prompt_letters: length of the longest prompt, keywords included.
        vad_model: the detector of speech, of `auris.audio.activity.VAD_MODELS`.
        jobs: whether long recordings are taken as jobs.
        urls: whether recordings are fetched from the public web.
        origins: web pages of other origins that may call ("*": all).
        stop_seconds: what calls in progress get to finish when the server stops.
        traces: whether requests are traced by OpenTelemetry.
        certificate, key: files for https.
    """

    models: tuple[str, ...] = ()
    adapters: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    device: str | None = None
    dtype: str = "auto"
    threads: int | None = None
    lm: str = "auto"
    beam_size: int | None = None
    hotwords: tuple[str, ...] = ()
    aligner: str | None = None
    speaker_model: str | None = None
    batch_size: int = 16
    chunk_seconds: float | None = None
    keys: tuple[str, ...] = ()
    most_upload_bytes: int = 256 << 20
    most_spooled_bytes: int = 4 << 30
    most_audio_seconds: float = 4 * 3600.0
    most_sample_rate: int = 192_000
    most_channels: int = 8
    most_seconds_in_flight: float = 3600.0
    most_jobs: int = 100
    keep_jobs_seconds: float = 7 * 86_400.0
    most_prompt_letters: int = 4096
    page: bool = True
    jobs: bool = True
    most_realtime_sessions: int = 32
    most_idle_seconds: float = 300.0
    vad_model: str = "auto"
    urls: bool = False
    origins: tuple[str, ...] = ()
    state_dir: str | Path | None = None
    stop_seconds: int = 30
    log_format: str = "text"
    traces: bool = False
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        for name, option in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not 0 < value < BOUND:
                raise UsageError(
                    f"{f'{option} ({name})' if option else name} has to be a number above 0 and "
                    f"below {BOUND:g}",
                    f"it is {value}",
                    "correct it",
                )
        if self.chunk_seconds is not None:
            from auris.recognition.chunker import AudioChunker  # Worker processes need it later.

            AudioChunker(self.chunk_seconds)  # It refuses what is out of range.
        for alias in self.aliases:
            if not alias or not alias.isprintable() or "=" in alias or " " in alias:
                raise UsageError(
                    "--alias has to be a name, which then means the first model",
                    f"it is {alias!r}",
                    "write only the name that programs ask for, such as whisper-1",
                )
        for origin in self.origins:
            if not ORIGIN.fullmatch(origin):
                raise UsageError(
                    "--cors-origin has to be * or an origin: a scheme, a host and maybe a port",
                    f"it is {origin!r}",
                    "write it as browsers do, such as https://page.example",
                )
        if any(len(key) < SHORTEST_KEY for key in self.keys):
            raise UsageError(
                f"A key has to have {SHORTEST_KEY} characters or more",
                "one is shorter",
                "make keys with: openssl rand -hex 24",
            )
        if not self.keys and not is_loopback(self.host):
            raise UsageError(
                "A server that other machines can reach needs keys",
                "there is none",
                "name a file of keys in AURIS_API_KEYS, or leave --host out",
            )
        if (self.certificate is None) != (self.key is None):
            raise UsageError(
                "https needs a certificate and its key", "one is missing", "give both or neither"
            )


def read_keys(given: Sequence[str], file: str | None) -> tuple[str, ...]:
    """Keys from the command line and from a file with one key a line; # begins a comment."""
    keys = list(given)
    if file:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                "AURIS_API_KEYS has to name a text file with a key a line",
                f"it cannot be read ({error})",
                "correct the path",
            ) from None
        keys += [line for line in map(str.strip, lines) if line and not line.startswith("#")]
        if not keys:
            raise UsageError("The file of AURIS_API_KEYS holds no keys", "", "add one")
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise UsageError(
            "Keys may contain only ASCII letters, digits and signs, without spaces",
            "one is not",
            "make keys with: openssl rand -hex 24",
        )
    return tuple(dict.fromkeys(keys))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def default_state_dir() -> Path:
    """The folder of the state of programs on this system."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "auris"
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local/state") / "auris"
