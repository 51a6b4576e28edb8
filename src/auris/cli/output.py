"""Where transcripts go: standard output or files, in one format or several."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from auris.cli.places import FileInDirectory, Place, StandardOutput, unwritable
from auris.cli.progress import ProgressLine
from auris.errors import OutputError, UsageError

if TYPE_CHECKING:
    from auris.output.subtitles import CueStyle

__all__ = ["Output", "chosen_formats", "cue_style", "file_stem", "shown", "titled"]

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
        style = cue_style(chosen, max_line_width, max_line_count)
        if directory is None:
            _fit_for_standard_output(sources, chosen)
            return cls(sources, chosen, None, Path(), style)
        stems = _stems(sources)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(f"{str(directory)!r} cannot be made ({error.strerror})") from None
        return cls(sources, chosen, stems, directory, style)

    def place(self, number: int, form: str, line: ProgressLine) -> Place:
        """Where one format of a recording goes.

        Raises:
            OutputError: it cannot be written.
        """
        if self.stems is None:
            return StandardOutput(line)
        # Not with_suffix: a stem may itself contain a point.
        return FileInDirectory(self.directory / f"{self.stems[number]}.{form}")


def chosen_formats(asked: Iterable[str]) -> list[str]:
    """The formats that are asked, each once; "all" is every one."""
    from auris.output.formats import WRITERS

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


def cue_style(formats: Iterable[str], width: int | None, count: int | None) -> CueStyle:
    """The style of cues that is asked for.

    Raises:
        UsageError: it is impossible, or none of the formats has cues.
    """
    from auris.output.formats import CUE_FORMATS
    from auris.output.subtitles import CueStyle

    given = {"max_line_width": width, "max_line_count": count}
    sizes = {name: value for name, value in given.items() if value is not None}
    fitting = CUE_FORMATS if count is None else CUE_FORMATS - {"lrc"}
    if sizes and not fitting & set(formats):
        raise UsageError(
            f"{' and '.join('--' + name.replace('_', '-') for name in sizes)} belong to "
            f"{', '.join(sorted(fitting))}",
            f"the format is {', '.join(formats) or 'not chosen'}",
            "choose such a format with -f, or leave them out",
        )
    return CueStyle(**sizes)


def _fit_for_standard_output(sources: Sequence[str], formats: Sequence[str]) -> None:
    from auris.output.formats import WHOLE_FILES

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


def titled(source: str) -> str:
    """The source as results name it: of a data URI only what comes before the data."""
    from auris.audio.encoded import is_data_uri

    return source.partition(",")[0] if is_data_uri(source) else source


def shown(source: str) -> str:
    """A name that stays on its line: what would break it is written as in JSON."""
    name = titled(source)
    return LINE_BREAKING.sub(lambda found: json.dumps(found.group())[1:-1], name)
