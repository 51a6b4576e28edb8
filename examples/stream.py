#!/usr/bin/env python3
"""Hear a recording as if it were live: python examples/stream.py FILE

Final text is shown behind its time; above it, behind "...", the settled words and in brackets the
text that may still change.
"""

from __future__ import annotations

import sys

from auris import AsrPipeline, AurisError
from auris.audio.io import stream
from auris.streaming.session import StreamUpdate


def main(file: str) -> int:
    """Feed a stream block by block, as a microphone would."""
    pipeline = AsrPipeline.from_pretrained()
    try:
        with pipeline.stream() as session:
            for block in stream(file):
                for update in session.feed(block[0]):
                    show(update)
            for update in session.finish():
                show(update)
    except AurisError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def show(update: StreamUpdate) -> None:
    """Print one update."""
    if update.final:
        print(f"{update.segment.start:7.2f}  {update.segment.text}")
    else:
        print(f"    ...  {update.settled}[{update.partial}]")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
