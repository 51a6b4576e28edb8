"""Results of a run on their way to where they go, and what is said beside them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from auris.cli.interrupt import INTERRUPTED
from auris.cli.output import Output, shown, titled
from auris.cli.progress import ProgressLine, clock
from auris.errors import OutputError

if TYPE_CHECKING:
    from auris.cli.interrupt import Interrupt
    from auris.cli.places import Place
    from auris.output.formats import SegmentFormatter
    from auris.recognition.scheduler import Failure, SegmentDone, Update
    from auris.types import Segment, Transcript

__all__ = ["Results", "remarks"]


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
        from auris.recognition.scheduler import SegmentDone

        waiting: dict[int, Transcript | Failure] = {}
        for update in updates:
            if isinstance(update, SegmentDone):
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
        from auris.recognition.scheduler import Failure

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
            if remark not in self._line.noted:
                self._line.note(f"{name}: {remark}")
        if result.silent:
            self.code = max(self.code, 1)

    def _write(self, result: Transcript, number: int, form: str) -> None:
        from auris.output.formats import WRITERS

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
        from auris.output.formats import SEGMENT_WRITERS

        self.forms = [form for form in output.formats if form in SEGMENT_WRITERS]
        self.begun = False
        self._output, self._line = output, line
        self._writers: dict[str, SegmentFormatter] = {
            form: SEGMENT_WRITERS[form](titled(output.sources[0]), output.style)
            for form in self.forms
        }
        self._places: dict[str, Place] = {}
        self._errors: dict[str, OutputError] = {}
        self._waiting: dict[int, Segment] = {}
        self._count = 0
        self._until = 0.0

    def take(self, update: SegmentDone) -> None:
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


def remarks(result: Transcript) -> Iterator[str]:
    """What a reader of the text alone would not see."""
    yield from result.warnings
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
