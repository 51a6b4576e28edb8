"""Where transcripts go: standard output or files, in one format or several."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from auris.cli.progress import ProgressLine
from auris.errors import OutputError, UsageError

if TYPE_CHECKING:
    from auris.cli.options import CueOptions
    from auris.output.subtitles import CueStyle


LINE_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Destination:
    """Where the text of one format goes.

    Args:
        line: writes to standard output.
        target: a file that appears, and replaces an older one, when it is complete; None for
            standard output.

    Raises:
        OutputError: here and in the methods: the text cannot be written. A file is then removed.
    """

    def __init__(self, line: ProgressLine, target: Path | None) -> None:
        from auris.checkpoints.atomic import NewFile

        self._line, self._target = line, target
        self._file: NewFile | None = None
        if target is not None:
            with self._output_errors():
                self._file = NewFile(target)

    def write(self, text: str) -> None:
        """Add text, at once."""
        with self._output_errors():
            if self._file is None:
                self._line.write(text)
            else:
                self._file.write(text.encode("utf-8", "backslashreplace"))

    def commit(self) -> None:
        """Give a file its name: the text is complete."""
        if self._file is not None:
            with self._output_errors():
                self._file.commit()

    def discard(self) -> None:
        """Remove an incomplete file."""
        if self._file is not None:
            self._file.discard()

    def leave_partial(self) -> str | None:
        """Rename an incomplete file; returns its new name, or None without a file."""
        try:
            return None if self._file is None else repr(str(self._file.keep()))
        except OSError:
            return None

    @contextmanager
    def _output_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            self.discard()
            reason = error.strerror or str(error)
            if self._target is not None:
                raise _unwritable(f"{str(self._target)!r} cannot be written ({reason})") from None
            raise OutputError(
                f"Writing to standard output failed ({reason})",
                "",
                "make room where it goes, or name an --output-dir",
            ) from None


def _unwritable(problem: str) -> OutputError:
    return OutputError(
        "--output-dir has to be a writable directory",
        problem,
        "name another, or make room; files that are complete stay",
    )


@dataclass(frozen=True)
class Output:
    """Where the transcripts of some recordings go.

    Attributes:
        formats: each transcript is written in all of these.
        stems: the file name, without suffix, of each recording; None for standard output.
        directory: the folder of those files.
        style: of cues.
    """

    sources: Sequence[str]
    formats: Sequence[str]
    stems: Mapping[str, str] | None
    directory: Path
    style: CueStyle

    @classmethod
    def planned(
        cls,
        sources: Sequence[str],
        formats: Sequence[str],
        directory: Path | None,
        cues: CueOptions,
    ) -> Output:
        """Check the options, and make the directory.

        Raises:
            UsageError: the recordings, the formats and the destination are incompatible.
            OutputError: the destination cannot be written.
        """
        sources, stems = recordings_of(sources)
        names = parse_formats(formats)
        style = cue_style(names, cues)
        if directory is None:
            _check_standard_output(sources, names)
            return cls(sources, names, None, Path(), style)
        stems = distinct_stems(sources, stems.__getitem__)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(f"{str(directory)!r} cannot be made ({error.strerror})") from None
        return cls(sources, names, stems, directory, style)

    def write(self, source: str, form: str, text: str, line: ProgressLine) -> None:
        """Write one format of a recording."""
        destination = self.open(source, form, line)
        try:
            destination.write(text)
            destination.commit()
        except BaseException:  # Also Ctrl-C: no incomplete file stays.
            destination.discard()
            raise

    def open(self, source: str, form: str, line: ProgressLine) -> Destination:
        """Where one format of a recording goes."""
        if self.stems is None:
            return Destination(line, None)
        # Not with_suffix: a stem may itself contain a point.
        return Destination(line, self.directory / f"{self.stems[source]}.{form}")


def parse_formats(values: Iterable[str]) -> list[str]:
    """The named formats, separated by commas, without repetitions; "all" names every format.

    Raises:
        UsageError: there is no such format.
    """
    from auris.output.formats import WRITERS

    formats: dict[str, None] = {}
    for name in (name.strip() for value in values for name in value.split(",")):
        if name != "all" and name not in WRITERS:
            raise UsageError(
                f"There is no output format {name!r}",
                f"there are {', '.join(WRITERS)} and all",
                "choose one with -f, or several separated by commas",
            )
        formats |= dict.fromkeys(WRITERS if name == "all" else [name])
    return list(formats)


def cue_style(formats: Iterable[str], cues: CueOptions) -> CueStyle:
    """The style of cues.

    Raises:
        UsageError: it is impossible, or none of the formats has cues.
    """
    from auris.output.formats import CUE_FORMATS
    from auris.output.subtitles import CueStyle

    sizes = {name: value for name, value in vars(cues).items() if value is not None}
    fitting = CUE_FORMATS if cues.max_line_count is None else CUE_FORMATS - {"lrc"}
    if sizes and not fitting & set(formats):
        raise UsageError(
            f"{' and '.join('--' + name.replace('_', '-') for name in sizes)} can be used with "
            f"{', '.join(sorted(fitting))}",
            f"the format is {', '.join(formats) or 'not chosen'}",
            "choose one of these formats with -f, or leave the options out",
        )
    return CueStyle(**sizes)


def check_open_output(remedy: str = "leave it open, or send it to a file") -> None:
    """Refuse a standard output that is closed."""
    if sys.stdout is None:
        raise OutputError("Standard output is closed", "", remedy)


def _check_standard_output(sources: Sequence[str], formats: Sequence[str]) -> None:
    from auris.output.formats import SINGLE_FILES

    check_open_output("name an --output-dir")
    if len(formats) > 1:
        raise UsageError(
            "Standard output can have one format",
            f"{', '.join(formats)} were given",
            "name an --output-dir, or choose one with -f",
        )
    if len(sources) > 1 and formats[0] in SINGLE_FILES:
        raise UsageError(
            f"Standard output can have the {formats[0]} of one recording",
            f"there are {len(sources)} recordings",
            "name an --output-dir, or transcribe them in separate calls",
        )


def recordings_of(sources: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The recordings that are named, those of a folder in its place, and the names of their files.

    The files of a folder's recordings lie in the same subfolders as the recordings.

    Raises:
        UsageError: there is none, or a folder cannot be read.
    """
    from auris.audio.listing import recordings_in

    stems: dict[str, str] = {}
    recordings: list[str] = []
    for source in sources:
        if not os.path.isdir(source):
            recordings.append(source)
            stems[source] = file_stem(source)
            continue
        names = recordings_in(Path(source)).names
        if not names:
            raise UsageError(f"{source!r} holds no recording", "", "name a file or another folder")
        paths = {str(Path(source, name)): relative_stem(name) for name in names}
        recordings += paths
        stems |= paths
    if not recordings:
        raise UsageError("No recording was named", "", "name a FILE, or - for standard input")
    return recordings, stems


