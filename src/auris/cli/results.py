"""Writes the results of a run as they come, with warnings and failures on standard error."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from auris.cli.interrupt import INTERRUPTED
from auris.cli.output import Destination, Output, display_name, source_name
from auris.cli.progress import ProgressLine, clock
from auris.errors import OutputError

if TYPE_CHECKING:
    from auris.cli.interrupt import Interrupt
    from auris.output.formats import SegmentFormatter
    from auris.recognition.scheduler import Failure, SegmentDone, Update
    from auris.types import Transcript


class ResultWriter:
    """Writes the results of a run.

    The segments of a single recording are written as they come, where the format allows it; other
    transcripts when the recording is done, in the order of the recordings.

    With `debug` the tracebacks of errors are shown.
    """

    def __init__(
        self, output: Output, line: ProgressLine, interrupt: Interrupt, debug: bool = False
    ) -> None:
        self._output = output
        self._line = line
        self._interrupt = interrupt
        self._debug = debug
        self._segments = SegmentOutput(output, line) if len(output.sources) == 1 else None
        self._written = 0
        self._code = 0

    def write(self, updates: Iterator[Update]) -> None:
        """Write all results, or those that come before the user ends the run."""
        from auris.recognition.scheduler import SegmentDone

        waiting: dict[int, Transcript | Failure] = {}
        for update in updates:
            if isinstance(update, SegmentDone):
                if self._segments is not None:
                    self._segments.write(update)
                continue
            waiting[update.recording] = update.result
            while self._written in waiting and not self._interrupt.is_set():
                self._finish(self._written, waiting.pop(self._written))
                self._written += 1

    def close(self) -> int:
        """Report what is unfinished after Ctrl-C; returns the exit code."""
        if not self._interrupt.is_set():
            return self._code
        files = len(self._output.sources)
        if self._written < files:
            written = f"{self._written} of {files} recordings are written"
            if self._segments is not None:
                written = self._segments.leave_partial()
            self._line.note(f"interrupted: {written}")
        return INTERRUPTED

    def _finish(self, number: int, result: Transcript | Failure) -> None:
        from auris.recognition.scheduler import Failure

        name = display_name(self._output.sources[number])
        if isinstance(result, Failure):
            if self._debug:
                traceback.print_exception(result.error)
            self._line.note(f"{name}: {result.error}")
            self._code = max(self._code, result.error.exit_code)
            if self._segments is not None and self._segments.begun:
                self._line.note(f"{name}: {self._segments.leave_partial()}")
            return
        if self._segments is not None:
            self._segments.end()
        for form in self._output.formats:
            try:
                self._write(result, number, form)
            except OutputError as error:
                self._code = 1
                self._line.note(f"{name}: {error.sentence}")
        for warning in _warnings(result):
            self._line.warn(name, warning)
        if result.silent:
            self._code = max(self._code, 1)

    def _write(self, result: Transcript, number: int, form: str) -> None:
        from auris.output.formats import WRITERS

        if self._segments is not None and form in self._segments.formatters:
            self._segments.commit(form)
            return
        source = self._output.sources[number]
        content = WRITERS[form](result, source_name(source), self._output.style)
        if self._output.stems is None and form == "txt" and len(self._output.sources) > 1:
            lines = content.removesuffix("\n").split("\n")
            content = "".join(f"{display_name(source)}: {line}\n" for line in lines)
        self._output.write(source, form, content, self._line)


class SegmentOutput:
    """Writes the formats of a single recording that can be written segment by segment.

    A format that cannot be written is reported when it is committed; the others are not affected.
    """

    def __init__(self, output: Output, line: ProgressLine) -> None:
        from auris.output.formats import SEGMENT_WRITERS

        (self._source,) = output.sources
        name = source_name(self._source)
        self.formatters: dict[str, SegmentFormatter] = {
            form: SEGMENT_WRITERS[form](name, output.style)
            for form in output.formats
            if form in SEGMENT_WRITERS
        }
        self.begun = False
        self._output, self._line = output, line
        self._destinations: dict[str, Destination] = {}
        self._errors: dict[str, OutputError] = {}
        self._count = 0
        self._until = 0.0

    def write(self, update: SegmentDone) -> None:
        """Write a segment. After an interruption, segments that follow a missing one are not
        written."""
        if update.index != self._count:
            return
        self._count += 1
        self._until = max(self._until, update.segment.end)
        for form, formatter in self.formatters.items():
            self._add(form, formatter.add(update.segment))

    def end(self) -> None:
        """Write what follows the last segment."""
        for form, formatter in self.formatters.items():
            self._add(form, formatter.end())

    def commit(self, form: str) -> None:
        """Give the file of a format its name; an error of an earlier write is raised here."""
        if form in self._errors:
            raise self._errors[form]
        self._destinations[form].commit()

    def leave_partial(self) -> str:
        """Leave the text of an incomplete recording where it is; returns a sentence about it."""
        if not self.begun:
            return "nothing is written"
        self.end()
        files = [destination.leave_partial() for destination in self._destinations.values()]
        names = ", ".join(file for file in files if file is not None)
        text = f"the text of the first {clock(self._until)} is written"
        return f"{text} to {names}" if names else text

    def _add(self, form: str, text: str) -> None:
        if form in self._errors:
            return
        try:
            if form not in self._destinations:
                self._destinations[form] = self._output.open(self._source, form, self._line)
            self._destinations[form].write(text)
            self.begun = True
        except OutputError as error:
            self._errors[form] = error
            self._destinations.pop(form, None)


def _warnings(result: Transcript) -> Iterator[str]:
    yield from result.warnings
    if result.silent:
        yield (
            "The recording is silent throughout: check the microphone, the channel and the span."
        )
    elif result.finish_reason == "length":
        yield "the text is cut at the token budget; raise --max-new-tokens"
    elif result.finish_reason == "loop":
        yield "the model repeated itself to the end; the repetitions are left out"
    elif not result.text:
        yield "no speech was found"
