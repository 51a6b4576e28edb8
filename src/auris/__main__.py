"""`python -m auris`: the command line."""

from __future__ import annotations

from auris.cli.main import main

if __name__ == "__main__":
    main()