def relative_stem(name: str) -> str:
    """The name of the files of a recording in a folder, with subfolders and without suffix."""
    return str(PurePosixPath(name).with_suffix(""))


def distinct_stems(sources: Iterable[str], stem_of: Callable[[str], str]) -> dict[str, str]:
    """The names of files, without suffix, by recording.

    Raises:
        UsageError: two recordings have the same.
    """
    recordings: dict[str, str] = {}
    for source in sources:
        stem = stem_of(source)
        if stem in recordings:
            raise UsageError(
                "With --output-dir the files of two recordings cannot have the same name",
                f"those of {recordings[stem]!r} and {source!r} have the same",
                "rename one, or transcribe them in separate runs",
            )
        recordings[stem] = source
    return {source: stem for stem, source in recordings.items()}


def file_stem(source: str) -> str:
    """The name of the files of a recording, without suffix."""
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


def source_name(source: str) -> str:
    """The source as results name it: of a data URI only what comes before the data."""
    from auris.audio.encoded import is_data_uri

    return source.partition(",")[0] if is_data_uri(source) else source


def display_name(source: str) -> str:
    """A name without line breaks: control characters are escaped as in JSON."""
    name = source_name(source)
    return LINE_BREAKING.sub(lambda match: json.dumps(match.group())[1:-1], name)
