"""`auris listen`: live speech to text."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auris.cli.options import (
    Context,
    Device,
    Dtype,
    Language,
    Languages,
    Model,
    Threads,
    listed,
)
from auris.errors import AudioError, EmptyAudio, UnreadableAudio, UsageError
from auris.types import SAMPLE_RATE

if TYPE_CHECKING:
    from types import FrameType

    from numpy.typing import NDArray

    from auris.streaming.session import StreamSession, StreamUpdate

READ_BYTES = 1 << 15
"""Most bytes of raw sound that are taken at once: a second at 16 kHz."""


FILE_MARKS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3", b"FORM", b"caff", b"RF64")
"""What common files of sound begin with."""


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(listen)


def listen(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[-]", help="- listens to standard input, not to a microphone."),
    ] = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = "auto",
    threads: Threads = None,
    device_in: Annotated[
        str | None,
        typer.Option(help="Number of the microphone, or a part of its name.", show_default=False),
    ] = None,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="List the microphones and stop.")
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option(
            help="Standard input is raw 16-bit mono of this rate, else a file of any format; "
            "or the rate of the microphone.",
            show_default=False,
        ),
    ] = None,
    language: Language = "auto",
    languages: Languages = None,
    context: Context = "",
    chunk_seconds: Annotated[
        float, typer.Option(help="Text is stable about this long after it was said.")
    ] = 3.0,
    step_seconds: Annotated[
        float, typer.Option(help="Seconds between looks at what was said last.")
    ] = 0.5,
    vad: Annotated[
        bool, typer.Option("--vad", help="Cut where nobody speaks and leave long silence out.")
    ] = False,
    output_format: Annotated[
        str, typer.Option("--output-format", "-f", help="txt or json.")
    ] = "txt",
) -> None:
    """Write down what is said while it is said. Ctrl-C ends it.

    Stable text goes to standard output, a line a piece. On a terminal, what was said last stands
    below it and still changes. With -f json every update is a line of JSON.
    """
    if output_format not in ("txt", "json"):
        raise UsageError(
            "The output format has to be txt or json",
            f"{output_format!r} was asked",
            "choose one with -f",
        )
    _check_source(source, device_in)
    if list_devices:
        _list()
        return
    from auris.pipeline import AsrPipeline

    pipeline = AsrPipeline.from_pretrained(model, device=device, dtype=dtype, threads=threads)

    def session(at: int) -> StreamSession:
        return pipeline.stream(
            language,
            context,
            languages=listed(languages),
            rate=at,
            chunk_seconds=chunk_seconds,
            step_seconds=step_seconds,
            vad=vad,
        )

    show = _json if output_format == "json" else _Lines(sys.stdout.isatty()).show
    if source is None:
        _microphone(session, show, device_in, rate)
        return
    with session(SAMPLE_RATE if rate is None else rate) as stream:
        _follow(stream, _file() if rate is None else _raw(), show)


def _list() -> None:
    from auris.audio.microphone import microphones

    for found in microphones():
        typer.echo(f"{found.index}\t{found.name}\t{found.rate} Hz{'*' * found.usual}")


def _check_source(source: str | None, device_in: str | None) -> None:
    if source not in (None, "-"):
        raise UsageError(
            "auris listen hears a microphone, or - for standard input",
            f"{source!r} was given",
            "use auris transcribe for files",
        )
    if source is not None and device_in is not None:
        raise UsageError(
            "--device-in chooses a microphone",
            "standard input is listened to",
            "leave one of them out",
        )


def _microphone(
    session: Callable[[int], StreamSession],
    show: Callable[[StreamUpdate], None],
    wanted: str | None,
    rate: int | None,
) -> None:
    from auris.audio.microphone import listening

    with listening(wanted, rate) as sound, session(sound.rate) as stream:
        if sys.stderr.isatty():
            sys.stderr.write("Listening; Ctrl-C ends it.\n")
        _follow(stream, iter(sound), show, sound.rest)


def _follow(
    stream: StreamSession,
    blocks: Iterator[NDArray[Any]],
    show: Callable[[StreamUpdate], None],
    rest: Callable[[], Iterable[NDArray[Any]]] = tuple,
) -> None:
    """Feed a stream until its source ends, fails or is interrupted; what was heard is shown.

    Args:
        rest: what was heard by then and not given by `blocks`.
    """
    failure: Exception | None = None
    with _interruptible() as waiting:
        try:
            while not waiting.over and (block := waiting.take(blocks)) is not None:
                for update in stream.feed(block):
                    show(update)
        except KeyboardInterrupt:
            pass
        except Exception as error:  # The rest is still to be shown.
            failure = error
    for block in rest():
        for update in stream.feed(block):
            show(update)
    for update in stream.finish():
        show(update)
    if failure is not None:
        raise failure


class _Waiting:
    """Ctrl-C stops the waiting for sound at once, but the work on it only when it is done."""

    def __init__(self) -> None:
        self.over = False
        self._waits = False

    def take(self, blocks: Iterator[NDArray[Any]]) -> NDArray[Any] | None:
        self._waits = True
        try:
            return next(blocks, None)
        finally:
            self._waits = False

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.over = True
        if self._waits:
            raise KeyboardInterrupt


@contextmanager
def _interruptible() -> Iterator[_Waiting]:
    waiting = _Waiting()
    before = signal.signal(signal.SIGINT, waiting.interrupt)
    try:
        yield waiting
    finally:
        signal.signal(signal.SIGINT, before)


def _raw() -> Iterator[NDArray[Any]]:
    """Raw 16-bit samples from standard input as they come.

    Raises:
        EmptyAudio: there is not one.
        UsageError: it is a file.
    """
    import numpy as np

    source: Any = getattr(sys.stdin, "buffer", sys.stdin)
    rest = b""
    began = False
    while data := source.read1(READ_BYTES):
        data = rest + data
        if not began:
            _check_raw(data)
        began = began or len(data) > 1
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2")
    if not began:
        raise EmptyAudio(
            "Standard input has to hold sound",
            "it ended before the first sample",
            "check the program that writes to it",
        )
    if rest:
        sys.stderr.write("auris: standard input ends with half a sample, which is left out\n")


def _check_raw(data: bytes) -> None:
    """Refuse the beginning of a file where raw samples are expected."""
    if data.startswith(FILE_MARKS):
        raise UsageError(
            "With --rate standard input is raw 16-bit mono",
            f"it begins with {data[:4]!r}, as a file does",
            "leave --rate out, and the file is decoded",
        )


def _file() -> Iterator[NDArray[Any]]:
    """Samples at 16 kHz of a file of any format from standard input, as they are decoded.

    Raises:
        AudioError: it is none, or it breaks off.
    """
    from auris.audio.io import stream

    began = False
    try:
        for block in stream("-"):
            began = True
            yield block[0]
    except AudioError as error:
        if began or not isinstance(error, UnreadableAudio):
            raise error.without_span() from error
        remedy = f"{error.remedy}, or give --rate where it is raw 16-bit mono"
        raise UnreadableAudio(error.rule, error.found, remedy) from error


def _json(update: StreamUpdate) -> None:
    sys.stdout.write(json.dumps(update.to_dict(), ensure_ascii=False) + "\n")
    sys.stdout.flush()


class _Lines:
    """Stable text a line a piece; on a terminal what still changes stands below."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal

    def show(self, update: StreamUpdate) -> None:
        """Write one update."""
        text = " ".join(update.segment.text.split())
        line = text + "\n" if update.final and text else ""
        if self._terminal:
            line = "\r\x1b[K" + line + ("" if update.final else _last_columns(text))
        sys.stdout.write(line)
        sys.stdout.flush()


def _last_columns(text: str) -> str:
    """As much of the end of a text as fits into a line of the terminal."""
    import shutil

    from rich.cells import cell_len

    most = shutil.get_terminal_size().columns - 1
    while cell_len(text) > most:
        text = text[1:]
    return text
