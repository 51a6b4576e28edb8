"""Plain modules: no input or output, no state between calls."""
