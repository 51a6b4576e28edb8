"""`auris listen`: live speech to text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auris.cli.declare import SPEAKERS, option
from auris.cli.interrupt import interruptible
from auris.cli.options import (
    BeamSize,
    Context,
    HotwordList,
    Language,
    Languages,
    Lm,
    ModelOptions,
    OutputFormat,
    VadModel,
)
from auris.cli.output import check_open_output
from auris.cli.speakers import VoiceOptions
from auris.cli.values import listed, read_hotwords
from auris.errors import AudioError, EmptyAudio, UnreadableAudio, UsageError
from auris.types import SAMPLE_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from auris.streaming.session import StreamSession, StreamUpdate

READ_BYTES = 1 << 15
"""Maximum number of bytes of raw samples that are read at once: a second at 16 kHz."""

CORRECTED = "The speakers, as they are known at the end:"
"""Heading of the text that is written again."""

FILE_MARKS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3", b"FORM", b"caff", b"RF64")
"""The first bytes of common audio files."""


def listen(
    model: ModelOptions,
    voices: VoiceOptions,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[-]", help="- reads standard input instead of a microphone."),
    ] = None,
    device_in: Annotated[
        str | None,
        option(
            "Number of the microphone, or a part of its name.", default="the system's microphone"
        ),
    ] = None,
    list_devices: Annotated[
        bool, option("List the microphones and stop.", "--list-devices")
    ] = False,
    rate: Annotated[
        int | None,
        option(
            "Sampling rate of the microphone. With -, standard input is raw 16-bit mono of "
            "this rate, instead of a file of any format.",
            default=False,
        ),
    ] = None,
    lm: Lm = "auto",
    language: Language = "auto",
    languages: Languages = None,
    context: Context = "",
    chunk_seconds: Annotated[
        float | None,
        option(
            "Target length of chunks, which end earlier at pauses. Text is final when its chunk is "
            "over.",
            default="8, or the model's own if that is shorter",
        ),
    ] = None,
    step_seconds: Annotated[float, option("Seconds between updates of the partial text.")] = 0.5,
    settle_seconds: Annotated[
        float,
        option(
            "How long a word has to be the same in partial text before it settles, so that it is "
            "never taken back; 0 settles words when their chunk is over."
        ),
    ] = 1.0,
    vad: Annotated[
        bool, option("Cut where nobody speaks, and leave long silence out.", "--vad")
    ] = False,
    vad_model: VadModel = "auto",
    beam_size: BeamSize = None,
    hotwords: HotwordList = None,
    speakers: Annotated[
        str | None,
        option(
            "Number of speakers, with --diarize, or their names in the order in which they begin "
            "to speak.",
            default="any",
            group=SPEAKERS,
        ),
    ] = None,
    output_format: OutputFormat = "txt",
) -> None:
    """Transcribe live speech. Ctrl-C ends it.

    Final text is written to standard output, one line for each chunk. On a terminal, the line
    below it shows the text of the open chunk: settled words, and in grey partial text, which may
    still change. With -f json every update is a line of JSON. With --diarize, lines begin with the
    speaker. Who that is may be known better at the end: the text is then written again.
    """
    check_open_output()
    _check_source(source, device_in)
    voices.check_voices()
    if speakers is not None and not voices.diarize:
        raise UsageError(
            "--speakers can be used with --diarize", "that option is not given", "add --diarize"
        )
    if list_devices:
        _show_microphones()
        return
    pipeline = model.pipeline(lm=lm, beam_size=beam_size)
    diarizer = voices.diarizer()

    def session(samples_per_second: int) -> StreamSession:
        return pipeline.stream(
            language,
            context,
            languages=listed(languages),
            rate=samples_per_second,
            chunk_seconds=chunk_seconds,
            step_seconds=step_seconds,
            settle_seconds=settle_seconds,
            vad=vad,
            vad_model=vad_model,
            beam_size=beam_size,
            hotwords=read_hotwords(hotwords),
            diarize=diarizer,
            speakers=voices.number_or_names(speakers),
            min_speakers=voices.min_speakers,
            max_speakers=voices.max_speakers,
        )

    output = UpdateWriter(output_format == "json", voices.diarize)
    if source is None:
        from auris.audio.microphone import listening

        with listening(device_in, rate) as sound, session(sound.rate) as stream:
            if sys.stderr.isatty():
                sys.stderr.write("Listening; Ctrl-C ends it.\n")
            _transcribe(stream, iter(sound), output, sound.rest)
    else:
        with session(SAMPLE_RATE if rate is None else rate) as stream:
            _transcribe(stream, _file() if rate is None else _raw(), output)


def _check_source(source: str | None, device_in: str | None) -> None:
    if source not in (None, "-"):
        raise UsageError(
            "auris listen takes - for standard input, or no argument for the microphone",
            f"{source!r} was given",
            "use auris transcribe for files",
        )
    if source is not None and device_in is not None:
        raise UsageError(
            "--device-in chooses a microphone",
            "- chooses standard input",
            "leave one of them out",
        )


def _show_microphones() -> None:
    from auris.audio.microphone import microphones

    for microphone in microphones():
        mark = "*" * microphone.usual
        typer.echo(f"{microphone.index}\t{microphone.name}\t{microphone.rate} Hz{mark}")


def _transcribe(
    stream: StreamSession,
    blocks: Iterator[NDArray[Any]],
    output: UpdateWriter,
    rest: Callable[[], Iterable[NDArray[Any]]] = tuple,
) -> None:
    """Feed a stream until its source ends, fails or is interrupted, and show its updates.

    Args:
        rest: blocks that were recorded by the end and not given by `blocks`.
    """

    def feed(block: NDArray[Any]) -> None:
        for update in stream.feed(block):
            output.show(update)

    failure: Exception | None = None
    with interruptible() as interrupt:
        try:
            while not interrupt.is_set():
                interrupt.raises = True  # Ctrl-C ends waiting for a block, but not its processing.
                block = next(blocks, None)
                interrupt.raises = False
                if block is None:
                    break
                feed(block)
        except Exception as error:  # Of any kind: it is raised again once the text is shown.
            failure = error
        interrupt.raises = False
    for block in rest():
        feed(block)
    for update in stream.finish():
        output.show(update)
    output.end(stream)
    if failure is not None:
        raise failure


def _raw() -> Iterator[NDArray[Any]]:
    """Raw 16-bit samples from standard input as they come."""
    import numpy as np

    from auris.audio.reader import standard_input

    stdin: Any = standard_input()
    half = b""
    began = False
    while data := stdin.read1(READ_BYTES):
        data = half + data
        if not began and data.startswith(FILE_MARKS):
            raise UsageError(
                "With --rate standard input is raw 16-bit mono",
                f"it begins with {data[:4]!r}, as a file does",
                "leave --rate out, and the file is decoded",
            )
        began = began or len(data) > 1
        even = len(data) // 2 * 2
        half = data[even:]
        yield np.frombuffer(data[:even], "<i2")
    if not began:
        rule = "Standard input ended before the first sample"
        raise EmptyAudio(rule, "", "check the program that writes to it")
    if half:
        sys.stderr.write("auris: standard input ends with half a sample, which is left out\n")


def _file() -> Iterator[NDArray[Any]]:
    """Samples at 16 kHz of a file of any format from standard input, as they are decoded."""
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
        raise UnreadableAudio(error.rule, error.actual, remedy) from error


class UpdateWriter:
    """Writes the updates of a stream, and after its end the speakers as they are known then."""

    def __init__(self, in_json: bool, diarized: bool) -> None:
        self._json, self._diarized = in_json, diarized
        self._written: list[tuple[str | None, str]] = []

    def show(self, update: StreamUpdate) -> None:
        """Write an update."""
        if update.final:
            self._written += [(part.speaker, part.text) for part in update.speakers or ()]
        if self._json:
            _write_json(update.to_dict())
        else:
            write_text(update, terminal=sys.stdout.isatty())

    def end(self, stream: StreamSession) -> None:
        """Write the transcript with speakers; as text only if it differs from what was written."""
        if not self._diarized:
            return
        transcript = stream.transcript()
        if self._json:
            _write_json({"transcript": transcript.to_dict()})
            return
        parts = [part for part in transcript.segments if part.text.strip()]
        if [(part.speaker, part.text) for part in parts] == self._written:
            return
        from auris.output.formats import WRITERS

        sys.stdout.write(f"\n{CORRECTED}\n{WRITERS['txt'](transcript, '').rstrip()}\n")
        sys.stdout.flush()


def _write_json(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def write_text(update: StreamUpdate, terminal: bool) -> None:
    """Write final text, a line for each chunk or speaker; on a terminal the text of the open chunk
    in the line below, partial text in grey."""
    texts = [update.segment.text]
    if update.speakers is not None:
        names = [f"{part.speaker}: " if part.speaker else "" for part in update.speakers]
        texts = [name + part.text for name, part in zip(names, update.speakers, strict=True)]
    lines = [" ".join(text.split()) + "\n" for text in texts if update.final and text]
    line = "".join(lines)
    if terminal:
        line = f"\r\x1b[K{line}{'' if update.final else _open_line(update)}"
    sys.stdout.write(line)
    sys.stdout.flush()


def _open_line(update: StreamUpdate) -> str:
    """The end of the text of an open chunk."""
    shown = _last_columns(" ".join((update.settled + update.partial).split()))
    partial = min(len(" ".join(update.partial.split())), len(shown))
    settled = shown[: len(shown) - partial]
    return f"{settled}\x1b[90m{shown[len(settled) :]}\x1b[0m" if partial else settled


def _last_columns(text: str) -> str:
    """The end of a text, as much as fits into a line of the terminal."""
    import shutil

    from rich.cells import cell_len

    most = shutil.get_terminal_size().columns - 1
    while cell_len(text) > most:
        text = text[1:]
    return text
