"""Where transcripts go: standard output or files, in one format or several."""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from auris.cli.interrupt import INTERRUPTED
from auris.cli.progress import ProgressLine, clock
from auris.errors import OutputError, UsageError

if TYPE_CHECKING:
    from auris.atomic import NewFile
    from auris.batching import Failure, PieceDone, Update
    from auris.cli.interrupt import Interrupt
    from auris.subtitles import CueStyle
    from auris.types import Segment, Transcript
    from auris.writers import SegmentWriter

__all__ = ["Output", "Results", "chosen_formats", "file_stem", "remarks", "shown"]

LINE_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Output:
    """A plan for the transcripts of some recordings.

    Attributes:
        sources: the recordings.
        formats: what each transcript is written in.
        stems: a file name for each recording, without suffix; None for standard output.
        directory: of those files.
        style: of cues.
    """

    sources: Sequence[str]
    formats: Sequence[str]
    stems: Sequence[str] | None
    directory: Path
    style: CueStyle

    @classmethod
    def planned(
        cls,
        sources: Sequence[str],
        formats: Sequence[str],
        directory: Path | None,
        max_line_width: int | None = None,
        max_line_count: int | None = None,
    ) -> Output:
        """Check what was asked, and make the directory.

        Raises:
            UsageError: the recordings, the formats and the place do not go together.
            OutputError: the place cannot be written.
        """
        if not sources:
            raise UsageError(
                "There has to be a recording to transcribe",
                "none was named",
                "name a FILE, or - for standard input",
            )
        chosen = chosen_formats(formats)
        style = _style(chosen, max_line_width, max_line_count)
        if directory is None:
            _fit_for_standard_output(sources, chosen)
            return cls(sources, chosen, None, Path(), style)
        stems = _stems(sources)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(f"{str(directory)!r} cannot be made ({error.strerror})") from None
        return cls(sources, chosen, stems, directory, style)

    def place(self, number: int, form: str, line: ProgressLine) -> Place:
        """Where one format of a recording goes.

        Raises:
            OutputError: it cannot be written.
        """
        if self.stems is None:
            return _StandardOutput(line)
        # Not with_suffix: a stem may itself contain a point.
        return _FileInDirectory(self.directory / f"{self.stems[number]}.{form}")


class Results:
    """Results of a run on their way to where an `Output` has them.

    The segments of a single recording are written as they come, those of several recordings when
    the recording is done, in the order of the recordings.

    Args:
        output: the plan.
        line: shows the progress, and writes to the standard streams.
        interrupt: says whether the user has ended the run.
        debug: whether to show where an error comes from.
    """

    def __init__(
        self, output: Output, line: ProgressLine, interrupt: Interrupt, debug: bool = False
    ) -> None:
        self._output = output
        self._line = line
        self._interrupt = interrupt
        self._debug = debug
        self._single = _Single(output, line) if len(output.sources) == 1 else None
        self._written = 0
        self.code = 0

    def take(self, updates: Iterator[Update]) -> None:
        """Write results until there are no more, or the user has had enough."""
        from auris.batching import PieceDone

        waiting: dict[int, Transcript | Failure] = {}
        for update in updates:
            if isinstance(update, PieceDone):
                if self._single is not None:
                    self._single.take(update)
                continue
            waiting[update.recording] = update.result
            while self._written in waiting and not self._interrupt.is_set():
                self._finish(self._written, waiting.pop(self._written))
                self._written += 1

    def close(self) -> int:
        """Say what is left undone.

        Returns:
            the exit code.
        """
        unfinished = len(self._output.sources) - self._written
        if not self._interrupt.is_set() or not unfinished:
            return self.code
        if self._single is not None:
            self._line.note(f"interrupted: {self._single.keep()}")
        else:
            files = len(self._output.sources)
            self._line.note(f"interrupted: {self._written} of {files} recordings are written")
        return INTERRUPTED

    def _finish(self, number: int, result: Transcript | Failure) -> None:
        from auris.batching import Failure

        name = shown(self._output.sources[number])
        if isinstance(result, Failure):
            if self._debug:
                traceback.print_exception(result.error)
            self._line.note(f"{name}: {result.error}")
            self.code = max(self.code, result.error.exit_code)
            if self._single is not None and self._single.begun:
                self._line.note(f"{name}: {self._single.keep()}")
            return
        if self._single is not None:
            self._single.end()
        for form in self._output.formats:
            try:
                self._write(result, number, form)
            except OutputError as error:
                self.code = 1
                self._line.note(f"{name}: {error.sentence}")
        for remark in remarks(result):
            self._line.note(f"{name}: {remark}")
        if result.silent:
            self.code = max(self.code, 1)

    def _write(self, result: Transcript, number: int, form: str) -> None:
        from auris.writers import WRITERS

        if self._single is not None and form in self._single.forms:
            self._single.commit(form)
            return
        source = self._output.sources[number]
        content = WRITERS[form](result, titled(source), self._output.style)
        if self._output.stems is None and form == "txt" and len(self._output.sources) > 1:
            lines = content.removesuffix("\n").split("\n")
            content = "".join(f"{shown(source)}: {line}\n" for line in lines)
        place = self._output.place(number, form, self._line)
        place.write(content)
        place.commit()


