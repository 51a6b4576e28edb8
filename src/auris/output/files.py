"""Files of transcripts next to a results file: one for each recording and format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from auris.checkpoints.atomic import new_file
from auris.errors import OutputError, UsageError
from auris.output.formats import WRITERS
from auris.output.subtitles import CueStyle
from auris.types import Transcript


def names_in_folder(names: Iterable[str]) -> dict[str, str]:
    """Where the transcripts of a folder's recordings go: their own names, without the suffix."""
    return {name: str(PurePosixPath(name).with_suffix("")) for name in names}


class TranscriptFiles:
    """Writes transcripts, each complete or not at all.

    Args:
        directory: where they go.
        formats: keys of `auris.output.formats.WRITERS`.
        paths: for every recording the path of its files in there, without suffix.
        style: of cues.

    Raises:
        UsageError: two recordings have the same path.
    """

    def __init__(
        self,
        directory: Path,
        formats: Sequence[str],
        paths: Mapping[str, str],
        style: CueStyle | None = None,
    ) -> None:
        owners: dict[str, str] = {}
        for name, path in paths.items():
            if path in owners:
                raise UsageError(
                    "With --output-dir every recording has to have a name of its own",
                    f"{owners[path]!r} and {name!r} have the same",
                    "rename one, or transcribe them in separate runs",
                )
            owners[path] = name
        self._directory = directory
        self._formats = formats
        self._paths = paths
        self._style = style or CueStyle()

    def write(self, name: str, transcript: Transcript) -> None:
        """Write the files of one recording, in place of older ones."""
        for form in self._formats:
            # Not with_suffix: a path may itself contain a point.
            target = self._directory / f"{self._paths[name]}.{form}"
            content = WRITERS[form](transcript, name, self._style)
            try:
                with new_file(target) as file:
                    file.write(content.encode("utf-8", "backslashreplace"))
            except OSError as error:
                raise OutputError(
                    "--output-dir has to be a directory that can be written",
                    f"{str(target)!r} cannot be ({error.strerror or error})",
                    "name another, or make room; what is done stays",
                ) from error
