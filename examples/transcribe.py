#!/usr/bin/env python3
"""Print what was said in some recordings, with times: python examples/transcribe.py FILE..."""

from __future__ import annotations

import sys

from auris import AsrPipeline, AurisError


def main(files: list[str]) -> int:
    """Transcribe each file; a broken one does not stop the others."""
    pipeline = AsrPipeline.from_pretrained()
    failed = 0
    for file in files:
        try:
            for segment in pipeline.segments(file):
                print(f"{file} {segment.start:7.2f} {segment.end:7.2f}  {segment.text}")
        except AurisError as error:
            print(error, file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