class _Single:
    """The formats of a single recording that are written segment by segment.

    A format that cannot be written fails by itself, when the recording is done.
    """

    def __init__(self, output: Output, line: ProgressLine) -> None:
        from auris.writers import SEGMENT_WRITERS

        self.forms = [form for form in output.formats if form in SEGMENT_WRITERS]
        self.begun = False
        self._output, self._line = output, line
        self._writers: dict[str, SegmentWriter] = {
            form: SEGMENT_WRITERS[form](titled(output.sources[0]), output.style)
            for form in self.forms
        }
        self._places: dict[str, Place] = {}
        self._errors: dict[str, OutputError] = {}
        self._waiting: dict[int, Segment] = {}
        self._count = 0
        self._until = 0.0

    def take(self, update: PieceDone) -> None:
        """Write the segments that are next in time."""
        self._waiting[update.index] = update.segment
        while self._count in self._waiting:
            segment = self._waiting.pop(self._count)
            self._count += 1
            self._until = max(self._until, segment.end)
            for form in self.forms:
                self._add(form, self._writers[form].add(segment))

    def end(self) -> None:
        """Write what stands behind the last segment."""
        for form in self.forms:
            self._add(form, self._writers[form].end())

    def commit(self, form: str) -> None:
        """Give the file of a format its name.

        Raises:
            OutputError: it could not be written.
        """
        if form in self._errors:
            raise self._errors[form]
        self._places[form].commit()

    def keep(self) -> str:
        """Keep what was written of a recording that is not complete, and say what that is."""
        if not self.begun:
            return "nothing is written"
        self.end()
        places = [place.keep() for place in self._places.values()]
        found = ", ".join(place for place in places if place is not None)
        kept = f"the text of the first {clock(self._until)} is written"
        return f"{kept} to {found}" if found else kept

    def _add(self, form: str, text: str) -> None:
        if form in self._errors:
            return
        try:
            if form not in self._places:
                self._places[form] = self._output.place(0, form, self._line)
            self._places[form].write(text)
            self.begun = True
        except OutputError as error:
            self._errors[form] = error
            self._places.pop(form, None)


class Place(Protocol):
    """Where the text of one format goes."""

    def write(self, text: str) -> None:
        """Add text.

        Raises:
            OutputError: it cannot be written, and nothing of it stays in a file.
        """

    def commit(self) -> None:
        """The text is complete.

        Raises:
            OutputError: it cannot have its name.
        """

    def keep(self) -> str | None:
        """The text stays incomplete; says where it is, unless the user has seen it."""


