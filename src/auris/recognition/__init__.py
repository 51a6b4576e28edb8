"""From recordings to segments."""
