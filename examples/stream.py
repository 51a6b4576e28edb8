#!/usr/bin/env python3
"""Hear a recording as if it were live: python examples/stream.py FILE

Text that can still change is shown behind "...", text that cannot behind its times.
"""

from __future__ import annotations

import sys

from auris import AsrPipeline, AurisError
from auris.audio.io import stream


def main(file: str) -> int:
    """Feed a stream block by block, as a microphone would."""
    pipeline = AsrPipeline.from_pretrained()
    try:
        with pipeline.stream() as session:
            for block in stream(file):
                for update in session.feed(block[0]):
                    show(update.final, update.segment.start, update.segment.text)
            for update in session.finish():
                show(update.final, update.segment.start, update.segment.text)
    except AurisError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def show(stable: bool, start: float, text: str) -> None:
    """Print one update."""
    print(f"{start:7.2f}  {text}" if stable else f"    ...  {text}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