class _StandardOutput:
    """Standard output, as it comes."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line

    def write(self, text: str) -> None:
        try:
            self._line.write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                "Standard output has to be written",
                f"that failed ({error.strerror or error})",
                "make room where it goes, or name an --output-dir",
            ) from None

    def commit(self) -> None:
        pass

    def keep(self) -> str | None:
        return None


class _FileInDirectory:
    """A file that takes the place of an older one when it is complete."""

    def __init__(self, target: Path) -> None:
        from auris.atomic import NewFile

        self._target = target
        try:
            self._file: NewFile = NewFile(target)
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, text: str) -> None:
        try:
            self._file.write(text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            self._file.discard()
            raise self._unwritable(error) from None

    def commit(self) -> None:
        try:
            self._file.commit()
        except OSError as error:
            self._file.discard()
            raise self._unwritable(error) from None

    def keep(self) -> str | None:
        try:
            return repr(str(self._file.keep()))
        except OSError:
            return None

    def _unwritable(self, error: OSError) -> OutputError:
        return _unwritable(f"{str(self._target)!r} cannot be ({error.strerror or error})")


def chosen_formats(asked: Iterable[str]) -> list[str]:
    """The formats that are asked, each once; "all" is every one."""
    from auris.writers import WRITERS

    chosen: dict[str, None] = {}
    for name in (name.strip() for names in asked for name in names.split(",")):
        if name != "all" and name not in WRITERS:
            raise UsageError(
                f"The output format has to be {', '.join(WRITERS)} or all",
                f"{name!r} was asked",
                "choose one with -f, or several apart by commas",
            )
        chosen |= dict.fromkeys(WRITERS if name == "all" else [name])
    return list(chosen)


def _style(formats: Iterable[str], width: int | None, count: int | None) -> CueStyle:
    from auris.subtitles import CueStyle
    from auris.writers import CUE_FORMATS

    given = {"max_line_width": width, "max_line_count": count}
    sizes = {name: value for name, value in given.items() if value is not None}
    fitting = CUE_FORMATS if count is None else CUE_FORMATS - {"lrc"}
    if sizes and not fitting & set(formats):
        raise UsageError(
            f"{' and '.join('--' + name.replace('_', '-') for name in sizes)} belong to "
            f"{', '.join(sorted(fitting))}",
            f"the format is {', '.join(formats)}",
            "choose such a format with -f, or leave them out",
        )
    return CueStyle(**sizes)


def _fit_for_standard_output(sources: Sequence[str], formats: Sequence[str]) -> None:
    from auris.writers import WHOLE_FILES

    if sys.stdout is None:
        raise OutputError(
            "Standard output has to be open to be written", "it is closed", "name an --output-dir"
        )
    if len(formats) > 1:
        raise UsageError(
            "Standard output has to be in one format",
            f"{', '.join(formats)} were asked",
            "name an --output-dir, or choose one with -f",
        )
    if len(sources) > 1 and formats[0] in WHOLE_FILES:
        raise UsageError(
            f"Standard output can hold the {formats[0]} of one recording",
            f"there are {len(sources)}",
            "name an --output-dir, or transcribe them in separate calls",
        )


def _stems(sources: Sequence[str]) -> list[str]:
    stems = [file_stem(name) for name in sources]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise UsageError(
            "With --output-dir every recording has to have a name of its own",
            f"there are several called {twice[0]!r}",
            "transcribe them in separate calls or rename them",
        )
    return stems


def file_stem(source: str) -> str:
    """What the files of a recording are called, without suffix."""
    from auris.audio.encoded import is_data_uri
    from auris.audio.remote import is_url

    if source == "-":
        return "stdin"
    if is_data_uri(source):
        return "data"
    if is_url(source):
        address = urlsplit(source)
        return LINE_BREAKING.sub("_", Path(unquote(address.path)).stem) or address.netloc
    return Path(source).stem


def _unwritable(found: str) -> OutputError:
    return OutputError(
        "--output-dir has to be a directory that can be written", found, "name another"
    )


def remarks(result: Transcript) -> Iterator[str]:
    """What a reader of the text alone would not see."""
    if result.silent:
        yield (
            "A recording has to hold sound, but this one is silent throughout: "
            "check the microphone, the channel and the span."
        )
    elif result.finish_reason == "length":
        yield "the text is cut at the token budget; raise --max-new-tokens"
    elif result.finish_reason == "loop":
        yield "the model went on repeating itself, and repeats were left out"
    elif not result.text:
        yield "no speech was found"


def titled(source: str) -> str:
    """The source as results name it: of a data URI only what comes before the data."""
    from auris.audio.encoded import is_data_uri

    return source.partition(",")[0] if is_data_uri(source) else source


def shown(source: str) -> str:
    """A name that stays on its line: what would break it is written as in JSON."""
    name = titled(source)
    return LINE_BREAKING.sub(lambda found: json.dumps(found.group())[1:-1], name)
