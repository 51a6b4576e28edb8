#!/usr/bin/env python3
"""Write subtitles next to recordings: python examples/subtitles.py FILE..."""

from __future__ import annotations

import sys
from pathlib import Path

from auris import AsrPipeline, AurisError
from auris.output.formats import WRITERS
from auris.output.subtitles import CueStyle


def main(files: list[str]) -> int:
    """Write NAME.srt for each file, lines of up to 32 columns."""
    pipeline = AsrPipeline.from_pretrained()
    try:
        for file in files:
            transcript = pipeline.transcribe(file, clean=["numbers", "punctuation"])
            target = Path(file).with_suffix(".srt")
            target.write_text(
                WRITERS["srt"](transcript, file, CueStyle(max_line_width=32)), "utf-8"
            )
            print(target)
    except AurisError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
