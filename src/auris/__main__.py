"""The program `auris`, also as `python -m auris`."""

from __future__ import annotations

import signal
import sys

from auris.cli.interrupt import INTERRUPTED, end_at_once, handle_interrupts


def main() -> None:
    """Run the command line; Ctrl-C is handled before the other modules load."""
    handle_interrupts()
    try:
        from auris.cli.main import main as run_commands

        run_commands()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, end_at_once)


if __name__ == "__main__":
    main()
