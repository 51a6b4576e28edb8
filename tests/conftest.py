"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is slow, which says nothing about the code.
settings.register_profile("auris", deadline=None)
settings.load_profile("auris")
